//! A FAT volume, written front to back: boot sectors, tables, folders, files. Every file lies in one piece.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use super::Kind;
use super::format::{self, ARCHIVE, BACKUP_SECTOR, BOOT_SECTOR_SIZE, FOLDER, Geometry, Stamp, VOLUME_LABEL, Volume};
use super::layout::{NodeContent, Nodes};
use crate::error::{Error, Result};
use crate::formats::ahead::{self, Part};
use crate::formats::gpt::SectorSize;
use crate::formats::source::{Sequential, Source};
use crate::store::{Digest, Hasher};

/// What lies in the volume.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path; folders on the way are made.
    pub path: String,
    /// Its bytes; `None` for an empty folder.
    pub content: Option<Arc<dyn Source>>,
}

/// How the volume is laid out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which FAT; chosen by size if there is none. A kind that needs more clusters than the content has makes the
    /// volume larger: FAT32 begins at 33 MiB.
    pub kind: Option<Kind>,
    /// Bytes of a sector, as those of the disk.
    pub sector_size: SectorSize,
    /// Label: at most 11 capital letters, digits, spaces and `-_`.
    pub label: String,
    /// The time of everything, in seconds since the epoch.
    pub time: i64,
    /// Bytes that the volume has at least.
    pub size: u64,
    /// Bytes that are free at least.
    pub free: u64,
    /// Serial number; derived from the content if there is none.
    pub id: Option<u32>,
    /// Sectors in front of the volume on its disk; some BIOS loaders want to know.
    pub hidden_sectors: u32,
    /// A loader's boot sector of 512 bytes; its parameters are replaced.
    pub loader: Option<[u8; BOOT_SECTOR_SIZE]>,
}

/// A planned volume: every place is known, nothing is written yet.
#[derive(Debug)]
pub struct Fat {
    nodes: Nodes,
    geometry: Geometry,
    volume: Volume,
    stamp: Stamp,
    /// Bytes, with the few sectors that are asked for and make no cluster.
    size: u64,
    identity: Digest,
}

impl Fat {
    /// Plans a volume. Refuses what FAT cannot hold.
    pub fn new(files: &[File], options: &Options) -> Result<Fat> {
        let label = label(&options.label)?;
        let mut nodes = Nodes::new();
        for file in files {
            nodes.insert(&file.path, file.content.clone())?;
        }
        let geometry = nodes.place(options)?;
        let identity = identity(&nodes, options);
        let [a, b, c, d, ..] = *identity.as_bytes();
        let volume = Volume {
            id: options.id.unwrap_or(u32::from_le_bytes([a, b, c, d])),
            label,
            hidden_sectors: options.hidden_sectors,
            root_cluster: nodes.0[0].cluster,
            loader: options.loader,
        };
        let size = options.size.next_multiple_of(geometry.sector).max(geometry.sectors * geometry.sector);
        Ok(Fat { nodes, geometry, volume, stamp: Stamp::of(options.time), size, identity })
    }

    /// Where everything lies.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The sectors of a file, counted from the start of the volume. `None` if there is no such file.
    pub fn sectors_of(&self, path: &str) -> Option<Range<u64>> {
        let node = &self.nodes.0[self.nodes.find(path)?];
        let NodeContent::File(content) = &node.content else { return None };
        let start = self.geometry.sector_of(node.cluster);
        Some(start..start + content.size().div_ceil(self.geometry.sector))
    }

    /// Puts other bytes of the same size in a file's place. Loaders that carry their own sectors' numbers need it: the
    /// place is known first, and depends on sizes only. The serial number stays.
    pub fn replace(&mut self, path: &str, content: Arc<dyn Source>) -> Result<()> {
        let node = self.nodes.find(path).map(|at| &mut self.nodes.0[at].content);
        match node {
            Some(NodeContent::File(old)) if old.size() == content.size() => {
                let mut hasher = Hasher::new();
                hasher.field(self.identity.as_bytes());
                hasher.field(path.as_bytes());
                hasher.field(content.identity().as_bytes());
                self.identity = hasher.finish();
                *old = content;
                Ok(())
            }
            _ => Err(Error::failed(format!(
                "no file \"{}\" of {} bytes to replace",
                path.escape_debug(),
                content.size()
            ))),
        }
    }

    /// Replaces the loader's boot sector, for the same reason.
    pub fn set_loader(&mut self, loader: [u8; BOOT_SECTOR_SIZE]) {
        let mut hasher = Hasher::new();
        hasher.field(self.identity.as_bytes());
        hasher.field(&loader);
        self.identity = hasher.finish();
        self.volume.loader = Some(loader);
    }

    /// Sectors in front of the tables.
    fn write_boot_sectors(&self, out: &mut Sequential<'_>) -> Result<()> {
        let boot = format::boot_sector(&self.geometry, &self.volume);
        let sector = self.geometry.sector;
        out.bytes(&boot)?;
        if self.geometry.kind == Kind::Fat32 {
            let used: u64 = self.nodes.0.iter().map(|node| u64::from(node.clusters)).sum();
            let free = (self.geometry.clusters - used) as u32;
            let next = if free > 0 { used as u32 + 2 } else { u32::MAX };
            let information = format::information_sector(free, next);
            out.zeros_to(sector)?;
            out.bytes(&information)?;
            out.zeros_to(BACKUP_SECTOR * sector)?;
            out.bytes(&boot)?;
            out.zeros_to((BACKUP_SECTOR + 1) * sector)?;
            out.bytes(&information)?;
        }
        out.zeros_to(self.geometry.reserved * sector)
    }

    /// One allocation table: two entries of its own, then a chain for every node, then zeros.
    fn write_table(&self, order: &[usize], out: &mut Sequential<'_>) -> Result<()> {
        let start = out.position();
        let end = self.geometry.kind.end_of_chain();
        let chains = order.iter().map(|&at| &self.nodes.0[at]).filter(|node| node.clusters > 0).flat_map(|node| {
            let last = node.cluster + node.clusters - 1;
            (node.cluster + 1..=last).chain([end])
        });
        // The first holds the medium's byte, the second says that the volume was left clean.
        let mut entries = [end & !0xff | 0xf8, end].into_iter().chain(chains);
        let mut bytes = Vec::with_capacity(24 << 10);
        // Two at a time: two entries of 12 bits are three bytes.
        while let Some(first) = entries.next() {
            let second = entries.next().unwrap_or(0);
            match self.geometry.kind {
                Kind::Fat12 => bytes.extend_from_slice(&(first | second << 12).to_le_bytes()[..3]),
                Kind::Fat16 => bytes.extend_from_slice(&(first | second << 16).to_le_bytes()),
                Kind::Fat32 => {
                    bytes.extend_from_slice(&first.to_le_bytes());
                    bytes.extend_from_slice(&second.to_le_bytes());
                }
            }
            if bytes.len() >= 23 << 10 {
                out.bytes(&bytes)?;
                bytes.clear();
            }
        }
        // The odd entry beside the last one may lie beyond the table; it is zero.
        let room = (self.geometry.table_sectors * self.geometry.sector).saturating_sub(out.position() - start);
        bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        out.bytes(&bytes)
    }

    /// Bytes of a folder's entries.
    fn folder(&self, at: usize) -> Vec<u8> {
        let node = &self.nodes.0[at];
        let mut out = Vec::new();
        match &node.content {
            NodeContent::Folder { .. } if at == 0 => {
                out.extend(format::entry(&self.volume.label, VOLUME_LABEL, self.stamp, 0, 0));
            }
            NodeContent::Folder { parent, .. } => {
                // ".." says 0 for the root, whatever cluster that has (section 6.5).
                let above = if *parent == 0 { 0 } else { self.nodes.0[*parent].cluster };
                out.extend(format::entry(b".          ", FOLDER, self.stamp, node.cluster, 0));
                out.extend(format::entry(b"..         ", FOLDER, self.stamp, above, 0));
            }
            NodeContent::File(_) => {}
        }
        for child in self.nodes.children(at) {
            let child = &self.nodes.0[child];
            let (short, long) = &child.short;
            if *long {
                out.extend(format::long_name(&child.name, short).concat());
            }
            let (attributes, size) = match &child.content {
                NodeContent::Folder { .. } => (FOLDER, 0),
                // Checked to be below 4 GiB when it was inserted.
                NodeContent::File(content) => (ARCHIVE, content.size() as u32),
            };
            out.extend(format::entry(short, attributes, self.stamp, child.cluster, size));
        }
        out
    }
}

impl Source for Fat {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let Geometry { sector, reserved, table_sectors, .. } = self.geometry;
        let order = self.nodes.order();
        let mut out = Sequential::new(out);
        self.write_boot_sectors(&mut out)?;
        for number in 1..=2 {
            self.write_table(&order, &mut out)?;
            out.zeros_to((reserved + number * table_sectors) * sector)?;
        }
        // Folders come before files.
        let mut files = Vec::new();
        for at in order {
            let node = &self.nodes.0[at];
            let position = self.geometry.sector_of(node.cluster) * sector;
            match &node.content {
                NodeContent::File(content) => {
                    if node.clusters > 0 {
                        files.push(Part { position, source: content.as_ref() });
                    }
                }
                NodeContent::Folder { .. } => {
                    // The fixed root lies right behind the tables.
                    if node.cluster > 0 {
                        out.zeros_to(position)?;
                    }
                    out.bytes(&self.folder(at))?;
                    if node.cluster == 0 {
                        out.zeros_to(self.geometry.data() * sector)?;
                    }
                }
            }
        }
        ahead::write(&mut out, &files)?;
        out.zeros_to(self.size)
    }
}

fn label(text: &str) -> Result<[u8; 11]> {
    let text = if text.is_empty() { "NO NAME" } else { text };
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" -_".contains(&byte);
    if text.len() > 11 || !text.bytes().all(allowed) || text.starts_with(' ') {
        return Err(Error::usage(format!("\"{}\" is no label for a FAT volume", text.escape_debug()))
            .hint("a label has at most 11 capital letters, digits, spaces, - and _"));
    }
    let mut out = [b' '; 11];
    out[..text.len()].copy_from_slice(text.as_bytes());
    Ok(out)
}

/// Names, contents and options.
fn identity(nodes: &Nodes, options: &Options) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(b"fat");
    // The kind and sizes that were asked for; what was chosen follows from them and the content.
    hasher.field(format!("{:?}", options.kind).as_bytes());
    hasher.field(options.label.as_bytes());
    for number in [options.sector_size.bytes(), options.size, options.free, options.time.cast_unsigned()] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.field(&options.id.map_or_else(Vec::new, |id| id.to_le_bytes().to_vec()));
    hasher.update(&options.hidden_sectors.to_le_bytes());
    hasher.field(options.loader.as_ref().map_or(&[][..], |loader| loader));
    // Folder by folder, so that no two trees give the same fields.
    for folder in nodes.order() {
        let NodeContent::Folder { children, .. } = &nodes.0[folder].content else { continue };
        hasher.update(&(children.len() as u64).to_le_bytes());
        for &child in children.values() {
            hasher.field(nodes.0[child].name.as_bytes());
            match &nodes.0[child].content {
                NodeContent::File(content) => hasher.field(content.identity().as_bytes()),
                NodeContent::Folder { .. } => hasher.field(b""),
            }
        }
    }
    hasher.finish()
}
