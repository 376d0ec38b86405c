//! Secure Boot: keys, signatures of EFI programs, and what a TPM will measure of them.
//!
//! | file | what |
//! |---|---|
//! | `folder` | a folder with keys and certificates: PK, KEK, db |
//! | `generate` | makes one |
//! | `signing` | how a program gets its signature: a key, a command, another day |
//! | `requests` | what is to be signed elsewhere, as files |
//! | `programs` | the EFI programs inside an image |
//! | `attach` | signatures into an image that is there |
//! | `enrol` | variables of a firmware that knows the keys |
//! | `banks` | registers of a TPM |
//! | `measure` | PCR 4, 7, 11 and 12 |

pub mod attach;
pub mod banks;
pub mod enrol;
pub mod folder;
pub mod generate;
pub mod measure;
pub mod programs;
pub mod requests;
pub mod signing;
