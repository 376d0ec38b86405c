//! Entries of FAT folders: long names (in pieces, before) and the short entry that has the file. Whether a change is
//! there after a power failure is decided by one sector wherever that is possible.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::bytes::{put, slice, u16_at, u32_at};
use super::device::{SECTOR, bytes_at};
use super::failure::{Doing, Failure, Result};
use super::fat::Volume;

/// Bytes of an entry.
pub const SLOT: u64 = 32;
const DELETED: u8 = 0xe5;
const LONG: u8 = 0x0f;
const FOLDER: u8 = 0x10;
const VOLUME_LABEL: u8 = 0x08;
const ARCHIVE: u8 = 0x20;
/// Units of a long name in one entry, and where they stand.
const PIECE: usize = 13;
const UNITS: [usize; PIECE] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// Pieces of a long name, which has up to 255 units.
const MOST_PIECES: usize = 20;

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its long name, else the short one.
    pub name: String,
    /// Its first cluster; 0 if it is empty.
    pub cluster: u32,
    /// Bytes.
    pub size: u32,
    /// Whether it is a folder.
    pub folder: bool,
    short: [u8; 11],
    /// Bytes of the disk where its entries are, the short one last.
    slots: Vec<u64>,
    /// The rest of its short entry: dates and attributes.
    entry: [u8; 32],
}

impl File {
    /// A file with a short name; the last of `slots` is for it, the others stay free.
    pub(super) fn plain(short: &[u8; 11], slots: Vec<u64>, cluster: u32, size: u32) -> File {
        let mut entry = [0; 32];
        put(&mut entry, 0, short);
        put(&mut entry, 11, &[ARCHIVE]);
        put(&mut entry, 20, &((cluster >> 16) as u16).to_le_bytes());
        put(&mut entry, 26, &(cluster as u16).to_le_bytes());
        put(&mut entry, 28, &size.to_le_bytes());
        // 1980-01-01: the first date there is. No clock is asked.
        for at in [16, 18, 24] {
            put(&mut entry, at, &0x21_u16.to_le_bytes());
        }
        File { name: short_text(short), cluster, size, folder: false, short: *short, slots, entry }
    }
}

/// Entries that a file with this name takes.
pub fn slots_for(name: &str) -> usize {
    name.len().div_ceil(PIECE) + 1
}

/// Places for `count` entries behind each other in one sector that hold no file. `slots` are the places of a folder with
/// their first bytes.
pub fn free_run(slots: &[(u64, u8)], count: usize) -> Option<Vec<u64>> {
    let run = slots.windows(count).find(|run| {
        let free = run.iter().all(|(_, first)| matches!(*first, 0 | DELETED));
        let sector = run.first().map(|(at, _)| at / SECTOR);
        free && run.last().map(|(at, _)| at / SECTOR) == sector
    })?;
    Some(run.iter().map(|(at, _)| *at).collect())
}

impl Volume<'_> {
    /// Every place for an entry in a folder, with its first byte.
    pub(super) fn slots(&self, folder: u32) -> Result<Vec<(u64, u8)>> {
        let mut slots = Vec::new();
        for cluster in self.folder_chain(folder)? {
            let place = self.place(cluster);
            let bytes = bytes_at(self.device, place, self.cluster_size() as usize).doing("reading a folder")?;
            slots.extend(
                (0_u64..)
                    .zip(bytes.chunks(SLOT as usize))
                    .map(|(at, entry)| (place + at * SLOT, entry.first().copied().unwrap_or_default())),
            );
        }
        // Behind the end there may be anything.
        let end = slots.iter().position(|(_, first)| *first == 0).unwrap_or(slots.len());
        slots.iter_mut().skip(end).for_each(|(_, first)| *first = 0);
        Ok(slots)
    }

    /// The files of a folder.
    pub fn list(&self, folder: u32) -> Result<Vec<File>> {
        let mut files = Vec::new();
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
        for cluster in self.folder_chain(folder)? {
            let place = self.place(cluster);
            let bytes = bytes_at(self.device, place, self.cluster_size() as usize).doing("reading a folder")?;
            for (at, entry) in (0_u64..).zip(bytes.chunks(SLOT as usize)) {
                let (at, byte) = (place + at * SLOT, |at: usize| entry.get(at).copied().unwrap_or_default());
                match (byte(0), byte(11)) {
                    (0, _) => return Ok(files),
                    (DELETED, _) => pieces.clear(),
                    // One more tells a name that is too long from one that is not.
                    (_, LONG) if pieces.len() <= MOST_PIECES => pieces.push((at, entry.to_vec())),
                    (_, LONG) => {}
                    (_, attributes) if attributes & VOLUME_LABEL != 0 => pieces.clear(),
                    (_, attributes) => {
                        let (Some(&short), Some(&whole)) = (entry.first_chunk(), entry.first_chunk()) else { continue };
                        let pieces = std::mem::take(&mut pieces);
                        let long = long_name(&pieces, &short);
                        let used = if long.is_some() { pieces.iter().map(|(at, _)| *at).collect() } else { Vec::new() };
                        let cluster = u32::from(u16_at(entry, 20).unwrap_or_default()) << 16;
                        files.push(File {
                            name: long.unwrap_or_else(|| short_text(&short)),
                            cluster: cluster | u32::from(u16_at(entry, 26).unwrap_or_default()),
                            size: u32_at(entry, 28).unwrap_or_default(),
                            folder: attributes & FOLDER != 0,
                            short,
                            slots: used.into_iter().chain([at]).collect(),
                            entry: whole,
                        });
                    }
                }
            }
        }
        Ok(files)
    }

    /// The first cluster of the folder with this path, without regard to case.
    pub fn folder(&self, path: &str) -> Result<Option<u32>> {
        let mut at = self.root;
        for name in path.split('/') {
            let found = self.list(at)?.into_iter().find(|file| file.folder && file.name.eq_ignore_ascii_case(name));
            match found {
                Some(folder) => at = folder.cluster,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Gives a file another name, for which its places must do. If all of them are in one sector, which is so for
    /// files of [`Volume::add`], the old name or the new one is there at every moment.
    pub fn rename(&mut self, folder: u32, file: &File, name: &str) -> Result<()> {
        let taken: Vec<File> = self.list(folder)?.into_iter().filter(|other| other.slots != file.slots).collect();
        if taken.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return Err(Failure::refused(format!("{name} is on the EFI system partition already")));
        }
        let short = short_name(name, |short| taken.iter().any(|other| other.short == *short))
            .ok_or_else(|| Failure::refused(format!("{name:?} cannot be a name on FAT")))?;
        let mut entry = file.entry;
        put(&mut entry, 0, &short);
        // The bits for lower case in Windows NT's way belong to the old name.
        put(&mut entry, 12, &[0]);
        let mut entries = pieces_of(name, &short);
        entries.push(entry);
        let spare = file.slots.len().checked_sub(entries.len());
        let spare = spare.ok_or_else(|| Failure::refused(format!("no room in the folder for the name {name}")))?;
        let mut changes: Vec<(u64, Vec<u8>)> = Vec::new();
        for (at, slot) in file.slots.iter().enumerate() {
            changes.push(match at.checked_sub(spare).and_then(|at| entries.get(at)) {
                Some(entry) => (*slot, entry.to_vec()),
                None => (*slot, vec![DELETED]),
            });
        }
        self.change(&changes)
    }

    /// Writes the short entry of a new file; its other places become free ones that do not end the folder.
    pub(super) fn write_name(&mut self, file: &File) -> Result<()> {
        let Some((last, others)) = file.slots.split_last() else { return Ok(()) };
        let mut changes: Vec<(u64, Vec<u8>)> = others.iter().map(|slot| (*slot, vec![DELETED])).collect();
        changes.push((*last, file.entry.to_vec()));
        self.change(&changes)
    }

    /// Takes the entries of a file away, the short one first.
    pub(super) fn erase_name(&mut self, file: &File) -> Result<()> {
        let (last, others) = file.slots.split_last().unwrap_or((&0, &[]));
        let same = |slot: &&u64| **slot / SECTOR == last / SECTOR;
        let near: Vec<u64> = others.iter().filter(same).chain([last]).copied().collect();
        self.mark_deleted(&near)?;
        let far: Vec<u64> = others.iter().filter(|slot| !same(slot)).copied().collect();
        self.mark_deleted(&far)
    }

    /// Marks places as free without ending the folder there.
    pub(super) fn mark_deleted(&mut self, slots: &[u64]) -> Result<()> {
        let changes: Vec<_> = slots.iter().map(|slot| (*slot, vec![DELETED])).collect();
        self.change(&changes)
    }

    /// Writes bytes over places, each sector once, in their order.
    fn change(&mut self, changes: &[(u64, Vec<u8>)]) -> Result<()> {
        let mut sectors: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (at, bytes) in changes {
            let sector = at - at % SECTOR;
            let content = match sectors.entry(sector) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(bytes_at(self.device, sector, SECTOR as usize).doing("reading a folder")?)
                }
            };
            put(content, (at - sector) as usize, bytes);
        }
        for (sector, content) in sectors {
            self.device.write(sector, &content).doing("writing a folder")?;
            self.flush()?;
        }
        Ok(())
    }
}

/// The long name that the pieces before a short entry are, if they belong to it.
fn long_name(pieces: &[(u64, Vec<u8>)], short: &[u8; 11]) -> Option<String> {
    if pieces.len() > MOST_PIECES {
        return None;
    }
    let sum = checksum(short);
    let mut units = Vec::new();
    for (number, (_, piece)) in (1_u8..).zip(pieces.iter().rev()) {
        let last = if usize::from(number) == pieces.len() { 0x40 } else { 0 };
        if piece.first() != Some(&(number | last)) || piece.get(13) != Some(&sum) {
            return None;
        }
        units.extend(UNITS.iter().filter_map(|at| u16_at(piece, *at)));
    }
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    let name = String::from_utf16_lossy(units.get(..end)?);
    (!name.is_empty()).then_some(name)
}

fn pieces_of(name: &str, short: &[u8; 11]) -> Vec<[u8; 32]> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let count = units.len().div_ceil(PIECE);
    let mut pieces = Vec::new();
    for (number, chunk) in (1_u8..).zip(units.chunks(PIECE)) {
        let mut piece = [0; 32];
        let last = if usize::from(number) == count { 0x40 } else { 0 };
        put(&mut piece, 0, &[number | last]);
        put(&mut piece, 11, &[LONG, 0, checksum(short)]);
        // Zero ends the name, and what is behind is filled with ones.
        let padded = chunk.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
        for (at, unit) in UNITS.iter().zip(padded) {
            put(&mut piece, *at, &unit.to_le_bytes());
        }
        pieces.push(piece);
    }
    pieces.reverse();
    pieces
}

fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// A short name for a long one: itself if that is one, else with `~1`, `~2`, ...
fn short_name(name: &str, taken: impl Fn(&[u8; 11]) -> bool) -> Option<[u8; 11]> {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let (base, end) = name.rsplit_once('.').unwrap_or((name, ""));
    if !name.bytes().all(|byte| legal(&byte) || matches!(byte, b'+' | b'.')) || end.len() > 3 {
        return None;
    }
    let make = |base: &[u8]| {
        let mut short = [b' '; 11];
        put(&mut short, 0, base);
        put(&mut short, 8, end.to_ascii_uppercase().as_bytes());
        short
    };
    let upper = base.to_ascii_uppercase();
    if upper.len() <= 8 && upper.bytes().all(|byte| legal(&byte)) && !taken(&make(upper.as_bytes())) {
        return Some(make(upper.as_bytes()));
    }
    let stem: Vec<u8> = upper.bytes().take_while(legal).take(5).collect();
    let candidates = (1..100).map(|number| make(format!("{}~{number}", String::from_utf8_lossy(&stem)).as_bytes()));
    candidates.into_iter().find(|short| !taken(short))
}

fn short_text(short: &[u8; 11]) -> String {
    let part = |from, length| {
        let text = String::from_utf8_lossy(slice(short, from, length).unwrap_or_default()).into_owned();
        text.trim_end_matches(' ').to_owned()
    };
    match part(8, 3) {
        end if end.is_empty() => part(0, 8),
        end => format!("{}.{end}", part(0, 8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names() {
        let free = |_: &[u8; 11]| false;
        assert_eq!(short_name("moby_2.efi", free).as_ref(), Some(b"MOBY_2  EFI"));
        assert_eq!(short_name("moby_2+3.efi", free).as_ref(), Some(b"MOBY_~1 EFI"));
        assert_eq!(short_name("moby_12345.efi", |short| short == b"MOBY_~1 EFI").as_ref(), Some(b"MOBY_~2 EFI"));
        assert_eq!((short_name("a b.efi", free), short_name("a.html", free)), (None, None));
    }

    /// A volume of 5000 clusters of a sector each, with a top folder of `clusters`, all of whose entries are `entry`.
    fn volume(clusters: u32, entry: &[u8; 32], look: impl FnOnce(&Volume<'_>)) {
        let path = std::env::temp_dir().join(format!("moby-update-folder-{clusters}-{}", std::process::id()));
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let mut bytes = vec![0; 512 * (1 + 40 + 5000)];
        for (at, value) in [(11, 512_u16), (14, 1), (510, 0xaa55)] {
            put(&mut bytes, at, &value.to_le_bytes());
        }
        put(&mut bytes, 13, &[1, 1, 0, 1]);
        for (at, value) in [(32, 5041_u32), (36, 40), (44, 2)] {
            put(&mut bytes, at, &value.to_le_bytes());
        }
        for cluster in 2..clusters + 2 {
            let next = if cluster == clusters + 1 { 0x0fff_ffff } else { cluster + 1 };
            put(&mut bytes, 512 + 4 * cluster as usize, &next.to_le_bytes());
            for slot in 0..16 {
                put(&mut bytes, 512 * (41 + cluster as usize - 2) + 32 * slot, entry);
            }
        }
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        let device = super::super::device::FileDevice::new(file).unwrap();
        look(&Volume::open(&device, 0, bytes.len() as u64).unwrap());
    }

    #[test]
    fn folders_and_names_have_an_end() {
        let mut entry = [0; 32];
        put(&mut entry, 0, b"SHORT   EFI");
        volume(4096, &entry, |volume| assert_eq!(volume.list(2).unwrap().len(), 65_536));
        volume(4097, &entry, |volume| {
            let failure = volume.list(2).unwrap_err().to_string();
            assert!(failure.contains("more than 65536 entries") && volume.slots(2).is_err(), "{failure}");
        });
        // Nothing but pieces of a name that never comes.
        put(&mut entry, 11, &[LONG]);
        volume(4096, &entry, |volume| assert!(volume.list(2).unwrap().is_empty()));
        let short = *b"SHORT   EFI";
        let mut pieces: Vec<_> =
            pieces_of(&"n".repeat(260), &short).into_iter().map(|piece| (0, piece.to_vec())).collect();
        assert_eq!((pieces.len(), long_name(&pieces, &short).map(|name| name.len())), (20, Some(260)));
        pieces.insert(0, (0, pieces.first().unwrap().1.clone()));
        assert_eq!(long_name(&pieces, &short), None);
    }

    #[test]
    fn long_names_go_there_and_back() {
        for name in ["moby_1+3.efi", "moby_99999+2-1.efi", "thirteen-1234", "a"] {
            let short = *b"SHORT   EFI";
            let pieces: Vec<_> = pieces_of(name, &short).into_iter().map(|piece| (0, piece.to_vec())).collect();
            assert_eq!(pieces.len() + 1, slots_for(name));
            assert_eq!(long_name(&pieces, &short).as_deref(), Some(name));
            assert_eq!(long_name(&pieces, b"OTHER   EFI"), None);
        }
    }
}
