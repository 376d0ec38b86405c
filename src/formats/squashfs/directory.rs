//! The listing of a folder, with an index where it is long.
//!
//! A listing is a run of headers, each with up to 256 names below it whose inodes lie in one metadata block and whose
//! numbers differ by less than 32 Ki. An index entry for every 8 KiB lets the kernel start its search close by.

use std::io;

use super::format::{ENTRIES_PER_HEADER, LISTING_EXTRA, METADATA_SIZE, Reference};
use super::metadata::MetadataTable;

/// A name in a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    pub(super) name: &'a [u8],
    /// Where its inode is.
    pub(super) inode: Reference,
    /// The number of its inode.
    pub(super) number: u32,
    /// The basic type of its inode.
    pub(super) kind: u16,
}

/// A listing that was written.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) start: Reference,
    /// Bytes, with [`LISTING_EXTRA`].
    pub(super) size: u32,
    /// Entries of the index, as they stand behind an extended inode.
    pub(super) index: Vec<u8>,
    /// How many entries the index has.
    pub(super) index_count: u16,
}

/// Writes the listing of names that are sorted by their bytes.
pub(super) fn write(table: &mut MetadataTable, names: &[Name<'_>]) -> io::Result<Listing> {
    let too_large = || io::Error::other("a folder's listing is larger than 4 GiB");
    let start = table.position();
    let (mut index, mut index_count) = (Vec::new(), 0u16);
    let mut size = 0usize;
    let mut indexed = 0;
    let mut rest = names;
    while let [first, ..] = rest {
        if size - indexed >= METADATA_SIZE - MARGIN && index_count < u16::MAX {
            indexed = size;
            index_count += 1;
            let block = u32::try_from(table.position().block).map_err(|_| too_large())?;
            for field in [size as u32, block, first.name.len() as u32 - 1] {
                index.extend(field.to_le_bytes());
            }
            index.extend_from_slice(first.name);
        }
        let count = below_one_header(rest, size - indexed);
        let (now, later) = rest.split_at(count);
        rest = later;
        let block =
            u32::try_from(first.inode.block).map_err(|_| io::Error::other("the inodes need more than 4 GiB"))?;
        for field in [count as u32 - 1, block, first.number] {
            table.write(&field.to_le_bytes())?;
        }
        size += HEADER;
        for name in now {
            let difference = name.number.wrapping_sub(first.number) as u16;
            for field in [name.inode.offset, difference, name.kind, name.name.len() as u16 - 1] {
                table.write(&field.to_le_bytes())?;
            }
            table.write(name.name)?;
            size += ENTRY + name.name.len();
        }
        if size > (u32::MAX - LISTING_EXTRA) as usize {
            return Err(too_large());
        }
    }
    Ok(Listing { start, size: size as u32 + LISTING_EXTRA, index, index_count })
}

/// Bytes of a header: count, block of the inodes, first number.
const HEADER: usize = 12;
/// Bytes of an entry before its name.
const ENTRY: usize = 8;
/// A header with the longest name. With less room than this before 8 KiB are full, the next header gets an entry in
/// the index.
const MARGIN: usize = HEADER + ENTRY + 256;

/// How many names fit below one header that starts `used` bytes behind the last one in the index.
fn below_one_header(names: &[Name<'_>], used: usize) -> usize {
    let Some(first) = names.first() else { return 0 };
    let mut used = used + HEADER;
    let fits = |name: &Name<'_>| {
        used += ENTRY + name.name.len();
        let difference = i64::from(name.number) - i64::from(first.number);
        name.inode.block == first.inode.block && i16::try_from(difference).is_ok() && used <= METADATA_SIZE
    };
    names
        .iter()
        .take(ENTRIES_PER_HEADER)
        .take_while({
            let mut fits = fits;
            move |name| fits(name)
        })
        .count()
        .max(1)
}
