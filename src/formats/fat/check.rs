//! Checking a volume: what fsck.fat looks at, as far as a volume that nobody has written to can have it wrong.

use std::io::{Read, Seek};

use super::format::{BACKUP_SECTOR, BOOT_SECTOR_SIZE, FOLDER_LIMIT, Kind};
use super::reader::{Listed, Volume, entries, input, refused};
use crate::error::Result;

/// Files and folders that are looked at; a volume that has more is damaged or no boot volume.
const ENTRIES_LIMIT: usize = 100_000;
/// Bytes that are compared at once.
const PIECE: u64 = 64 << 10;

/// What a check found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Files.
    pub files: usize,
    /// Folders, the root not counted.
    pub folders: usize,
    /// Clusters that belong to them.
    pub used: u64,
    /// Copies of the allocation table, all equal.
    pub tables: u64,
}

/// Clusters that belong to something.
struct Owned {
    bits: Vec<u64>,
    count: u64,
}

impl Owned {
    /// Takes a cluster; `false` if it was taken before.
    fn take(&mut self, cluster: u32) -> bool {
        let (word, bit) = (cluster as usize / 64, 1 << (cluster % 64));
        match self.bits.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    fn has(&self, cluster: u32) -> bool {
        self.bits.get(cluster as usize / 64).is_some_and(|word| word >> (cluster % 64) & 1 == 1)
    }
}

impl<I: Read + Seek> Volume<I> {
    /// Checks that the copies of the allocation table are equal, that every chain is as long as its file, that no two
    /// share a cluster, that no cluster is allocated to nothing, and FAT32's second boot sector. Memory is a bit for
    /// each cluster.
    pub fn check(&mut self) -> Result<Checked> {
        self.check_tables()?;
        if self.geometry.kind == Kind::Fat32 {
            self.check_backup()?;
        }
        let words = (self.geometry.clusters + 2).div_ceil(64) as usize;
        let mut owned = Owned { bits: vec![0; words], count: 0 };
        let mut checked = Checked { files: 0, folders: 0, used: 0, tables: self.tables };
        let root = Listed { path: String::new(), folder: true, size: 0, cluster: self.root_cluster };
        let mut pending = vec![root];
        while let Some(folder) = pending.pop() {
            // The root of FAT12 and FAT16 lies in front of the clusters.
            if folder.cluster != 0 {
                self.own(&folder, &mut owned)?;
            }
            for entry in entries(&self.folder(folder.cluster)?, &folder.path) {
                if entry.folder {
                    checked.folders += 1;
                    pending.push(entry);
                } else {
                    checked.files += 1;
                    self.own(&entry, &mut owned)?;
                }
                if checked.files + checked.folders > ENTRIES_LIMIT {
                    return Err(refused("it has files without end"));
                }
            }
        }
        self.check_lost(&owned)?;
        checked.used = owned.count;
        Ok(checked)
    }

    /// Where a file's clusters lie: bytes from the volume's start, in order. The file must have passed a check.
    pub fn places(&mut self, file: &Listed) -> Result<Vec<std::ops::Range<u64>>> {
        let mut places = Vec::new();
        let mut left = u64::from(file.size);
        let mut next = (left > 0).then_some(file.cluster);
        while let Some(cluster) = next.filter(|_| left > 0) {
            self.in_range(cluster, &file.path)?;
            let start = self.first_byte(cluster);
            let length = left.min(self.geometry.cluster());
            places.push(start..start + length);
            left -= length;
            next = self.next_cluster(cluster)?;
        }
        if left > 0 {
            return Err(refused(&format!("the chain of /{} is shorter than the file", file.path.escape_debug())));
        }
        Ok(places)
    }

    fn first_byte(&self, cluster: u32) -> u64 {
        let g = &self.geometry;
        let data = g.reserved + self.tables * g.table_sectors + g.root_sectors;
        (data + u64::from(cluster).saturating_sub(2) * g.cluster_sectors) * g.sector
    }

    fn in_range(&self, cluster: u32, path: &str) -> Result<()> {
        if u64::from(cluster) < 2 || u64::from(cluster) >= self.geometry.clusters + 2 {
            let (clusters, path) = (self.geometry.clusters, path.escape_debug());
            return Err(refused(&format!("the chain of /{path} leads to cluster {cluster} of {clusters}")));
        }
        Ok(())
    }

    /// Takes all clusters of a file or folder.
    fn own(&mut self, entry: &Listed, owned: &mut Owned) -> Result<()> {
        let path = || entry.path.escape_debug();
        let cluster_size = self.geometry.cluster();
        let wanted = match entry.folder {
            true => None,
            false => Some(u64::from(entry.size).div_ceil(cluster_size)),
        };
        if wanted == Some(0) {
            if entry.cluster != 0 {
                return Err(refused(&format!("/{} is empty and has cluster {}", path(), entry.cluster)));
            }
            return Ok(());
        }
        let most = wanted.unwrap_or(FOLDER_LIMIT.div_ceil(cluster_size));
        let mut length = 0;
        let mut next = Some(entry.cluster);
        while let Some(cluster) = next {
            self.in_range(cluster, &entry.path)?;
            if !owned.take(cluster) {
                return Err(refused(&format!("cluster {cluster} of /{} belongs to another chain too", path())));
            }
            length += 1;
            if length > most {
                return Err(refused(&format!("the chain of /{} is longer than its {most} clusters", path())));
            }
            next = self.next_cluster(cluster)?;
        }
        if wanted.is_some_and(|wanted| length < wanted) {
            return Err(refused(&format!("the chain of /{} has {length} clusters for {} bytes", path(), entry.size)));
        }
        Ok(())
    }

    fn check_tables(&mut self) -> Result<()> {
        let g = self.geometry;
        let size = g.table_sectors * g.sector;
        let mut done = 0;
        while done < size && self.tables > 1 {
            let length = (size - done).min(PIECE);
            let first = self.bytes(g.reserved * g.sector + done, length)?;
            let second = self.bytes(g.reserved * g.sector + size + done, length)?;
            if let Some(at) = first.iter().zip(&second).position(|(a, b)| a != b) {
                return Err(refused(&format!(
                    "its two allocation tables differ at byte {}: {:#04x} and {:#04x}",
                    done + at as u64,
                    first[at],
                    second[at]
                )));
            }
            done += length;
        }
        // The first entry repeats the byte that says what medium it is.
        let medium = self.bytes(21, 1)?;
        let first = self.bytes(g.reserved * g.sector, 1)?;
        if first != medium {
            return Err(refused(&format!(
                "its allocation table begins with {:#04x}, not {:#04x}",
                first[0], medium[0]
            )));
        }
        Ok(())
    }

    /// The second boot sector is the same as the first.
    fn check_backup(&mut self) -> Result<()> {
        let size = BOOT_SECTOR_SIZE as u64;
        let first = self.bytes(0, size)?;
        let place = u64::from(u16::from_le_bytes([first[50], first[51]]));
        if place != BACKUP_SECTOR || place >= self.geometry.reserved {
            return Err(refused(&format!("its second boot sector is said to be sector {place}")));
        }
        let second = self.bytes(place * self.geometry.sector, size)?;
        match first.iter().zip(&second).position(|(a, b)| a != b) {
            Some(at) => Err(refused(&format!("its two boot sectors differ at byte {at}"))),
            None => Ok(()),
        }
    }

    /// No cluster is marked as used that belongs to nothing.
    fn check_lost(&mut self, owned: &Owned) -> Result<()> {
        let (bits, end) = (self.geometry.kind.bits(), self.geometry.kind.end_of_chain());
        // The value that marks a sector which cannot be used.
        let bad = end - 8;
        // Whole entries of every kind.
        let step = 3 * PIECE * 8 / bits;
        let mut cluster = 0;
        while cluster < self.geometry.clusters + 2 {
            let count = step.min(self.geometry.clusters + 2 - cluster);
            let start = self.geometry.reserved * self.geometry.sector + cluster * bits / 8;
            let bytes = self.bytes(start, (count * bits).div_ceil(8))?;
            for index in 0..count {
                let number = cluster + index;
                let at = (index * bits / 8) as usize;
                let byte = |more: usize| u32::from(bytes.get(at + more).copied().unwrap_or(0));
                let value = match self.geometry.kind {
                    Kind::Fat12 => (byte(0) | byte(1) << 8) >> (index * bits % 8) & 0xfff,
                    Kind::Fat16 => byte(0) | byte(1) << 8,
                    Kind::Fat32 => (byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24) & 0x0fff_ffff,
                };
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                if number >= 2 && value != 0 && value != bad && !owned.has(number) {
                    return Err(refused(&format!("cluster {number} is allocated and belongs to no file")));
                }
            }
            cluster += count;
        }
        Ok(())
    }

    fn bytes(&mut self, at: u64, length: u64) -> Result<Vec<u8>> {
        self.seek(at)?;
        let mut bytes = Vec::new();
        (&mut self.image).take(length).read_to_end(&mut bytes).map_err(input)?;
        if bytes.len() as u64 != length {
            return Err(refused("it is cut off"));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use super::super::{Fat, File, Options};
    use super::*;
    use crate::formats::source::Source;

    fn volume(kind: Kind) -> Vec<u8> {
        let file = |path: &str, size: usize| File {
            path: path.to_owned(),
            content: Some(Arc::new(vec![7u8; size]) as Arc<dyn Source>),
        };
        let files = [file("EFI/BOOT/BOOTX64.EFI", 100_001), file("empty", 0), file("loader/a long name.conf", 5)];
        let options = Options { kind: Some(kind), ..Options::default() };
        let mut bytes = Vec::new();
        Fat::new(&files, &options).unwrap().write_to(&mut bytes).unwrap();
        bytes
    }

    fn check(bytes: &[u8]) -> Result<Checked> {
        Volume::open(Cursor::new(bytes), 0, bytes.len() as u64)?.check()
    }

    #[test]
    fn what_is_written_is_in_order() {
        for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
            let bytes = volume(kind);
            let checked = check(&bytes).unwrap();
            assert_eq!((checked.files, checked.folders, checked.tables), (3, 3, 2), "{kind:?}");
            let mut opened = Volume::open(Cursor::new(&bytes), 0, bytes.len() as u64).unwrap();
            let file = opened.find("EFI/BOOT/BOOTX64.EFI").unwrap().unwrap();
            let places = opened.places(&file).unwrap();
            let content: Vec<u8> =
                places.into_iter().flat_map(|place| bytes[place.start as usize..place.end as usize].to_vec()).collect();
            assert!(content == vec![7; 100_001]);
        }
    }

    #[test]
    fn damage_is_named() {
        let good = volume(Kind::Fat16);
        let opened = Volume::open(Cursor::new(&good), 0, good.len() as u64).unwrap();
        let g = *opened.geometry();
        let table = |copy: u64, cluster: u64| ((g.reserved + copy * g.table_sectors) * g.sector + cluster * 2) as usize;
        let both = |cluster: u64, value: u16| {
            let mut bytes = good.clone();
            for copy in 0..2 {
                bytes[table(copy, cluster)..][..2].copy_from_slice(&value.to_le_bytes());
            }
            check(&bytes).unwrap_err().message().to_owned()
        };
        let mut bytes = good.clone();
        bytes[table(1, 9)] ^= 1;
        assert!(check(&bytes).unwrap_err().message().contains("two allocation tables differ at byte 18"));
        assert!(both(4000, 0xffff).contains("cluster 4000 is allocated and belongs to no file"));
        let chain = (2..60).find(|cluster| good[table(0, *cluster)] != 0xff).unwrap();
        assert!(both(chain, 0xffff).contains("clusters for"), "{}", both(chain, 0xffff));
        assert!(both(chain, chain as u16).contains("belongs to another chain too"));
        assert!(both(chain, 0xfff0).contains("leads to cluster 65520"), "{}", both(chain, 0xfff0));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(at in 0usize..200_000, byte: u8, more in 0usize..20_000, cut in 0usize..400_000) {
            static VOLUME: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| volume(Kind::Fat12));
            let mut bytes = VOLUME.clone();
            for at in [at, more, more / 40] {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = check(&bytes);
            bytes.truncate(cut % bytes.len());
            let _ = check(&bytes);
        }
    }
}
