//! cpio in the "new ASCII" form (`newc`, magic 070701), what Linux unpacks as an initramfs.
//!
//! Limits of the format: a file below 4 GiB, no extended attributes, times from 1970 to 2106, 32-bit owners. The
//! layout is the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

mod format;
mod reader;
mod segments;
mod writer;

pub use format::{FILE_LIMIT, FileType, Header, refusal};
pub use reader::{Member, Reader, dump};
pub use segments::{Method, Segment, Summary, walk};
pub use writer::Writer;
