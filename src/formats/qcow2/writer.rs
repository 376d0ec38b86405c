//! Writing qcow2 in one pass.
//!
//! The header comes first, then the first block of reference counts, their table, and the L1 table; then clusters
//! and L2 tables in the order of the disk. Every 2 GiB of the file begin with their own block of reference counts,
//! so that the writer remembers one such block and one L2 table only.

use super::format::{BLOCK_ENTRIES, CLUSTER, CLUSTER_BITS, COPIED, Compression, Header, L2_ENTRIES, compressed_entry};
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
    let size = checked_size(disk, "qcow2", LIMIT)?;
    let mut image = Image::new(output, size);
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

struct Image<'a> {
    output: Output<'a>,
    size: u64,
    l1: Vec<u64>,
    l1_offset: u64,
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
    fn new(output: Output<'a>, size: u64) -> Image<'a> {
        let clusters = size.div_ceil(CLUSTER);
        let l1_entries = clusters.div_ceil(L2_ENTRIES);
        let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
        // All clusters with all metadata: room for the worst case, which costs one cluster up to disks of 16 TiB.
        let most = clusters + l1_entries + l1_clusters + 3;
        let table_clusters = (most.div_ceil(BLOCK_ENTRIES - 1) + 1).div_ceil(CLUSTER / 8);
        let mut image = Image {
            output,
            size,
            l1: vec![0; l1_entries as usize],
            l1_offset: (2 + table_clusters) * CLUSTER,
            table_clusters,
            blocks: vec![CLUSTER],
            counts: vec![0; BLOCK_ENTRIES as usize],
            l2: vec![0; L2_ENTRIES as usize],
            l2_index: None,
            next: 2 + table_clusters + l1_clusters,
            tail: None,
        };
        let used = image.next as usize;
        image.counts[..used].fill(1);
        image
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
            self.flush_l2()?;
            self.l1[index] = self.allocate()? | COPIED;
            self.l2_index = Some(index);
        }
        Ok((cluster % L2_ENTRIES) as usize)
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
        self.flush_l2()?;
        self.flush_counts()?;
        let table: Vec<u8> = self.blocks.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        self.output.write_at(&table, 2 * CLUSTER)?;
        let l1: Vec<u8> = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.output.write_at(&l1, self.l1_offset)?;
        let header = Header {
            cluster_bits: CLUSTER_BITS,
            size: self.size,
            l1_entries: self.l1.len() as u32,
            l1_offset: self.l1_offset,
            refcount_offset: 2 * CLUSTER,
            refcount_clusters: self.table_clusters as u32,
            compression,
        };
        self.output.write_at(&header.encode(), 0)?;
        let length = self.next * CLUSTER;
        self.output.set_length(length)?;
        Ok(length)
    }
}
