//! From names and sizes to the place of every cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Options;
use super::format::{ENTRY_SIZE, FOLDER_LIMIT, Geometry, Kind, ROOT_ENTRIES, long_name_entries};
use super::name;
use crate::error::{Error, Result};
use crate::formats::source::Source;

/// Largest file: the size field has 32 bits.
const FILE_LIMIT: u64 = u32::MAX as u64;
/// Folders in folders. Firmware gives up at paths of 260 characters; this bounds recursion.
const DEPTH_LIMIT: usize = 64;
/// Sectors in front of FAT32's first table, as every formatting program has it: two boot sectors and room.
const RESERVED_FAT32: u64 = 32;
/// Largest cluster that all drivers take.
const CLUSTER_LIMIT: u64 = 32 << 10;

/// A file or folder with its place.
#[derive(Debug)]
pub struct Node {
    /// Long name; empty for the root.
    pub name: String,
    /// 8.3 name, and whether the long one must stand beside it.
    pub short: ([u8; 11], bool),
    /// What it is.
    pub content: NodeContent,
    /// First cluster; 0 for empty files and the fixed root.
    pub cluster: u32,
    /// Clusters from there on.
    pub clusters: u32,
}

/// What a node is.
#[derive(Debug)]
pub enum NodeContent {
    /// A folder: folded name to index of the node.
    Folder {
        /// The folder above; the root is its own.
        parent: usize,
        /// What is in it.
        children: BTreeMap<String, usize>,
    },
    /// A file.
    File(Arc<dyn Source>),
}

/// Everything in the volume; the root has index 0.
#[derive(Debug)]
pub struct Nodes(pub Vec<Node>);

impl Nodes {
    /// Only the root.
    pub fn new() -> Nodes {
        let content = NodeContent::Folder { parent: 0, children: BTreeMap::new() };
        Nodes(vec![Node { name: String::new(), short: ([b' '; 11], false), content, cluster: 0, clusters: 0 }])
    }

    /// Adds a file, or a folder if there is no content. Folders above it are made.
    pub fn insert(&mut self, path: &str, content: Option<Arc<dyn Source>>) -> Result<()> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let Some((last, above)) = parts.split_last() else { return Ok(()) };
        if above.len() >= DEPTH_LIMIT {
            return Err(Error::refused(format!(
                "\"{}\" lies more than {DEPTH_LIMIT} folders deep",
                path.escape_debug()
            )));
        }
        if let Some(size) = content.as_ref().map(|content| content.size()).filter(|size| *size > FILE_LIMIT) {
            return Err(Error::refused(format!(
                "{} has {size} bytes, and FAT holds files of at most {FILE_LIMIT} bytes",
                path.escape_debug()
            )));
        }
        let mut at = 0;
        for part in above {
            at = self.child(at, part, None, path)?;
        }
        self.child(at, last, content, path).map(|_| ())
    }

    fn child(&mut self, folder: usize, name: &str, content: Option<Arc<dyn Source>>, path: &str) -> Result<usize> {
        name::check(name)?;
        let next = self.0.len();
        let NodeContent::Folder { children, .. } = &mut self.0[folder].content else {
            return Err(Error::refused(format!("\"{}\" goes through a file", path.escape_debug())));
        };
        if let Some(&known) = children.get(&name::folded(name)) {
            let node = &self.0[known];
            if node.name != name || content.is_some() {
                return Err(Error::refused(format!(
                    "\"{}\" and \"{}\" in one folder are the same name on FAT",
                    node.name.escape_debug(),
                    name.escape_debug()
                )));
            }
            return Ok(known);
        }
        children.insert(name::folded(name), next);
        let content = match content {
            Some(source) => NodeContent::File(source),
            None => NodeContent::Folder { parent: folder, children: BTreeMap::new() },
        };
        self.0.push(Node { name: name.to_owned(), short: ([b' '; 11], false), content, cluster: 0, clusters: 0 });
        Ok(next)
    }

    /// What is in a folder, in order.
    pub fn children(&self, folder: usize) -> impl Iterator<Item = usize> {
        let children = match &self.0[folder].content {
            NodeContent::Folder { children, .. } => Some(children),
            NodeContent::File(_) => None,
        };
        children.into_iter().flat_map(BTreeMap::values).copied()
    }

    /// Finds a node by its path, case ignored.
    pub fn find(&self, path: &str) -> Option<usize> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(0, |at, part| match &self.0[at].content {
            NodeContent::Folder { children, .. } => children.get(&name::folded(part)).copied(),
            NodeContent::File(_) => None,
        })
    }

    /// All nodes in the order in which they lie on the volume: folders before files, so that a reader finds all names
    /// close together; each in the order of names, depth first.
    pub fn order(&self) -> Vec<usize> {
        let mut folders = Vec::new();
        let mut files = Vec::new();
        let mut stack = vec![0];
        while let Some(at) = stack.pop() {
            match self.0[at].content {
                NodeContent::Folder { .. } => folders.push(at),
                NodeContent::File(_) => files.push(at),
            }
            let children: Vec<usize> = self.children(at).collect();
            stack.extend(children.into_iter().rev());
        }
        folders.extend(files);
        folders
    }

    /// Gives everything its 8.3 name. Needed before [`Nodes::bytes`].
    fn name_all(&mut self) {
        for folder in 0..self.0.len() {
            let children: Vec<usize> = self.children(folder).collect();
            let names: Vec<&str> = children.iter().map(|&child| self.0[child].name.as_str()).collect();
            let shorts = name::short_names(&names);
            for (child, short) in children.into_iter().zip(shorts) {
                self.0[child].short = short;
            }
        }
    }

    /// Bytes of a file, or of a folder's entries.
    fn bytes(&self, at: usize) -> u64 {
        if let NodeContent::File(source) = &self.0[at].content {
            return source.size();
        }
        // The root has the volume's label, other folders "." and "..".
        let own = if at == 0 { 1 } else { 2 };
        let entries: u64 = self
            .children(at)
            .map(|child| {
                let node = &self.0[child];
                1 + if node.short.1 { long_name_entries(&node.name) } else { 0 }
            })
            .sum();
        (own + entries) * ENTRY_SIZE
    }

    /// Plans the volume: chooses the geometry and gives everything its clusters.
    pub fn place(&mut self, options: &Options) -> Result<Geometry> {
        self.name_all();
        for at in 0..self.0.len() {
            if !matches!(self.0[at].content, NodeContent::File(_)) && self.bytes(at) > FOLDER_LIMIT {
                return Err(Error::refused(format!(
                    "the folder \"{}\" has more names than a folder on FAT holds",
                    self.0[at].name.escape_debug()
                )));
            }
        }
        let geometry = choose(self, options)?;
        let mut next = 2u64;
        for at in self.order() {
            let in_clusters = at != 0 || geometry.kind == Kind::Fat32;
            let clusters = if in_clusters { self.bytes(at).div_ceil(geometry.cluster()) } else { 0 };
            // Both fit: the geometry has room for all, and its clusters have 28-bit numbers.
            self.0[at].cluster = if clusters > 0 { next as u32 } else { 0 };
            self.0[at].clusters = clusters as u32;
            next += clusters;
        }
        Ok(geometry)
    }
}

/// Chooses kind and cluster size: FAT32 from 33 MiB on, which is where it becomes legal, because firmware is only
/// promised to read FAT32 from a fixed disk (UEFI 2.10, 13.3); below that FAT16, below 8 MiB FAT12. Among legal
/// cluster sizes the largest one up to 4 KiB is taken, more only for volumes of more than 8 GiB.
fn choose(nodes: &Nodes, options: &Options) -> Result<Geometry> {
    let sector = options.sector_size.bytes();
    let size = |at: usize| nodes.bytes(at);
    let total: u64 = (1..nodes.0.len()).map(size).fold(options.free, u64::saturating_add).max(options.size);
    let kinds = match options.kind {
        Some(kind) => vec![kind],
        None if total < 8 << 20 => vec![Kind::Fat12, Kind::Fat16, Kind::Fat32],
        None => vec![Kind::Fat32, Kind::Fat16],
    };
    let preferred = match total {
        0..0x2_0000_0000 => 4096,
        0x2_0000_0000..0x4_0000_0000 => 8192,
        0x4_0000_0000..0x8_0000_0000 => 16_384,
        _ => CLUSTER_LIMIT,
    };
    for kind in &kinds {
        // Down from the preferred size, then up from it.
        let all = std::iter::successors(Some(sector), |size| Some(size * 2)).take_while(|size| *size <= CLUSTER_LIMIT);
        let mut sizes: Vec<u64> = all.collect();
        let above = sizes.partition_point(|size| *size <= preferred);
        match kind {
            Kind::Fat12 => {}
            _ => sizes[..above].reverse(),
        }
        for cluster in sizes {
            let geometry = geometry(nodes, options, *kind, cluster);
            if kind.clusters().contains(&geometry.clusters) && geometry.sectors <= u64::from(u32::MAX) {
                return Ok(geometry);
            }
        }
    }
    // A kind that was asked for and has more clusters at least than the content needs.
    if let Some(kind) = options.kind {
        let mut geometry = geometry(nodes, options, kind, sector);
        if geometry.clusters < *kind.clusters().start() {
            geometry.clusters = *kind.clusters().start();
            return Ok(finished(geometry));
        }
    }
    Err(Error::refused(format!("{total} bytes do not fit into one FAT volume")))
}

/// The volume that holds everything at a given cluster size.
fn geometry(nodes: &Nodes, options: &Options, kind: Kind, cluster: u64) -> Geometry {
    let sector = options.sector_size.bytes();
    let large = kind == Kind::Fat32;
    let first = if large { 0 } else { 1 };
    let needed = (first..nodes.0.len()).map(|at| nodes.bytes(at).div_ceil(cluster)).sum::<u64>();
    let root = nodes.bytes(0).max(ROOT_ENTRIES * ENTRY_SIZE);
    let mut geometry = Geometry {
        kind,
        sector,
        cluster_sectors: cluster / sector,
        reserved: if large { RESERVED_FAT32 } else { 1 },
        table_sectors: 0,
        root_sectors: if large { 0 } else { root.div_ceil(sector) },
        clusters: needed.saturating_add(options.free.div_ceil(cluster)).max(1),
        sectors: 0,
    };
    geometry = finished(geometry);
    // Fill what was asked for. The tables grow with the clusters: guess without them, then come down and up.
    let wanted = options.size / sector;
    let filled = |clusters| finished(Geometry { clusters, ..geometry });
    let mut clusters = wanted.saturating_sub(geometry.reserved + geometry.root_sectors) / geometry.cluster_sectors;
    while clusters > geometry.clusters && filled(clusters).sectors > wanted {
        clusters -= (filled(clusters).sectors - wanted).div_ceil(geometry.cluster_sectors).min(clusters);
    }
    if clusters <= geometry.clusters {
        return geometry;
    }
    while filled(clusters + 1).sectors <= wanted {
        clusters += 1;
    }
    filled(clusters)
}

/// Adds what follows from the number of clusters. Sectors that are too few for one more cluster and its entry in the
/// tables stay outside the volume: readers count clusters by sectors, and would count one more than the tables hold.
fn finished(mut geometry: Geometry) -> Geometry {
    let bits = geometry.clusters.saturating_add(2).saturating_mul(geometry.kind.bits());
    geometry.table_sectors = bits.div_ceil(8 * geometry.sector);
    if geometry.kind == Kind::Fat32 {
        // Clusters then start at multiples of their size, which disks and flash reward.
        geometry.reserved = RESERVED_FAT32;
        let data = geometry.data();
        geometry.reserved += data.next_multiple_of(geometry.cluster_sectors) - data;
    }
    geometry.sectors = geometry.data().saturating_add(geometry.clusters.saturating_mul(geometry.cluster_sectors));
    geometry
}
