//! ISO 9660 with Rock Ridge, Joliet and El Torito: CDs, and disks that hold the same image.
//!
//! Limits: no extended attributes; 65,535 folders; names of 255 bytes; images of 8 TiB. Files of any size: those of
//! 4 GiB and more are several extents (interchange level 3), which Linux, Windows and libarchive read and old BIOS
//! loaders need not. Folders lie as deep as they do in the tree: ECMA-119 allows eight levels, every reader in use
//! takes more, and the relocation that Rock Ridge has for it hides folders from those that know only Joliet or none.

mod directory;
mod el_torito;
mod format;
mod hybrid;
mod layout;
mod name;
mod reader;
mod rock_ridge;
mod writer;

pub use hybrid::Hybrid;
pub use reader::{Bootable, Kind, Listed, Volume};
pub use writer::{BootImage, Iso, Options};
