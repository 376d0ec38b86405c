//! `moby` assembles operating system images: a YAML blueprint names a kernel, an init and services as OCI images;
//! out come bootable, read-only images, byte for byte the same on every machine.
//!
//! The modules are the stages, in the order in which data flows:
//!
//! | module | takes | gives |
//! |---|---|---|
//! | [`blueprint`] | YAML text | `Blueprint` |
//! | [`lock`] | `Blueprint` | `Locked`: every reference a digest |
//! | [`store`] | references | blobs and inflated layers on disk |
//! | [`rootfs`] | layers | `Tree`, the root file system |
//! | [`formats`] | trees or bytes | bytes in one on-disk format |
//! | [`outputs`] | `Tree` | named files: `kernel+initrd`, `tar`, ... |
//!
//! Beside them: [`component`] builds components into the store, [`deb`] reads Debian archives, [`run`] starts QEMU,
//! [`secure_boot`] signs and measures, [`report`] tells how a build went, [`inspect`] looks into images that were built, [`update`] changes disks with two slots, [`net`] is HTTP with retries,
//! [`ui`] shows progress, [`commands`] has one file per verb.

pub mod arch;
pub mod blueprint;
pub mod commands;
pub mod component;
pub mod deb;
pub mod error;
pub mod formats;
pub mod inspect;
pub mod lock;
pub mod net;
pub mod outputs;
pub mod report;
pub mod rootfs;
pub mod run;
pub mod secure_boot;
pub mod store;
pub mod ui;
pub mod update;

pub use arch::Arch;
pub use error::{Error, Result};
