//! GUID partition tables (UEFI 2.10, 5.3): writing a disk, and reading one that may be anything.
//!
//! Limits: 128 partitions, sectors of 512 or 4096 bytes, names of 36 UTF-16 units. Linux rounds nothing: what is
//! written here is what `sgdisk -v` and firmware read. gptman does the same; owning 400 lines was preferred because
//! the protective and hybrid records, the derived GUIDs and ISO images need the parts that it hides.

mod format;
mod guid;
mod reader;
mod table;
mod writer;

pub use format::{Entry, Header, NAME_LENGTH};
pub use guid::*;
pub use reader::{Found, dump, only, read};
pub use table::{SectorSize, Table};
pub use writer::*;
