//! Reading qcow2.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::format::{COMPRESSED, Header, OFFSET, ZERO, compressed_place};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, be64, check_range, pieces, read_part};

/// Largest L1 table, as in QEMU: 2 EiB in clusters of 64 KiB.
const L1_LIMIT: u32 = (32 << 20) / 8;
/// Entries of an L2 table that are read at once while looking for data.
const ENTRIES: u64 = 512;

/// A qcow2 image as a disk. Tables are read when they are needed; memory is the L1 table and one cluster.
#[derive(Debug)]
pub struct Reader<S> {
    container: S,
    header: Header,
    l1: Vec<u64>,
    /// The compressed cluster that was read last, by its entry.
    last: Mutex<Option<(u64, Vec<u8>)>>,
}

/// Where a cluster is.
enum Place {
    Zeros,
    At(u64),
    Compressed(u64),
}

impl<S: DiskImage> Reader<S> {
    /// Reads the header and the L1 table.
    pub fn open(container: S) -> Result<Reader<S>> {
        let mut bytes = [0; 112];
        let start = read_part(&container, 0, container.size().min(112) as usize, "the header")?;
        bytes[..start.len()].copy_from_slice(&start);
        let header = Header::decode(&bytes)?;
        if header.l1_entries > L1_LIMIT {
            return Err(Error::refused(format!("the L1 table has {} entries, over {L1_LIMIT}", header.l1_entries)));
        }
        let l1 = read_part(&container, header.l1_offset, header.l1_entries as usize * 8, "the L1 table")?;
        let l1 = l1.chunks_exact(8).map(|entry| be64(entry, 0) & OFFSET).collect();
        Ok(Reader { container, header, l1, last: Mutex::new(None) })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn cluster_size(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    /// Entries of the L2 tables from cluster `index` on: at most [`ENTRIES`] from one table, at least one. `None`
    /// stands for a table that is not there; the number is how many clusters that tells of.
    fn entries(&self, index: u64, most: u64) -> Result<(u64, Option<Vec<u64>>)> {
        let per_table = self.cluster_size() / 8;
        let within = index % per_table;
        let table = usize::try_from(index / per_table).ok().and_then(|i| self.l1.get(i)).copied().unwrap_or(0);
        if table == 0 {
            return Ok((per_table - within, None));
        }
        let count = most.min(per_table - within);
        let at = table.saturating_add(within * 8);
        let bytes = read_part(&self.container, at, count as usize * 8, "an L2 table")?;
        Ok((count, Some(bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect())))
    }

    fn place(entry: u64) -> Place {
        match entry {
            entry if entry & COMPRESSED != 0 => Place::Compressed(entry & !(3 << 62)),
            entry if entry & ZERO != 0 || entry & OFFSET == 0 => Place::Zeros,
            entry => Place::At(entry & OFFSET),
        }
    }

    fn read_compressed(&self, entry: u64, within: u64, buffer: &mut [u8]) -> Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let start = within as usize;
        if let Some((of, cluster)) = &*last
            && *of == entry
        {
            buffer.copy_from_slice(&cluster[start..start + buffer.len()]);
            return Ok(());
        }
        let (offset, length) = compressed_place(entry, self.header.cluster_bits);
        // The last sector may be cut off at the end of the file.
        let length = length.min(self.container.size().saturating_sub(offset));
        let bytes = read_part(&self.container, offset, length as usize, "a compressed cluster")?;
        let mut cluster = vec![0; self.cluster_size() as usize];
        self.header.compression.decompress(&bytes, &mut cluster)?;
        buffer.copy_from_slice(&cluster[start..start + buffer.len()]);
        *last = Some((entry, cluster));
        Ok(())
    }
}

impl<S: DiskImage> DiskImage for Reader<S> {
    fn size(&self) -> u64 {
        self.header.size
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let size = self.size();
        let cluster = self.cluster_size();
        let end = size.div_ceil(cluster);
        let mut index = offset / cluster;
        while index < end {
            let (count, entries) = self.entries(index, ENTRIES)?;
            if let Some(entries) = entries {
                let is_data = |entry: &u64| !matches!(Self::place(*entry), Place::Zeros);
                if let Some(first) = entries.iter().position(is_data) {
                    let run = entries[first..].iter().take_while(|entry| is_data(entry)).count() as u64;
                    let first = index + first as u64;
                    let range = (first * cluster).max(offset)..((first + run) * cluster).min(size);
                    return Ok((range.start < range.end).then_some(range));
                }
            }
            index += count;
        }
        Ok(None)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        for (index, within, range) in pieces(offset, buffer.len(), self.cluster_size()) {
            let (_, entries) = self.entries(index, 1)?;
            let entry = entries.and_then(|entries| entries.first().copied()).unwrap_or(0);
            let part = &mut buffer[range];
            match Self::place(entry) {
                Place::Zeros => part.fill(0),
                Place::Compressed(entry) => self.read_compressed(entry, within, part)?,
                Place::At(at) => {
                    let at = at + within;
                    // QEMU leaves the last cluster short where the disk ends.
                    let there = self.container.size().saturating_sub(at).min(part.len() as u64) as usize;
                    self.container.read_at(&mut part[..there], at)?;
                    part[there..].fill(0);
                }
            }
        }
        Ok(())
    }
}
