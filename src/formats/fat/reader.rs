//! Reading a FAT volume that may be anything, as a part of an image or as all of it.

use std::io::{self, Read, Seek, SeekFrom};

use super::format::{
    BACKUP_SECTOR, BOOT_SECTOR_SIZE, ENTRY_SIZE, FOLDER, FOLDER_LIMIT, Geometry, Kind, LONG_NAME, VOLUME_LABEL,
    checksum, long_name_places,
};
use crate::error::{Error, Result};

/// Files and folders of a volume that are listed; one that has more is damaged or no boot volume.
const ENTRIES_LIMIT: usize = 100_000;
/// Folders in folders.
const DEPTH_LIMIT: usize = 64;

/// A volume that was opened.
#[derive(Debug)]
pub struct Volume<I> {
    pub(super) image: I,
    /// Where the volume begins in the image.
    start: u64,
    pub(super) geometry: Geometry,
    pub(super) tables: u64,
    pub(super) root_cluster: u32,
    id: u32,
    /// The sector of the allocation table that was read last, and its number.
    cached: (u64, Vec<u8>),
}

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path, parts divided by slashes.
    pub path: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Bytes; 0 for folders.
    pub size: u32,
    pub(super) cluster: u32,
}

impl<I: Read + Seek> Volume<I> {
    /// Opens the volume that begins at byte `start` of an image and has at most `size` bytes.
    pub fn open(mut image: I, start: u64, size: u64) -> Result<Volume<I>> {
        let mut boot = [0; BOOT_SECTOR_SIZE];
        image.seek(SeekFrom::Start(start)).map_err(input)?;
        image.read_exact(&mut boot).map_err(|_| refused("it has no boot sector"))?;
        let (geometry, tables, root_cluster, id) = decode(&boot, size).map_err(|what| refused(&what))?;
        Ok(Volume { image, start, geometry, tables, root_cluster, id, cached: (u64::MAX, Vec::new()) })
    }

    /// Where everything lies.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The serial number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Every file and folder, folders before what is in them, in the order in which they stand.
    pub fn list(&mut self) -> Result<Vec<Listed>> {
        let mut found: Vec<Listed> = Vec::new();
        let root = Listed { path: String::new(), folder: true, size: 0, cluster: self.root_cluster };
        let mut pending = vec![(root, 0)];
        while let Some((folder, depth)) = pending.pop() {
            if depth > DEPTH_LIMIT {
                return Err(refused("it has folders without end"));
            }
            let bytes = self.folder(folder.cluster)?;
            let entries = entries(&bytes, &folder.path);
            if !folder.path.is_empty() {
                found.push(folder);
            }
            let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.folder);
            found.extend(files);
            pending.extend(folders.into_iter().rev().map(|folder| (folder, depth + 1)));
            if found.len() + pending.len() > ENTRIES_LIMIT {
                return Err(refused("it has files without end"));
            }
        }
        Ok(found)
    }

    /// A file by its path, case ignored.
    pub fn find(&mut self, path: &str) -> Result<Option<Listed>> {
        let wanted = super::name::folded(path);
        Ok(self.list()?.into_iter().find(|entry| super::name::folded(&entry.path) == wanted))
    }

    /// The first sector of a file, counted from the start of the volume.
    pub fn first_sector(&self, file: &Listed) -> u64 {
        self.geometry.sector_of(file.cluster)
    }

    /// Whether a file's clusters follow each other, so that its bytes lie in one piece of the image.
    pub fn in_one_piece(&mut self, file: &Listed) -> Result<bool> {
        let clusters = u64::from(file.size).div_ceil(self.geometry.cluster());
        let mut cluster = file.cluster;
        for _ in 1..clusters {
            if self.next_cluster(cluster)? != Some(cluster.wrapping_add(1)) {
                return Ok(false);
            }
            cluster = cluster.wrapping_add(1);
        }
        Ok(true)
    }

    /// Number of allocation tables.
    pub(super) fn tables(&self) -> u64 {
        self.tables
    }

    /// A file's first cluster, and where in the image its entry stands.
    pub(super) fn place(&mut self, file: &Listed) -> Result<(u32, u64)> {
        let above = file.path.rsplit_once('/').map_or("", |(above, _)| above);
        let folder =
            if above.is_empty() { self.root_cluster } else { self.find(above)?.map_or(0, |found| found.cluster) };
        let Geometry { sector, reserved, table_sectors, root_sectors, .. } = self.geometry;
        let mut runs = Vec::new();
        if folder == 0 {
            runs.push(((reserved + self.tables * table_sectors) * sector, root_sectors * sector));
        }
        let mut next = Some(folder).filter(|folder| *folder != 0);
        while let Some(cluster) = next {
            if runs.len() as u64 * self.geometry.cluster() > FOLDER_LIMIT {
                return Err(refused("it has a folder without end"));
            }
            runs.push((self.geometry.sector_of(cluster) * sector, self.geometry.cluster()));
            next = self.next_cluster(cluster)?;
        }
        for (offset, size) in runs {
            let mut bytes = Vec::new();
            self.seek(offset)?;
            (&mut self.image).take(size).read_to_end(&mut bytes).map_err(input)?;
            for (index, entry) in bytes.chunks_exact(ENTRY_SIZE as usize).enumerate() {
                let number = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
                let plain = entry[0] != 0xe5 && entry[11] & (VOLUME_LABEL | FOLDER) == 0;
                if plain && number(26) | number(20) << 16 == file.cluster && number(28) | number(30) << 16 == file.size
                {
                    return Ok((file.cluster, self.start + offset + index as u64 * ENTRY_SIZE));
                }
            }
        }
        Err(refused("a file's entry is not where it was"))
    }

    /// What FAT32 says about free clusters, with so many less: places in the volume and their new bytes.
    pub(super) fn fewer_free(&mut self, by: u32) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut changes = Vec::new();
        if self.geometry.kind != Kind::Fat32 {
            return Ok(changes);
        }
        // Behind the boot sector and behind its copy (section 5).
        for sector in [1, BACKUP_SECTOR + 1] {
            let at = sector * self.geometry.sector;
            let mut bytes = [0; BOOT_SECTOR_SIZE];
            self.seek(at)?;
            self.image.read_exact(&mut bytes).map_err(|_| refused("it is cut off"))?;
            let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            if !bytes.starts_with(b"RRaA") || number(488) == u32::MAX {
                continue;
            }
            let next = if number(492) == u32::MAX { u32::MAX } else { number(492).saturating_add(by) };
            let both = [number(488).saturating_sub(by).to_le_bytes(), next.to_le_bytes()];
            changes.push((at + 488, both.concat()));
        }
        Ok(changes)
    }

    /// A reader of a file's bytes.
    pub fn read_file(&mut self, file: &Listed) -> FileReader<'_, I> {
        FileReader { volume: self, cluster: file.cluster, within: 0, left: u64::from(file.size) }
    }

    /// Bytes of a folder.
    pub(super) fn folder(&mut self, cluster: u32) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if cluster == 0 {
            let Geometry { sector, reserved, table_sectors, root_sectors, .. } = self.geometry;
            self.seek((reserved + self.tables * table_sectors) * sector)?;
            (&mut self.image).take(root_sectors * sector).read_to_end(&mut bytes).map_err(input)?;
            return Ok(bytes);
        }
        let mut next = Some(cluster);
        while let Some(cluster) = next {
            if bytes.len() as u64 > FOLDER_LIMIT {
                return Err(refused("it has a folder without end"));
            }
            self.seek_cluster(cluster)?;
            (&mut self.image).take(self.geometry.cluster()).read_to_end(&mut bytes).map_err(input)?;
            next = self.next_cluster(cluster)?;
        }
        Ok(bytes)
    }

    pub(super) fn seek(&mut self, offset: u64) -> Result<()> {
        self.image.seek(SeekFrom::Start(self.start + offset)).map(|_| ()).map_err(input)
    }

    fn seek_cluster(&mut self, cluster: u32) -> Result<()> {
        if u64::from(cluster) < 2 || u64::from(cluster) >= self.geometry.clusters + 2 {
            return Err(refused(&format!("a chain leads to cluster {cluster} of {}", self.geometry.clusters)));
        }
        let data = self.geometry.reserved + self.tables * self.geometry.table_sectors + self.geometry.root_sectors;
        self.seek((data + (u64::from(cluster) - 2) * self.geometry.cluster_sectors) * self.geometry.sector)
    }

    /// The cluster that follows; `None` at the end of the chain.
    pub(super) fn next_cluster(&mut self, cluster: u32) -> Result<Option<u32>> {
        // The last eight values end a chain.
        let end = self.geometry.kind.end_of_chain() - 7;
        Ok(Some(self.entry(cluster)?).filter(|entry| *entry < end))
    }

    /// A cluster's entry of the allocation table; 0 if it is free.
    pub(super) fn entry(&mut self, cluster: u32) -> Result<u32> {
        let bits = u64::from(cluster) * self.geometry.kind.bits();
        let first = self.table_byte(bits / 8)?;
        let second = self.table_byte(bits / 8 + 1)?;
        Ok(match self.geometry.kind {
            Kind::Fat12 => (u32::from(first) | u32::from(second) << 8) >> (bits % 8) & 0xfff,
            Kind::Fat16 => u32::from(first) | u32::from(second) << 8,
            Kind::Fat32 => {
                let (third, fourth) = (self.table_byte(bits / 8 + 2)?, self.table_byte(bits / 8 + 3)?);
                u32::from_le_bytes([first, second, third, fourth]) & 0x0fff_ffff
            }
        })
    }

    fn table_byte(&mut self, at: u64) -> Result<u8> {
        let sector = at / self.geometry.sector;
        if self.cached.0 != sector {
            self.seek((self.geometry.reserved + sector) * self.geometry.sector)?;
            let mut bytes = vec![0; self.geometry.sector as usize];
            self.image.read_exact(&mut bytes).map_err(|_| refused("its allocation table is cut off"))?;
            self.cached = (sector, bytes);
        }
        Ok(self.cached.1[(at % self.geometry.sector) as usize])
    }
}

/// Reads a file, cluster by cluster.
#[derive(Debug)]
pub struct FileReader<'v, I> {
    volume: &'v mut Volume<I>,
    cluster: u32,
    /// Bytes of the cluster that were read.
    within: u64,
    left: u64,
}

impl<I: Read + Seek> Read for FileReader<'_, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        if self.within == self.volume.geometry.cluster() {
            let next = self.volume.next_cluster(self.cluster).map_err(io::Error::other)?;
            self.cluster = next.ok_or_else(|| io::Error::other(refused("a file's chain is shorter than the file")))?;
            self.within = 0;
        }
        self.volume.seek_cluster(self.cluster).map_err(io::Error::other)?;
        let place = self.volume.image.stream_position()? + self.within;
        self.volume.image.seek(SeekFrom::Start(place))?;
        let room = (self.volume.geometry.cluster() - self.within).min(self.left);
        let length = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.volume.image.read(&mut buffer[..length])?;
        if count == 0 {
            return Err(io::Error::other(refused("it is cut off")));
        }
        self.within += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Geometry, number of tables, root and serial number of a boot sector.
fn decode(boot: &[u8; BOOT_SECTOR_SIZE], size: u64) -> Result<(Geometry, u64, u32, u32), String> {
    let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let u32_at = |at: usize| u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]);
    let either = |small: u64, large: u64| if small != 0 { small } else { large };
    if boot[510..] != [0x55, 0xaa] {
        return Err("its first sector is no boot sector".into());
    }
    let (sector, cluster_sectors, reserved, tables) =
        (u16_at(11), u64::from(boot[13]), u16_at(14), u64::from(boot[16]));
    if !matches!(sector, 512 | 1024 | 2048 | 4096) || !cluster_sectors.is_power_of_two() || reserved == 0 {
        return Err(format!("sectors of {sector} bytes, clusters of {cluster_sectors} sectors, {reserved} reserved"));
    }
    if !(1..=2).contains(&tables) {
        return Err(format!("{tables} allocation tables"));
    }
    let large = u16_at(22) == 0;
    let table_sectors = either(u16_at(22), u64::from(u32_at(36)));
    let sectors = either(u16_at(19), u64::from(u32_at(32)));
    let root_sectors = (u16_at(17) * ENTRY_SIZE).div_ceil(sector);
    let data = reserved + tables * table_sectors + root_sectors;
    if sectors <= data || sectors * sector > size {
        return Err(format!("{sectors} sectors of {sector} bytes in a volume of {size} bytes"));
    }
    let clusters = (sectors - data) / cluster_sectors;
    let kind = Kind::of_clusters(clusters);
    if large != (kind == Kind::Fat32) || (clusters + 2) * kind.bits() > table_sectors * sector * 8 {
        return Err(format!("{clusters} clusters and allocation tables of {table_sectors} sectors"));
    }
    let geometry = Geometry { kind, sector, cluster_sectors, reserved, table_sectors, root_sectors, clusters, sectors };
    let (root_cluster, id) = if large { (u32_at(44), u32_at(67)) } else { (0, u32_at(39)) };
    if large && root_cluster < 2 {
        return Err("no root folder".into());
    }
    Ok((geometry, tables, root_cluster, id))
}

/// The entries of a folder but ".", ".." and the label. A long name that does not belong to the entry behind it is
/// left aside, as every driver does.
pub(super) fn entries(bytes: &[u8], above: &str) -> Vec<Listed> {
    let mut out = Vec::new();
    let mut long: Vec<(u8, [u16; 13])> = Vec::new();
    for entry in bytes.chunks_exact(ENTRY_SIZE as usize) {
        match entry[0] {
            0 => break,
            0xe5 => {
                long.clear();
                continue;
            }
            _ => {}
        }
        if entry[11] & 0x3f == LONG_NAME {
            let mut units = [0; 13];
            for (unit, at) in units.iter_mut().zip(long_name_places()) {
                *unit = u16::from_le_bytes([entry[at], entry[at + 1]]);
            }
            if entry[0] & 0x40 != 0 {
                long.clear();
            }
            long.push((entry[13], units));
            continue;
        }
        let parts = std::mem::take(&mut long);
        if entry[11] & VOLUME_LABEL != 0 || entry[0] == b'.' {
            continue;
        }
        let mut short = [0; 11];
        short.copy_from_slice(&entry[..11]);
        let name = long_name(&parts, &short).unwrap_or_else(|| short_name(&short));
        let number = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
        let folder = entry[11] & FOLDER != 0;
        out.push(Listed {
            path: if above.is_empty() { name } else { format!("{above}/{name}") },
            folder,
            size: if folder { 0 } else { number(28) | number(30) << 16 },
            cluster: number(26) | number(20) << 16,
        });
    }
    // A folder at cluster 0 would be the root again.
    out.retain(|entry| !entry.folder || entry.cluster != 0);
    out
}

fn long_name(parts: &[(u8, [u16; 13])], short: &[u8; 11]) -> Option<String> {
    let sum = checksum(short);
    if parts.is_empty() || parts.len() > 20 || parts.iter().any(|(other, _)| *other != sum) {
        return None;
    }
    let units = parts.iter().rev().flat_map(|(_, units)| *units).take_while(|unit| *unit != 0);
    let name = String::from_utf16(&units.collect::<Vec<_>>()).ok()?;
    super::name::check(&name).is_ok().then_some(name)
}

fn short_name(short: &[u8; 11]) -> String {
    let text = |part: &[u8]| String::from_utf8_lossy(part).trim_end().replace(['/', '\0'], "_");
    let (base, extension) = (text(&short[..8]), text(&short[8..]));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

pub(super) fn refused(what: &str) -> Error {
    Error::refused(format!("this is no FAT volume, or a damaged one: {what}"))
}

pub(super) fn input(error: io::Error) -> Error {
    Error::failed(format!("reading the image: {error}"))
}

/// The volume in readable lines.
pub fn dump<I: Read + Seek>(volume: &mut Volume<I>) -> Result<String> {
    let Geometry { kind, sector, cluster_sectors, reserved, table_sectors, root_sectors, clusters, sectors } =
        volume.geometry;
    let mut out = format!(
        "{kind:?} id {:08x} sectors {sectors} of {sector} clusters {clusters} of {cluster_sectors} reserved {reserved} tables {table_sectors} root {root_sectors}\n",
        volume.id
    );
    for entry in volume.list()? {
        let kind = if entry.folder { "folder" } else { "file" };
        out.push_str(&format!("{kind} cluster {} size {} {}\n", entry.cluster, entry.size, entry.path.escape_debug()));
    }
    Ok(out)
}
