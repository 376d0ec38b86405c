//! Authenticode: signatures of EFI executables for Secure Boot.
//!
//! Limits: one signature, SHA-256, keys of RSA and P-256, executables without gaps between their sections. Signing
//! with a key elsewhere takes three steps with equal bytes at the end: [`to_be_signed`] there, a signature back,
//! [`message`] and [`Unsigned::attach`] here.

mod certificate;
mod der;
mod image;
mod key;
mod message;
mod pem;
mod reader;

pub use certificate::{Certificate, SelfSigned};
pub use image::{Reserved, Signed, Unsigned};
pub use key::{Algorithm, Key};
pub use message::{detached, detached_file, message, message_size, sign, to_be_signed};
pub use pem::pem;
pub use reader::{Claim, Found, Identity, Signature, claims, read};
