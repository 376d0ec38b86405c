//! On-disk formats: bytes in the shape that a kernel, a loader or another tool expects.
//!
//! One folder per format. Nothing here knows of blueprints or outputs; a writer takes names, metadata and readers,
//! streams, and reads no clock. The same input gives the same bytes on any machine with any number of threads.

mod ahead;
pub mod authenticode;
pub mod calendar;
pub mod compress;
pub mod cpio;
pub mod disk;
pub mod efi_variables;
pub mod erofs;
pub mod fat;
pub mod gcp;
pub mod gpt;
pub mod iso9660;
pub mod kernel;
pub mod mbr;
pub mod oci;
pub mod ova;
pub mod pe;
pub mod pieces;
pub(crate) mod pipeline;
pub mod qcow2;
pub mod source;
pub mod squashfs;
pub mod syslinux;
pub mod tar;
pub mod uki;
pub mod verity;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;
