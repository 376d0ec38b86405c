//! FAT32 (Microsoft's specification, 1.03), as much as updates take: reading folders and files, and adding, renaming and
//! deleting files in an order that survives a power failure. The kernel's driver promises no order, and a mount is
//! nothing that the host can have without being root.
//!
//! Not supported: FAT12, FAT16, sectors of another size than 512 bytes, names outside of ASCII, dates.

use std::collections::BTreeSet;

use super::bytes::{put, slice, u16_at, u32_at};
use super::device::{Device, SECTOR, bytes_at};
use super::failure::{Doing, Failure, Result};
use super::folder::{File, SLOT};

/// Bytes of the table of clusters in memory: 4,000,000 clusters.
const MOST_TABLE: u64 = 16 << 20;
/// An entry of the table at or above this ends a chain.
const END: u32 = 0x0fff_fff8;
const MASK: u32 = 0x0fff_ffff;
/// Bytes of a folder: 65,536 entries.
const MOST_FOLDER: u64 = 65_536 * SLOT;
/// Files and folders that are looked at for finding clusters that nothing uses.
const MOST_FILES: usize = 10_000;
/// Bytes that are copied at once.
const COPY: usize = 1 << 20;

/// Fills a buffer with the bytes of a file from an offset on.
pub type Reader<'r> = &'r dyn Fn(u64, &mut [u8]) -> Result<()>;

/// A volume on a part of a disk.
#[derive(Debug)]
pub struct Volume<'d> {
    pub(super) device: &'d dyn Device,
    start: u64,
    cluster: u64,
    tables: Vec<u64>,
    table: Vec<u32>,
    changed: BTreeSet<u64>,
    data: u64,
    /// First cluster of the top folder.
    pub root: u32,
    information: u64,
}

impl<'d> Volume<'d> {
    /// Opens the volume that starts at a byte of the disk and has `size` bytes.
    pub fn open(device: &'d dyn Device, start: u64, size: u64) -> Result<Volume<'d>> {
        let wrong =
            |what: &str| Failure::refused(format!("the EFI system partition is no FAT32 that can be used: {what}"));
        let head = bytes_at(device, start, SECTOR as usize).doing("reading the EFI system partition")?;
        let byte = |at: usize| u64::from(head.get(at).copied().unwrap_or_default());
        let short = |at| u64::from(u16_at(&head, at).unwrap_or_default());
        let word = |at| u64::from(u32_at(&head, at).unwrap_or_default());
        let (per_cluster, reserved, copies, table_sectors) = (byte(13), short(14), byte(16), word(36));
        if short(510) != 0xaa55 || short(11) != SECTOR || !per_cluster.is_power_of_two() || reserved == 0 {
            return Err(wrong("its first sector"));
        }
        if short(22) != 0 || short(17) != 0 || !(1..=2).contains(&copies) || table_sectors == 0 {
            return Err(wrong("FAT12 or FAT16"));
        }
        let sectors = word(32);
        let before = reserved + copies * table_sectors;
        if sectors.saturating_mul(SECTOR) > size || before >= sectors {
            return Err(wrong("larger than its partition"));
        }
        if table_sectors * SECTOR > MOST_TABLE {
            return Err(wrong("more clusters than are supported"));
        }
        let clusters = (sectors - before) / per_cluster;
        if table_sectors * SECTOR / 4 < clusters + 2 {
            return Err(wrong("its table is too small"));
        }
        let tables: Vec<u64> = (0..copies).map(|copy| start + (reserved + copy * table_sectors) * SECTOR).collect();
        let first = start + reserved * SECTOR;
        let bytes = bytes_at(device, first, (clusters as usize + 2) * 4).doing("reading the table of clusters")?;
        let table = bytes.chunks(4).filter_map(|entry| u32_at(entry, 0)).collect();
        let cluster = per_cluster * SECTOR;
        let data = start + before * SECTOR;
        let information = match short(48) {
            0 | 0xffff => 0,
            sector => start + sector * SECTOR,
        };
        Ok(Volume {
            device,
            start,
            cluster,
            tables,
            table,
            changed: BTreeSet::new(),
            data,
            root: word(44) as u32,
            information,
        })
    }

    /// The clusters of a file or folder, in order. A chain that leads nowhere or in a circle is damage.
    pub fn chain(&self, first: u32) -> Result<Vec<u32>> {
        let mut chain = Vec::new();
        let mut at = first;
        while at != 0 && at < END {
            if at < 2 || chain.len() >= self.table.len() {
                return Err(Failure::refused("the EFI system partition has a damaged chain of clusters"));
            }
            chain.push(at);
            let next = self.table.get(at as usize).map(|next| next & MASK);
            at = next.ok_or_else(|| Failure::refused("the EFI system partition has a cluster beyond its end"))?;
            if at == 0 {
                return Err(Failure::refused("the EFI system partition has a chain of clusters without an end"));
            }
        }
        Ok(chain)
    }

    /// The clusters of a folder, which is not larger than the specification allows.
    pub(super) fn folder_chain(&self, first: u32) -> Result<Vec<u32>> {
        let chain = self.chain(first)?;
        match chain.len() as u64 * self.cluster <= MOST_FOLDER {
            true => Ok(chain),
            false => Err(Failure::refused(format!(
                "the EFI system partition has a folder of more than {} entries",
                MOST_FOLDER / SLOT
            ))),
        }
    }

    /// The byte of the disk where a cluster starts.
    pub(super) fn place(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster.saturating_sub(2)) * self.cluster
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        self.cluster
    }

    /// Clusters that are free.
    pub fn free(&self) -> u64 {
        self.table.iter().skip(2).filter(|next| **next & MASK == 0).count() as u64
    }

    /// Reads from a file.
    pub fn read(&self, file: &File, at: u64, bytes: &mut [u8]) -> Result<()> {
        let end = at.saturating_add(bytes.len() as u64);
        if end > u64::from(file.size) {
            return Err(Failure::refused(format!("{} ends before byte {end}", file.name)));
        }
        let chain = self.chain(file.cluster)?;
        let mut done = 0;
        while done < bytes.len() {
            let offset = at + done as u64;
            let cluster = chain.get((offset / self.cluster) as usize);
            let &cluster = cluster.ok_or_else(|| Failure::refused(format!("{} has lost its end", file.name)))?;
            let inside = offset % self.cluster;
            let length = (bytes.len() - done).min((self.cluster - inside) as usize);
            let part = bytes.get_mut(done..done + length).unwrap_or_default();
            self.device.read(self.place(cluster) + inside, part).doing(format_args!("reading {}", file.name))?;
            done += length;
        }
        Ok(())
    }

    /// Frees the clusters that no file has: what an interrupted change left behind. Written with the next change.
    pub fn reclaim(&mut self) -> Result<()> {
        let mut used = vec![false; self.table.len()];
        let mut folders = vec![self.root];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            let mut mark = |chain: Vec<u32>| {
                for cluster in chain {
                    if let Some(used) = used.get_mut(cluster as usize) {
                        *used = true;
                    }
                }
            };
            mark(self.chain(folder)?);
            for file in self.list(folder)? {
                mark(self.chain(file.cluster)?);
                if file.folder && !matches!(file.name.as_str(), "." | "..") {
                    folders.push(file.cluster);
                }
                seen += 1;
                if seen > MOST_FILES {
                    return Err(Failure::refused("the EFI system partition has too many files"));
                }
            }
        }
        // The marks of bad clusters stay.
        let lost: Vec<u32> = (2..self.table.len() as u32)
            .filter(|at| !used.get(*at as usize).copied().unwrap_or(true))
            .filter(|at| self.table.get(*at as usize).is_some_and(|next| !matches!(next & MASK, 0 | 0x0fff_fff7)))
            .collect();
        lost.into_iter().for_each(|cluster| self.link(cluster, 0));
        Ok(())
    }

    fn link(&mut self, cluster: u32, next: u32) {
        if let Some(entry) = self.table.get_mut(cluster as usize) {
            // The upper four bits are reserved.
            *entry = *entry & !MASK | next & MASK;
            self.changed.insert(u64::from(cluster) * 4 / SECTOR);
        }
    }

    /// Takes free clusters and chains them behind each other; the last one ends the chain.
    pub(super) fn allocate(&mut self, count: u64) -> Result<Vec<u32>> {
        let free =
            (2..self.table.len() as u32).filter(|at| self.table.get(*at as usize).is_some_and(|next| next & MASK == 0));
        let taken: Vec<u32> = free.take(count as usize).collect();
        if (taken.len() as u64) < count {
            return Err(Failure::refused(format!(
                "the EFI system partition has no room: {} bytes more are needed",
                (count - taken.len() as u64) * self.cluster
            )));
        }
        let next = taken.iter().skip(1).copied().chain([MASK]);
        for (cluster, next) in taken.iter().copied().zip(next.collect::<Vec<_>>()) {
            self.link(cluster, next);
        }
        Ok(taken)
    }

    /// Puts `cluster` behind the last one of a chain.
    pub(super) fn append(&mut self, last: u32, cluster: u32) {
        self.link(last, cluster);
    }

    /// Frees a chain.
    pub(super) fn release(&mut self, chain: &[u32]) {
        chain.iter().for_each(|cluster| self.link(*cluster, 0));
    }

    /// Writes what changed of the table of clusters, and the count of free ones.
    pub(super) fn write_table(&mut self) -> Result<()> {
        for sector in std::mem::take(&mut self.changed) {
            let from = (sector * SECTOR / 4) as usize;
            let entries = self.table.iter().skip(from).take(SECTOR as usize / 4);
            let mut bytes: Vec<u8> = entries.flat_map(|entry| entry.to_le_bytes()).collect();
            bytes.resize(SECTOR as usize, 0);
            for table in &self.tables {
                self.device.write(table + sector * SECTOR, &bytes).doing("writing the table of clusters")?;
            }
        }
        if self.information > self.start {
            let mut bytes =
                bytes_at(self.device, self.information, SECTOR as usize).doing("reading the FAT's counts")?;
            if slice(&bytes, 0, 4) == Some(b"RRaA") {
                put(&mut bytes, 488, &u32::try_from(self.free()).unwrap_or(u32::MAX).to_le_bytes());
                self.device.write(self.information, &bytes).doing("writing the FAT's counts")?;
            }
        }
        self.flush()
    }

    /// Returns when everything is on the disk.
    pub fn flush(&self) -> Result<()> {
        self.device.flush().doing("writing to the EFI system partition")
    }

    /// Adds a file with a name of eight and three characters, in the place where [`Volume::rename`] will have room for
    /// `name`. Content first, then the table, then the name.
    pub fn add(&mut self, folder: u32, temporary: &[u8; 11], name: &str, size: u32, read: Reader<'_>) -> Result<File> {
        let slots = self.reserve(folder, super::folder::slots_for(name))?;
        let chain = self.allocate(u64::from(size).div_ceil(self.cluster))?;
        let mut at = 0;
        let mut buffer = vec![0; COPY - COPY % self.cluster as usize];
        let mut rest = chain.as_slice();
        while let Some(&first) = rest.first() {
            // Neighbours are written at once.
            let most = (buffer.len() as u64 / self.cluster) as usize;
            let run = rest.iter().zip(first..).take(most).take_while(|(a, b)| *a == b).count();
            let bytes = buffer.get_mut(..run * self.cluster as usize).unwrap_or_default();
            let wanted = (u64::from(size) - at).min(bytes.len() as u64) as usize;
            let (content, padding) = bytes.split_at_mut(wanted);
            read(at, content)?;
            padding.fill(0);
            self.device.write(self.place(first), bytes).doing("writing to the EFI system partition")?;
            at += wanted as u64;
            rest = rest.get(run..).unwrap_or_default();
        }
        self.flush()?;
        self.write_table()?;
        let cluster = chain.first().copied().unwrap_or_default();
        let file = File::plain(temporary, slots, cluster, size);
        self.write_name(&file)?;
        Ok(file)
    }

    /// Deletes a file: its name first, then its clusters.
    pub fn delete(&mut self, file: &File) -> Result<()> {
        let chain = self.chain(file.cluster)?;
        self.erase_name(file)?;
        self.release(&chain);
        self.write_table()
    }

    /// Free places for `count` entries in one sector of a folder, which grows if it has none.
    fn reserve(&mut self, folder: u32, count: usize) -> Result<Vec<u64>> {
        let slots = self.slots(folder)?;
        // A zero ends the folder: none may be left in front of a new entry.
        let ends_before = |place: u64| -> Vec<u64> {
            slots
                .iter()
                .take_while(|(at, _)| *at != place)
                .filter(|(_, first)| *first == 0)
                .map(|(at, _)| *at)
                .collect()
        };
        if let Some(found) = super::folder::free_run(&slots, count) {
            self.mark_deleted(&ends_before(found.first().copied().unwrap_or_default()))?;
            return Ok(found);
        }
        let chain = self.chain(folder)?;
        let added = self.allocate(1)?;
        let (Some(&last), Some(&new)) = (chain.last(), added.first()) else {
            return Err(Failure::refused("a folder without a place"));
        };
        // Zeros end a folder: they are there before the cluster belongs to it.
        let place = self.place(new);
        self.device.write(place, &vec![0; self.cluster as usize]).doing("making a folder larger")?;
        self.flush()?;
        self.append(last, new);
        self.write_table()?;
        self.mark_deleted(&ends_before(place))?;
        Ok((0..count as u64).map(|at| place + at * SLOT).collect())
    }
}
