//! Reading an image that may be anything: the primary tree with Rock Ridge, and what El Torito lets firmware boot.
//!
//! Not read: interleaved files, extended attribute records, volumes of several discs, Joliet's tree (it names the same
//! files), Rock Ridge's relocated folders (the writer makes none).

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::format::{FOLDER, MULTI_EXTENT, RECORD_SIZE, SECTOR, SYSTEM_AREA};
use crate::error::{Error, Result};
use crate::formats::disk::DiskImage;

/// Descriptors that are looked at.
const DESCRIPTORS: u64 = 64;
/// Files and folders that are read at most; bounds the work that a hostile image can make.
const ENTRIES_LIMIT: usize = 8 << 20;
/// Continuation areas of one record.
const CONTINUATIONS: usize = 64;
/// Bytes of Rock Ridge entries of one record, with continuations.
const SYSTEM_USE_LIMIT: usize = 64 << 10;
/// Deepest folder.
const DEPTH_LIMIT: usize = 2048;

/// What a record stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link and where it points.
    Symlink(Vec<u8>),
    /// A device or a pipe: `st_mode`'s type bits, major and minor number.
    Special(u32, u32, u32),
}

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// Where its content lies, in bytes of the image, in order.
    pub places: Vec<Range<u64>>,
    /// Type and permission bits.
    pub mode: u32,
    /// Names of the same file.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The file's number; names of one file share it.
    pub serial: u32,
    /// The time of modification as the image has it, in UTC.
    pub modified: [u8; 7],
}

/// What firmware may boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootable {
    /// El Torito's number of the platform: 0 is BIOS, 0xef is UEFI.
    pub platform: u8,
    /// First byte.
    pub start: u64,
    /// Sectors of 512 bytes that are loaded; 0 for "to the end".
    pub loaded: u16,
}

/// A volume that was opened.
pub struct Volume<D> {
    image: D,
    /// The volume's name.
    pub label: String,
    /// Sectors of 2048 bytes.
    pub sectors: u64,
    /// Whether it has Joliet's tree too.
    pub joliet: bool,
    /// What firmware may boot.
    pub boot: Vec<Bootable>,
    path_table: Range<u64>,
    root: Range<u64>,
    root_record: Vec<u8>,
}

impl<D> std::fmt::Debug for Volume<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("label", &self.label).field("sectors", &self.sectors).finish_non_exhaustive()
    }
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::refused(format!("the ISO 9660 image is damaged: {what}"))
}

/// A number that stands in both orders.
fn both32(bytes: &[u8], what: &str) -> Result<u32> {
    let half = |at: usize| bytes.get(at..at + 4).and_then(|part| <[u8; 4]>::try_from(part).ok()).unwrap_or_default();
    let (little, big) = (u32::from_le_bytes(half(0)), u32::from_be_bytes(half(4)));
    if little != big {
        return Err(damaged(format!("{what} is {little} in one order and {big} in the other")));
    }
    Ok(little)
}

impl<D: DiskImage> Volume<D> {
    /// Reads the descriptors and the boot catalog.
    pub fn open(image: D) -> Result<Volume<D>> {
        let mut volume = Volume {
            image,
            label: String::new(),
            sectors: 0,
            joliet: false,
            boot: Vec::new(),
            path_table: 0..0,
            root: 0..0,
            root_record: Vec::new(),
        };
        let mut catalog = None;
        let mut primary = None;
        for number in SYSTEM_AREA..SYSTEM_AREA + DESCRIPTORS {
            let bytes = volume.bytes(number * SECTOR, SECTOR, "a volume descriptor")?;
            if bytes.get(1..6) != Some(b"CD001") {
                return Err(damaged(format!("sector {number} is no volume descriptor")));
            }
            match bytes[0] {
                0 if bytes[7..].starts_with(b"EL TORITO SPECIFICATION") => {
                    let sector = u32::from_le_bytes([bytes[71], bytes[72], bytes[73], bytes[74]]);
                    catalog = Some(u64::from(sector) * SECTOR);
                }
                1 if primary.is_none() => primary = Some(bytes),
                2 => volume.joliet |= bytes[88..91] == *b"%/E",
                255 => break,
                _ => {}
            }
        }
        let primary = primary.ok_or_else(|| damaged("it has no primary volume descriptor"))?;
        volume.sectors = u64::from(both32(&primary[80..], "the volume's size")?);
        if volume.sectors * SECTOR > volume.image.size() {
            return Err(damaged(format!(
                "it says {} sectors, which its {} bytes have not",
                volume.sectors,
                volume.image.size()
            ))
            .hint("the image may be cut off"));
        }
        if primary[128..132] != [0, 8, 8, 0] {
            return Err(damaged("its blocks have not 2048 bytes"));
        }
        volume.label = String::from_utf8_lossy(&primary[40..72]).trim_end().to_owned();
        let size = u64::from(both32(&primary[132..], "the path table's size")?);
        let table = u64::from(u32::from_le_bytes([primary[140], primary[141], primary[142], primary[143]])) * SECTOR;
        volume.path_table = table..table.saturating_add(size);
        volume.inside(&volume.path_table, "the path table")?;
        volume.root_record = primary[156..190].to_vec();
        volume.root = volume.extent(&volume.root_record, "the root")?;
        if let Some(at) = catalog {
            volume.boot = volume.catalog(at)?;
        }
        Ok(volume)
    }

    /// The image.
    pub fn image(&self) -> &D {
        &self.image
    }

    fn inside(&self, range: &Range<u64>, what: &str) -> Result<()> {
        if range.end > self.sectors * SECTOR {
            return Err(damaged(format!(
                "{what} lies at bytes {} to {} of {}",
                range.start,
                range.end,
                self.sectors * SECTOR
            )));
        }
        Ok(())
    }

    fn bytes(&self, at: u64, length: u64, what: &str) -> Result<Vec<u8>> {
        let fits = at.checked_add(length).is_some_and(|end| end <= self.image.size());
        if !fits {
            return Err(damaged(format!("{what} at byte {at} is cut off")));
        }
        let mut bytes = vec![0; length as usize];
        self.image.read_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Where a record's content lies.
    fn extent(&self, record: &[u8], what: &str) -> Result<Range<u64>> {
        let (sector, size) = (both32(&record[2..], what)?, both32(&record[10..], what)?);
        let start = u64::from(sector) * SECTOR;
        let range = start..start + u64::from(size);
        if size > 0 {
            self.inside(&range, what)?;
        }
        Ok(range)
    }

    fn catalog(&self, at: u64) -> Result<Vec<Bootable>> {
        let bytes = self.bytes(at, SECTOR, "the boot catalog")?;
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let sum = (0..32).step_by(2).fold(0u16, |sum, at| sum.wrapping_add(word(at)));
        if bytes[0] != 1 || bytes[30..32] != [0x55, 0xaa] || sum != 0 {
            return Err(damaged("the boot catalog's first entry is none, or its checksum is wrong"));
        }
        let mut found = Vec::new();
        let mut entry = |platform: u8, at: usize| -> Result<()> {
            if bytes[at] == 0x88 {
                let sector = u32::from_le_bytes([bytes[at + 8], bytes[at + 9], bytes[at + 10], bytes[at + 11]]);
                let start = u64::from(sector) * SECTOR;
                let loaded = word(at + 6);
                self.inside(&(start..start + u64::from(loaded.max(1)) * 512), "a boot image")?;
                found.push(Bootable { platform, start, loaded });
            }
            Ok(())
        };
        entry(bytes[1], 32)?;
        let mut at = 64;
        while at + 64 <= bytes.len() && matches!(bytes[at], 0x90 | 0x91) {
            let (platform, count) = (bytes[at + 1], usize::from(word(at + 2)));
            let last = bytes[at] == 0x91;
            at += 32;
            for _ in 0..count {
                if at + 32 > bytes.len() {
                    return Err(damaged("the boot catalog has more entries than fit into it"));
                }
                entry(platform, at)?;
                at += 32;
            }
            if last {
                break;
            }
        }
        Ok(found)
    }

    /// Calls `each` with every file and folder, folders before what is in them; the root has an empty path. Checks that
    /// the path table names the same folders.
    pub fn walk(&self, mut each: impl FnMut(Listed) -> Result<()>) -> Result<()> {
        let mut seen: HashSet<u64> = HashSet::new();
        let mut count = 0;
        let own = self.bytes(self.root.start, SECTOR.min(self.root.end - self.root.start), "the root folder")?;
        let length = usize::from(own.first().copied().unwrap_or(0));
        let own = own.get(..length).filter(|own| own.len() > RECORD_SIZE);
        let own = own.ok_or_else(|| damaged("the root folder has no record of its own"))?;
        let root = Listed { path: Vec::new(), ..self.listed(own, &[], &self.root)? };
        let mut pending = vec![(root.path.clone(), self.root.clone(), 0usize)];
        each(root)?;
        while let Some((above, place, depth)) = pending.pop() {
            if !seen.insert(place.start) || depth > DEPTH_LIMIT {
                return Err(damaged(format!("/{} is inside itself or too deep", above.escape_ascii())));
            }
            let mut folders = Vec::new();
            for entry in self.folder(&above, &place)? {
                count += 1;
                if count > ENTRIES_LIMIT {
                    return Err(damaged(format!("it has more than {ENTRIES_LIMIT} files")));
                }
                if entry.kind == Kind::Folder {
                    let place = entry.places.first().cloned().unwrap_or(0..0);
                    folders.push((entry.path.clone(), place, depth + 1));
                }
                each(entry)?;
            }
            pending.extend(folders.into_iter().rev());
        }
        let named = self.path_table()?;
        let found: BTreeSet<u64> = seen.into_iter().collect();
        if let Some(other) = named.symmetric_difference(&found).next() {
            let which = if named.contains(other) { "only the path table names" } else { "the path table lacks" };
            return Err(damaged(format!("{which} the folder in sector {}", other / SECTOR)));
        }
        Ok(())
    }

    /// First bytes of the folders that the path table names.
    fn path_table(&self) -> Result<BTreeSet<u64>> {
        let mut found = BTreeSet::new();
        let mut at = self.path_table.start;
        while at < self.path_table.end {
            let head = self.bytes(at, 8, "the path table")?;
            let sector = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
            found.insert(u64::from(sector) * SECTOR);
            if head[0] == 0 || found.len() > ENTRIES_LIMIT {
                return Err(damaged("an entry of the path table without a name"));
            }
            at += 8 + u64::from(head[0]).next_multiple_of(2);
        }
        Ok(found)
    }

    /// What is in a folder.
    fn folder(&self, above: &[u8], place: &Range<u64>) -> Result<Vec<Listed>> {
        let mut found: Vec<Listed> = Vec::new();
        let mut names: HashSet<Vec<u8>> = HashSet::new();
        let mut going_on = false;
        let mut number = 0;
        for start in (place.start..place.end).step_by(SECTOR as usize) {
            let sector = self.bytes(start, SECTOR.min(place.end - start), "a folder")?;
            let mut at = 0;
            // Records do not cross sectors; zeros fill them up.
            while let Some(length) = sector.get(at).map(|length| usize::from(*length)).filter(|length| *length > 0) {
                let record = sector.get(at..at + length).filter(|record| record.len() > RECORD_SIZE);
                let record = record.ok_or_else(|| damaged(format!("a record at byte {}", start + at as u64)))?;
                at += length;
                number += 1;
                // "." and "..".
                if number <= 2 {
                    continue;
                }
                let what = format!("a file of /{}", above.escape_ascii());
                let extent = self.extent(record, &what)?;
                let flags = record[25];
                if going_on {
                    let last = found.last_mut().ok_or_else(|| damaged("an extent of nothing"))?;
                    last.size += extent.end - extent.start;
                    last.places.push(extent);
                } else {
                    let listed = self.listed(record, above, &extent)?;
                    if !names.insert(listed.path.clone()) {
                        return Err(damaged(format!("/{} is there twice", listed.path.escape_ascii())));
                    }
                    found.push(listed);
                }
                going_on = flags & MULTI_EXTENT != 0;
            }
        }
        Ok(found)
    }

    fn listed(&self, record: &[u8], above: &[u8], extent: &Range<u64>) -> Result<Listed> {
        let identifier_end = RECORD_SIZE + usize::from(record[32]);
        let identifier =
            record.get(RECORD_SIZE..identifier_end).ok_or_else(|| damaged("a record with a name that is cut off"))?;
        let system_use = record.get(identifier_end.next_multiple_of(2)..).unwrap_or_default();
        let ridge = self.rock_ridge(system_use)?;
        let name = ridge.name.unwrap_or_else(|| {
            let end = identifier.iter().position(|byte| *byte == b';').unwrap_or(identifier.len());
            identifier[..end].to_vec()
        });
        if name.contains(&b'/') || name.contains(&0) && identifier.len() > 1 || name == b".." {
            return Err(damaged(format!("the name \"{}\"", name.escape_ascii())));
        }
        let path = if above.is_empty() { name } else { [above, b"/", &name].concat() };
        let folder = record[25] & FOLDER != 0;
        let mode = ridge.mode.unwrap_or(if folder { 0o040_555 } else { 0o100_444 });
        if (mode & 0o170_000 == 0o040_000) != folder {
            return Err(damaged(format!("/{} is a folder and has the mode {mode:o}", path.escape_ascii())));
        }
        let kind = match (mode & 0o170_000, ridge.target) {
            (0o040_000, _) => Kind::Folder,
            (0o120_000, target) => Kind::Symlink(target.unwrap_or_default()),
            (0o100_000, _) => Kind::File,
            (other, _) => Kind::Special(other, ridge.device.0, ridge.device.1),
        };
        let size = if kind == Kind::File { extent.end - extent.start } else { 0 };
        let mut modified = [0; 7];
        modified.copy_from_slice(&record[18..25]);
        let modified = ridge.modified.unwrap_or(modified);
        let Ridge { links, uid, gid, serial, .. } = ridge;
        Ok(Listed { path, kind, size, places: vec![extent.clone()], mode, links, uid, gid, serial, modified })
    }

    fn rock_ridge(&self, system_use: &[u8]) -> Result<Ridge> {
        let mut ridge = Ridge::default();
        let mut bytes = system_use.to_vec();
        let mut hops = 0;
        let mut total = 0;
        loop {
            let mut next = None;
            let mut rest = bytes.as_slice();
            while let [a, b, length, _version, ..] = rest {
                let (signature, length) = ([*a, *b], usize::from(*length));
                let Some(entry) = rest.get(..length).filter(|_| length >= 4) else { break };
                rest = &rest[length..];
                total += length;
                if total > SYSTEM_USE_LIMIT {
                    return Err(damaged("a record with more Rock Ridge entries than any needs"));
                }
                let data = &entry[4..];
                match &signature {
                    b"CE" if data.len() >= 24 => {
                        let sector = both32(data, "a continuation")?;
                        let (offset, size) =
                            (both32(&data[8..], "a continuation")?, both32(&data[16..], "a continuation")?);
                        next = Some((u64::from(sector) * SECTOR + u64::from(offset), u64::from(size)));
                    }
                    b"ST" => break,
                    _ => ridge.entry(signature, data)?,
                }
            }
            let Some((at, size)) = next else { return Ok(ridge) };
            hops += 1;
            if hops > CONTINUATIONS || size > SECTOR {
                return Err(damaged("a chain of continuations without end"));
            }
            bytes = self.bytes(at, size, "a continuation")?;
        }
    }
}

/// What the entries of a record say.
#[derive(Debug, Default)]
struct Ridge {
    name: Option<Vec<u8>>,
    mode: Option<u32>,
    links: u32,
    uid: u32,
    gid: u32,
    serial: u32,
    device: (u32, u32),
    modified: Option<[u8; 7]>,
    target: Option<Vec<u8>>,
    /// The last component of the target goes on in the next.
    open_component: bool,
    /// The last component was the root, which ends with a slash.
    after_root: bool,
}

impl Ridge {
    fn entry(&mut self, signature: [u8; 2], data: &[u8]) -> Result<()> {
        match &signature {
            b"PX" if data.len() >= 32 => {
                self.mode = Some(both32(data, "a mode")?);
                self.links = both32(&data[8..], "a number of links")?;
                self.uid = both32(&data[16..], "an owner")?;
                self.gid = both32(&data[24..], "a group")?;
                if data.len() >= 40 {
                    self.serial = both32(&data[32..], "a serial number")?;
                }
            }
            b"NM" if data.first().is_some_and(|flags| flags & 6 == 0) => {
                self.name.get_or_insert_default().extend_from_slice(&data[1..]);
            }
            b"PN" if data.len() >= 16 => {
                let (high, low) = (both32(data, "a device")?, both32(&data[8..], "a device")?);
                self.device = if high == 0 { (low >> 8, low & 0xff) } else { (high, low) };
            }
            // The time of modification stands first but for that of creation.
            b"TF" if data.len() >= 8 && data[0] & 0x83 == 0x02 => {
                let mut modified = [0; 7];
                modified.copy_from_slice(&data[1..8]);
                self.modified = Some(modified);
            }
            b"SL" if !data.is_empty() => self.link(&data[1..])?,
            _ => {}
        }
        Ok(())
    }

    fn link(&mut self, mut rest: &[u8]) -> Result<()> {
        let started = self.target.is_some();
        let target = self.target.get_or_insert_default();
        let mut first = !started;
        while let [flags, length, ..] = rest {
            let part = rest.get(2..2 + usize::from(*length)).ok_or_else(|| damaged("a link that is cut off"))?;
            rest = &rest[2 + usize::from(*length)..];
            // A slash stands between components, but not behind the root's own.
            if !first && !self.open_component && !self.after_root {
                target.push(b'/');
            }
            first = false;
            match flags & 0x0e {
                2 => target.push(b'.'),
                4 => target.extend_from_slice(b".."),
                8 => target.extend_from_slice(b"/"),
                _ => target.extend_from_slice(part),
            }
            self.open_component = flags & 1 != 0;
            self.after_root = flags & 8 != 0;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
