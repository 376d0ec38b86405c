//! Writing qcow2 in one pass.
//!
//! The header comes first, then the first block of reference counts, their table, and the L1 table; then clusters
//! and L2 tables in the order of the disk. Every 2 GiB of the file begin with their own block of reference counts,
//! so that the writer remembers one such block and one L2 table only. If a part of the disk stands in the file already, it
//! is in front of the table of reference counts.

use super::format::{BLOCK_ENTRIES, CLUSTER, CLUSTER_BITS, COPIED, Compression, Header, L2_ENTRIES, compressed_entry};
use super::front::{FIRST, Placed};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, Output, Span, checked_size, scan};

/// Largest disk: what the bound of 32 MiB on the L1 table in QEMU allows.
const LIMIT: u64 = (32 << 20) / 8 * L2_ENTRIES * CLUSTER;

/// How an image is written. The default is not compressed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Compress clusters; those that would not become smaller stay as they are.
    pub compression: Option<Compression>,
}

/// Writes `disk` and returns the length of the file.
pub fn write(disk: &dyn DiskImage, output: Output<'_>, options: &Options) -> Result<u64> {
    write_around(disk, &[], output, options)
}

/// The same around clusters that are in the file already, placed by a [`Front`], in the order of the disk, which has zeros
/// there.
pub fn write_around(disk: &dyn DiskImage, placed: &[Placed], output: Output<'_>, options: &Options) -> Result<u64> {
    let size = checked_size(disk, "qcow2", LIMIT)?;
    let mut image = Image::new(output, size, placed)?;
    match options.compression {
        None => scan(disk, CLUSTER as usize, Ok, |span: Span| image.write_runs(&span))?,
        Some(compression) => scan(
            disk,
            CLUSTER as usize,
            |span| compress_span(&span, compression),
            |clusters| clusters.iter().try_for_each(|(offset, cluster)| image.write_cluster(*offset, cluster)),
        )?,
    }
    image.finish(options.compression.unwrap_or(Compression::Zlib(6)))
}

/// Clusters with their offsets in the disk; those of full length are not compressed.
fn compress_span(span: &Span, compression: Compression) -> Result<Vec<(u64, Vec<u8>)>> {
    let one = |(offset, cluster): (u64, &[u8])| {
        let small = compression.compress(cluster)?;
        Ok((offset, if small.len() < cluster.len() { small } else { cluster.to_vec() }))
    };
    span.blocks().map(one).collect()
}

/// The L2 tables in which clusters are that stand in the file already, the last one first. Clusters lie within the disk, one
/// behind the other.
fn placed_tables(placed: &[Placed], size: u64) -> Result<Vec<usize>> {
    let (mut tables, mut end) = (Vec::new(), 0);
    for run in placed {
        let whole = run.offset.is_multiple_of(CLUSTER) && run.place.is_multiple_of(CLUSTER) && run.size > 0;
        if !whole || run.offset < end || run.offset + run.size > size {
            return Err(Error::failed(format!("{run:?} is no place for clusters of a disk of {size} bytes")));
        }
        end = (run.offset + run.size).next_multiple_of(CLUSTER);
        let first = run.offset / CLUSTER / L2_ENTRIES;
        tables.extend((first..=(end / CLUSTER - 1) / L2_ENTRIES).map(|table| table as usize));
    }
    tables.dedup();
    tables.reverse();
    Ok(tables)
}

struct Image<'a> {
    output: Output<'a>,
    size: u64,
    placed: &'a [Placed],
    /// Indexes of L2 tables in which these are, the last one first.
    placed_tables: Vec<usize>,
    l1: Vec<u64>,
    l1_offset: u64,
    table_offset: u64,
    table_clusters: u64,
    /// Offsets of the blocks of reference counts.
    blocks: Vec<u64>,
    /// Reference counts of the 2 GiB that are being filled.
    counts: Vec<u16>,
    /// The L2 table that is being filled and its index in the L1 table.
    l2: Vec<u64>,
    l2_index: Option<usize>,
    /// First cluster that is not in use.
    next: u64,
    /// Where compressed bytes go on, if in the middle of a cluster.
    tail: Option<u64>,
}

impl<'a> Image<'a> {
    fn new(output: Output<'a>, size: u64, placed: &'a [Placed]) -> Result<Image<'a>> {
        let clusters = size.div_ceil(CLUSTER);
        let l1_entries = clusters.div_ceil(L2_ENTRIES);
        let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
        // All clusters with all metadata: room for the worst case, which costs one cluster up to disks of 16 TiB.
        let most = clusters + l1_entries + l1_clusters + 3;
        let table_clusters = (most.div_ceil(BLOCK_ENTRIES - 1) + 1).div_ceil(CLUSTER / 8);
        let mut image = Image {
            output,
            size,
            placed,
            placed_tables: placed_tables(placed, size)?,
            l1: vec![0; l1_entries as usize],
            l1_offset: 0,
            table_offset: 0,
            table_clusters,
            blocks: vec![CLUSTER],
            counts: vec![0; BLOCK_ENTRIES as usize],
            l2: vec![0; L2_ENTRIES as usize],
            l2_index: None,
            next: FIRST,
            tail: None,
        };
        image.counts[..FIRST as usize].fill(1);
        let end = placed.iter().map(|run| (run.place + run.size).div_ceil(CLUSTER)).max().unwrap_or(0);
        while image.next < end {
            image.allocate()?;
        }
        image.table_offset = image.allocate_together(table_clusters)?;
        image.l1_offset = image.allocate_together(l1_clusters)?;
        Ok(image)
    }

    /// Takes clusters side by side. Where a block of reference counts would stand among them, those in front of it stay free.
    fn allocate_together(&mut self, count: u64) -> Result<u64> {
        if self.next % BLOCK_ENTRIES + count > BLOCK_ENTRIES {
            self.next = self.next.next_multiple_of(BLOCK_ENTRIES);
        }
        let first = self.allocate()?;
        for _ in 1..count {
            self.allocate()?;
        }
        Ok(first)
    }

    /// Takes a cluster and counts one reference.
    fn allocate(&mut self) -> Result<u64> {
        if self.next.is_multiple_of(BLOCK_ENTRIES) {
            self.flush_counts()?;
            self.blocks.push(self.next * CLUSTER);
            self.counts.fill(0);
            self.counts[0] = 1;
            self.next += 1;
            // Its reference count lies in the block that was just written.
            self.tail = None;
        }
        let cluster = self.next;
        self.next += 1;
        self.counts[(cluster % BLOCK_ENTRIES) as usize] = 1;
        Ok(cluster * CLUSTER)
    }

    fn flush_counts(&mut self) -> Result<()> {
        let bytes: Vec<u8> = self.counts.iter().flat_map(|count| count.to_be_bytes()).collect();
        let at = *self.blocks.last().unwrap_or(&CLUSTER);
        self.output.write_at(&bytes, at)
    }

    fn flush_l2(&mut self) -> Result<()> {
        if let Some(index) = self.l2_index.take() {
            let bytes: Vec<u8> = self.l2.iter().flat_map(|entry| entry.to_be_bytes()).collect();
            self.output.write_at(&bytes, self.l1[index] & !COPIED)?;
            self.l2.fill(0);
        }
        Ok(())
    }

    /// Makes the table current that holds the entry of the cluster at `offset` of the disk; returns the entry's place.
    fn entry(&mut self, offset: u64) -> Result<usize> {
        let cluster = offset / CLUSTER;
        let index = (cluster / L2_ENTRIES) as usize;
        if self.l2_index != Some(index) {
            self.placed_tables_before(index)?;
            self.table(index)?;
        }
        let entry = (cluster % L2_ENTRIES) as usize;
        if self.l2[entry] != 0 {
            return Err(Error::failed(format!("the cluster at {offset} of a disk is in its image already")));
        }
        Ok(entry)
    }

    /// Begins an L2 table, with what stands in the file already.
    fn table(&mut self, index: usize) -> Result<()> {
        self.flush_l2()?;
        self.l1[index] = self.allocate()? | COPIED;
        self.l2_index = Some(index);
        self.placed_tables.pop_if(|last| *last == index);
        let first = index as u64 * L2_ENTRIES;
        let clusters = first..first + L2_ENTRIES;
        let begins = self.placed.partition_point(|run| (run.offset + run.size).div_ceil(CLUSTER) <= first);
        for run in self.placed[begins..].iter().take_while(|run| run.offset / CLUSTER < clusters.end) {
            let (start, end) = (run.offset / CLUSTER, (run.offset + run.size).div_ceil(CLUSTER));
            for cluster in start.max(clusters.start)..end.min(clusters.end) {
                self.l2[(cluster - first) as usize] = (run.place + (cluster - start) * CLUSTER) | COPIED;
            }
        }
        Ok(())
    }

    /// Makes the tables before one in which nothing is but what stands in the file already.
    fn placed_tables_before(&mut self, index: usize) -> Result<()> {
        while let Some(before) = self.placed_tables.last().copied().filter(|last| *last < index) {
            self.table(before)?;
        }
        Ok(())
    }

    /// Writes uncompressed clusters, those that end up side by side at once.
    fn write_runs(&mut self, span: &Span) -> Result<()> {
        for (offset, run) in span.runs() {
            let (mut from, mut to, mut place) = (0, 0, 0);
            for start in (0..run.len()).step_by(CLUSTER as usize) {
                let entry = self.entry(offset + start as u64)?;
                let cluster = self.allocate()?;
                self.l2[entry] = cluster | COPIED;
                if cluster != place + (to - from) as u64 {
                    self.output.write_at(&run[from..to], place)?;
                    (from, place) = (start, cluster);
                }
                to = start + CLUSTER as usize;
            }
            self.output.write_at(&run[from..to], place)?;
        }
        Ok(())
    }

    fn write_cluster(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let entry = self.entry(offset)?;
        if bytes.len() as u64 == CLUSTER {
            let cluster = self.allocate()?;
            self.l2[entry] = cluster | COPIED;
            return self.output.write_at(bytes, cluster);
        }
        let length = bytes.len() as u64;
        let place = match self.tail {
            Some(tail) if tail % CLUSTER + length <= CLUSTER => {
                self.count_again(tail)?;
                tail
            }
            // Over the end of the cluster into the next one, if that is free and its count is in the same block.
            Some(tail) if tail / CLUSTER + 1 == self.next && !self.next.is_multiple_of(BLOCK_ENTRIES) => {
                self.count_again(tail)?;
                self.allocate()?;
                tail
            }
            _ => self.allocate()?,
        };
        let end = place + length;
        self.tail = (!end.is_multiple_of(CLUSTER)).then_some(end);
        self.l2[entry] = compressed_entry(place, length);
        self.output.write_at(bytes, place)
    }

    /// Counts one more reference to the cluster around `place`.
    fn count_again(&mut self, place: u64) -> Result<()> {
        let count = &mut self.counts[(place / CLUSTER % BLOCK_ENTRIES) as usize];
        *count = count.checked_add(1).ok_or_else(|| Error::failed("more than 65,535 pieces in a qcow2 cluster"))?;
        Ok(())
    }

    fn finish(mut self, compression: Compression) -> Result<u64> {
        self.placed_tables_before(usize::MAX)?;
        self.flush_l2()?;
        self.flush_counts()?;
        if self.blocks.len() as u64 > self.table_clusters * CLUSTER / 8 {
            return Err(Error::failed("the table of reference counts of a qcow2 image is too small"));
        }
        let table: Vec<u8> = self.blocks.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        self.output.write_at(&table, self.table_offset)?;
        let l1: Vec<u8> = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.output.write_at(&l1, self.l1_offset)?;
        let header = Header {
            cluster_bits: CLUSTER_BITS,
            size: self.size,
            l1_entries: self.l1.len() as u32,
            l1_offset: self.l1_offset,
            refcount_offset: self.table_offset,
            refcount_clusters: self.table_clusters as u32,
            compression,
        };
        self.output.write_at(&header.encode(), 0)?;
        let length = self.next * CLUSTER;
        self.output.set_length(length)?;
        Ok(length)
    }
}
