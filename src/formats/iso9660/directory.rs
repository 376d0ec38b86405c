//! The bytes of folders and path tables. The same functions give the sizes first and the bytes later.

use super::format::{Extent, FOLDER, MULTI_EXTENT, RECORD_LIMIT, RECORD_SIZE, SECTOR, record};
use super::layout::{Entry, FileKind, Layout, What};
use super::rock_ridge::{ContinuationArea, Entries};

/// Where every folder of one tree lies, by index.
pub type Places = [Extent];

/// A folder's sectors in the primary tree: its records, and behind them what did not fit into records.
#[derive(Debug)]
pub struct FolderBytes {
    /// Records, in whole sectors.
    pub records: Vec<u8>,
    /// Continuation area, in whole sectors.
    pub continuation: Vec<u8>,
}

/// Encodes a folder of the primary tree, with Rock Ridge.
pub fn primary(layout: &Layout, index: usize, places: &Places) -> FolderBytes {
    let folder = &layout.folders[index];
    let own = places[index];
    let mut area = ContinuationArea::new(own.sector.wrapping_add((u64::from(own.size) / SECTOR) as u32));
    let mut out = Vec::new();
    let mut entries = Entries::of(&folder.attributes);
    if index == 0 {
        entries = entries.with_protocol();
    }
    let above = &layout.folders[folder.parent];
    let dots = [(0, own, folder, entries), (1, places[folder.parent], above, Entries::of(&above.attributes))];
    for (identifier, extent, folder, entries) in dots {
        let system_use = entries.lay_out(room(1), &mut area);
        push(&mut out, &record(&[identifier], extent, FOLDER, folder.attributes.mtime, &system_use));
    }
    for entry in &folder.entries {
        let identifier = &entry.names.primary;
        let (attributes, target) = match entry.what {
            What::Folder(below) => (&layout.folders[below].attributes, None),
            What::File(file) => (&layout.files[file].attributes, Some(&layout.files[file].kind)),
        };
        let mut entries = Entries::of(attributes).with_name(&entry.name);
        match target {
            Some(FileKind::Symlink(target)) => entries = entries.with_target(target),
            Some(FileKind::Device(major, minor)) => entries = entries.with_device(*major, *minor),
            _ => {}
        }
        let system_use = entries.lay_out(room(identifier.len()), &mut area);
        for (extent, flags) in extents(layout, entry, places) {
            push(&mut out, &record(identifier, extent, flags, attributes.mtime, &system_use));
        }
    }
    FolderBytes { records: padded(out), continuation: area.into_bytes() }
}

/// Encodes a folder of the Joliet tree, which has files and folders only.
pub fn joliet(layout: &Layout, index: usize, places: &Places) -> Vec<u8> {
    let folder = &layout.folders[index];
    let mut out = Vec::new();
    for (identifier, at) in [(0, index), (1, folder.parent)] {
        push(&mut out, &record(&[identifier], places[at], FOLDER, layout.folders[at].attributes.mtime, &[]));
    }
    let mut entries: Vec<&Entry> = folder.entries.iter().collect();
    entries.sort_by(|a, b| a.names.joliet.cmp(&b.names.joliet));
    for entry in entries {
        let mtime = match entry.what {
            What::Folder(below) => layout.folders[below].attributes.mtime,
            What::File(file) if matches!(layout.files[file].kind, FileKind::Regular(_)) => {
                layout.files[file].attributes.mtime
            }
            What::File(_) => continue,
        };
        for (extent, flags) in extents(layout, entry, places) {
            push(&mut out, &record(&entry.names.joliet, extent, flags, mtime, &[]));
        }
    }
    padded(out)
}

/// One record for each extent, all but the last saying that another one follows.
fn extents(layout: &Layout, entry: &Entry, places: &Places) -> Vec<(Extent, u8)> {
    let mut all: Vec<(Extent, u8)> = match entry.what {
        What::Folder(below) => return vec![(places[below], FOLDER)],
        What::File(file) => match layout.files[file].kind {
            FileKind::Regular(Some(data)) => layout.data[data].extents().map(|extent| (extent, MULTI_EXTENT)).collect(),
            _ => vec![(Extent::default(), 0)],
        },
    };
    if let Some(last) = all.last_mut() {
        last.1 = 0;
    }
    all
}

/// Bytes that a record has for system use behind an identifier.
fn room(identifier: usize) -> usize {
    RECORD_LIMIT - (RECORD_SIZE + identifier).next_multiple_of(2)
}

/// Adds a record; none crosses a sector (6.8.1.1).
fn push(out: &mut Vec<u8>, record: &[u8]) {
    let sector = SECTOR as usize;
    if out.len() % sector + record.len() > sector {
        out.resize(out.len().next_multiple_of(sector), 0);
    }
    out.extend(record);
}

fn padded(mut out: Vec<u8>) -> Vec<u8> {
    out.resize(out.len().next_multiple_of(SECTOR as usize), 0);
    out
}

/// The order of folders in a tree's path table: level by level, then by parent, then by identifier. The primary tree's
/// is that of the layout.
pub fn joliet_order(layout: &Layout) -> Vec<usize> {
    let mut order = vec![0];
    let mut next = 0;
    while let Some(&index) = order.get(next) {
        next += 1;
        let mut below: Vec<(&[u8], usize)> = layout.folders[index]
            .entries
            .iter()
            .filter_map(|entry| match entry.what {
                What::Folder(below) => Some((entry.names.joliet.as_ref(), below)),
                What::File(_) => None,
            })
            .collect();
        below.sort();
        order.extend(below.into_iter().map(|(_, below)| below));
    }
    order
}

/// A path table (9.4), in either byte order.
pub fn path_table(layout: &Layout, order: &[usize], joliet: bool, places: &Places, big_endian: bool) -> Vec<u8> {
    let mut numbers = vec![0u16; layout.folders.len()];
    for (at, &index) in order.iter().enumerate() {
        // There are at most 65,535 folders.
        numbers[index] = at as u16 + 1;
    }
    let mut out = Vec::new();
    for &index in order {
        let folder = &layout.folders[index];
        let identifier = if joliet { &folder.names.joliet } else { &folder.names.primary };
        let (sector, parent) = (places[index].sector, numbers[folder.parent]);
        out.extend([identifier.len() as u8, 0]);
        if big_endian {
            out.extend(sector.to_be_bytes());
            out.extend(parent.to_be_bytes());
        } else {
            out.extend(sector.to_le_bytes());
            out.extend(parent.to_le_bytes());
        }
        out.extend(identifier.iter());
        if identifier.len() % 2 == 1 {
            out.push(0);
        }
    }
    out
}
