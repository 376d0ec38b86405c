//! The compact index of a compressed file: for each logical cluster (4096 bytes of the file) whether a physical
//! cluster (one block) starts in it, and where.
//!
//! Behind the inode, at a multiple of 8, stands a header, then packs of entries: of 16 entries in 32 bytes as far as
//! they start at multiples of 32, else of 2 entries in 8 bytes. An entry has 12 bits of offset or distance and 2 bits of
//! type; a pack ends with the block in front of the first one that starts in it.

use super::format::{BLOCK, u16_at, u32_at};

/// Bytes of the header.
const HEADER: usize = 8;
/// A physical cluster starts: not compressed, compressed.
const PLAIN: u32 = 0;
const HEAD: u32 = 1;
/// None starts.
const NONE: u32 = 2;
/// Bits of an offset.
const OFFSET_BITS: u32 = 12;
/// The highest bit of a distance means something else.
const DISTANCE_LIMIT: u64 = (1 << 11) - 1;
/// Header: packs of 16 are used; the last physical cluster stands behind the index.
const PACKS_OF_16: u16 = 1;
const INLINE_TAIL: u16 = 8;

/// A part of a file that is one physical cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of the file.
    pub length: u32,
    /// Not compressed.
    pub plain: bool,
}

/// The number of entries in packs of 2 before and in packs of 16; all others are in packs of 2 again.
fn packs(first: u64, count: u64) -> (u64, u64) {
    let before = (32 - first % 32) % 32 / 4;
    if before > count { (0, 0) } else { (before, (count - before) / 16 * 16) }
}

/// Where the first entry stands, from the start of the inode; `fixed` are the bytes of the inode with its extended
/// attributes.
fn first_entry(fixed: u64) -> u64 {
    fixed.next_multiple_of(8) + HEADER as u64
}

/// Bytes of the inode with its index, for a file of `size` bytes.
pub(super) fn end(fixed: u64, size: u64) -> u64 {
    let first = first_entry(fixed);
    let count = size.div_ceil(BLOCK);
    let (before, wide) = packs(first, count);
    first + before * 4 + wide * 2 + (count - before - wide).next_multiple_of(2) * 4
}

/// Whether a last cluster of `tail` bytes can stand behind the index: it must not cross a block. An inode larger than a
/// block starts at a block's start.
pub(super) fn tail_fits(fixed: u64, size: u64, tail: u64) -> bool {
    let end = end(fixed, size);
    end + tail <= BLOCK || end % BLOCK + tail <= BLOCK
}

/// The type of each logical cluster's entry with its offset, or with its distances to the cluster in which the physical
/// one starts, and to the next such cluster. One after the other: all those of a file of 4 GiB would take 24 MiB.
fn entries(size: u64, extents: &[Extent]) -> impl Iterator<Item = (u32, u64, u64)> {
    let mut end = 0;
    let starts = extents.iter().flat_map(move |extent| {
        let at = end;
        end += u64::from(extent.length);
        let (first, next) = (at / BLOCK, end / BLOCK);
        let start = (if extent.plain { PLAIN } else { HEAD }, at % BLOCK, 0);
        std::iter::once(start).chain((first + 1..next).map(move |cluster| (NONE, cluster - first, next - cluster)))
    });
    // The end of the file is marked as if something started there, unless its cluster has its start already.
    starts.chain(std::iter::once((PLAIN, size % BLOCK, 0))).take(size.div_ceil(BLOCK) as usize)
}

/// What stands between the inode with its extended attributes and the tail.
pub(super) fn encode(fixed: u64, size: u64, extents: &[Extent], first_block: u32, tail: usize) -> Vec<u8> {
    let first = first_entry(fixed);
    let mut out = vec![0; (first - fixed) as usize];
    let advise = if tail > 0 { PACKS_OF_16 | INLINE_TAIL } else { PACKS_OF_16 };
    let header = out.len() - HEADER;
    // Physical clusters have one block, or less behind the index.
    out[header + 2..header + 4].copy_from_slice(&(tail as u16).to_le_bytes());
    out[header + 4..header + 6].copy_from_slice(&advise.to_le_bytes());

    let count = size.div_ceil(BLOCK);
    let (before, wide) = packs(first, count);
    out.reserve_exact((end(fixed, size) - first) as usize);
    let mut entries = entries(size, extents);
    // The block that the last start before a pack has.
    let mut block = first_block.wrapping_sub(1);
    let mut put = |count: u64, per_pack: usize| {
        let bits = if per_pack == 2 { 16 } else { 14 };
        let mut left = count as usize;
        while left > 0 {
            let these = left.min(per_pack);
            left -= these;
            let start = block;
            let mut packed = [0u8; 32];
            for (at, (kind, offset, to_next)) in entries.by_ref().take(these).enumerate() {
                let value = match kind {
                    // The last entry of a pack says how far it is to the next start.
                    NONE if at + 1 == per_pack => to_next.min(DISTANCE_LIMIT),
                    NONE => offset.min(DISTANCE_LIMIT),
                    _ => {
                        block = block.wrapping_add(1);
                        offset
                    }
                };
                let value = (value as u32 | kind << OFFSET_BITS) << (at * bits % 8);
                for (byte, part) in packed[at * bits / 8..].iter_mut().zip(value.to_le_bytes()) {
                    *byte |= part;
                }
            }
            let length = if per_pack == 2 { 8 } else { 32 };
            packed[length - 4..length].copy_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&packed[..length]);
        }
    };
    put(before, 2);
    put(wide, 16);
    put(count - before - wide, 2);
    out
}

/// Where the packs of an index lie, from the start of the inode: offset, entries of a whole pack, entries in use.
fn places(fixed: u64, size: u64) -> impl Iterator<Item = (u64, usize, u64)> {
    let mut at = first_entry(fixed);
    let mut left = size.div_ceil(BLOCK);
    let (mut before, mut wide) = packs(at, left);
    std::iter::from_fn(move || {
        let per_pack = if before == 0 && wide > 0 { 16 } else { 2 };
        let used = left.min(per_pack);
        let start = at;
        at += if per_pack == 16 { 32 } else { 8 };
        left -= used;
        before = before.saturating_sub(used);
        wide -= if per_pack == 16 { 16 } else { 0 };
        (used > 0).then_some((start, per_pack as usize, used))
    })
}

/// A physical cluster as the index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Where in the file it starts.
    pub at: u64,
    /// Its block.
    pub block: u32,
    /// Not compressed.
    pub plain: bool,
}

/// Reads the header of an index: bytes of the tail behind it, 0 for none. `Err` says what is not known here.
pub(super) fn decode_header(header: &[u8; HEADER]) -> Result<usize, String> {
    let advise = u16_at(header, 4);
    if advise & !(PACKS_OF_16 | INLINE_TAIL) != 0 || advise & PACKS_OF_16 == 0 {
        return Err(format!("a compressed file with the traits {advise:#x}, which are not read here"));
    }
    if header[6..] != [0, 0] {
        return Err("a compressed file with another algorithm or cluster size than is read here".into());
    }
    Ok(if advise & INLINE_TAIL != 0 { usize::from(u16_at(header, 2)) } else { 0 })
}

/// Where the header of an index is, from the start of the inode.
pub(super) fn header_at(fixed: u64) -> u64 {
    fixed.next_multiple_of(8)
}

/// The physical clusters of a file in their order, and at last its end; `read` gives bytes from an offset from the
/// start of the inode. `Err` says what is wrong.
pub(super) fn decode<E: From<String>>(
    fixed: u64,
    size: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    mut each: impl FnMut(Start) -> Result<(), E>,
) -> Result<(), E> {
    let mut cluster = 0;
    for (offset, per_pack, used) in places(fixed, size) {
        let mut packed = [0; 32];
        let packed = &mut packed[..if per_pack == 2 { 8 } else { 32 }];
        read(offset, packed)?;
        let mut block = u32_at(packed, packed.len() - 4);
        let bits = if per_pack == 2 { 16 } else { 14 };
        for at in 0..used as usize {
            let value = u32_at(packed, at * bits / 8) >> (at * bits % 8);
            let offset = u64::from(value & ((1 << OFFSET_BITS) - 1));
            match value >> OFFSET_BITS & 3 {
                NONE => {}
                kind @ (PLAIN | HEAD) => {
                    block = block.wrapping_add(1);
                    each(Start { at: cluster * BLOCK + offset, block, plain: kind == PLAIN })?;
                }
                _ => return Err(format!("a cluster of an unknown type in cluster {cluster}").into()),
            }
            cluster += 1;
        }
    }
    each(Start { at: size, block: 0, plain: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_agree() {
        for fixed in (32..200).step_by(4) {
            for clusters in [1, 2, 3, 7, 8, 9, 15, 16, 17, 40, 100] {
                let size = clusters * BLOCK - 5;
                let extents = vec![Extent { length: size as u32, plain: false }];
                assert_eq!(
                    fixed + encode(fixed, size, &extents, 9, 7).len() as u64,
                    end(fixed, size),
                    "{fixed} {size}"
                );
            }
        }
    }

    #[test]
    fn an_index_reads_back() {
        for fixed in [32, 36, 40, 56, 64, 100] {
            let lengths = (0..150u32).map(|n| 4096 + n * 977 % 30_000).chain([7777]);
            let extents: Vec<_> = lengths.map(|length| Extent { length, plain: length % 3 == 0 }).collect();
            let size = extents.iter().map(|extent| u64::from(extent.length)).sum();
            let index = encode(fixed, size, &extents, 1000, 55);
            let header = header_at(fixed) - fixed;
            assert_eq!(decode_header(index[header as usize..][..8].try_into().unwrap()), Ok(55));
            let mut starts = Vec::new();
            let read = |at: u64, out: &mut [u8]| {
                out.copy_from_slice(&index[(at - fixed) as usize..][..out.len()]);
                Ok::<(), String>(())
            };
            decode(fixed, size, read, |start| {
                starts.push(start);
                Ok(())
            })
            .unwrap();
            let mut at = 0;
            for (number, (extent, start)) in extents.iter().zip(&starts).enumerate() {
                assert_eq!(*start, Start { at, block: 1000 + number as u32, plain: extent.plain });
                at += u64::from(extent.length);
            }
            assert!(starts[extents.len()..].iter().all(|start| start.at == size));
        }
    }

    #[test]
    fn a_small_file() {
        // 10,000 bytes: one compressed cluster of 6000, and the rest plain.
        let extents = [Extent { length: 6000, plain: false }, Extent { length: 4000, plain: true }];
        assert_eq!(entries(10_000, &extents).collect::<Vec<_>>(), [(HEAD, 0, 0), (PLAIN, 1904, 0), (PLAIN, 1808, 0)]);
        let index = encode(32, 10_000, &extents, 77, 0);
        assert_eq!(index[..8], [0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(index[8..16], [0x00, 0x10, 0x70, 0x07, 76, 0, 0, 0]);
        assert_eq!(index[16..], [0x10, 0x07, 0, 0, 78, 0, 0, 0]);
    }
}
