//! An ISO 9660 image, written front to back.

use std::io::Write;
use std::sync::Arc;

use super::directory;
use super::el_torito::{self, Patched, Placed, Platform};
use super::format::{Descriptor, Extent, SECTOR, SYSTEM_AREA, TreePlaces, terminator};
use super::hybrid::{self, Hybrid};
use super::layout::{Data, Layout};
use crate::error::{Error, Result};
use crate::formats::ahead::{self, Part};
use crate::formats::source::{Sequential, Source};
use crate::rootfs::{InodeId, Kind, Tree};
use crate::store::{Digest, Hasher};

/// Characters of a label: the volume identifier has 32, Joliet's 16.
const LABEL_LIMIT: usize = 32;

/// What is booted.
#[derive(Clone, Debug)]
pub enum BootImage {
    /// A program for BIOS that stands in the tree, by its path. It gets a boot information table.
    Program(Vec<u8>),
    /// A FAT volume for UEFI, which stands in no folder.
    Volume(Arc<dyn Source>),
}

/// How the image is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Label: at most 32 capital letters, digits and `_-`.
    pub label: String,
    /// The time of the volume, in seconds since the epoch. Files have their own.
    pub time: i64,
    /// Whether to write a Joliet tree for Windows beside Rock Ridge.
    pub joliet: bool,
    /// What is booted, in order of preference.
    pub boot: Vec<BootImage>,
    /// Whether it is also to boot as a disk.
    pub hybrid: Option<Hybrid>,
}

/// A planned image.
#[derive(Debug)]
pub struct Iso {
    layout: Layout,
    label: String,
    time: i64,
    /// Folders of the primary tree: records and sectors behind them.
    primary: Vec<Extent>,
    /// Folders of the Joliet tree, and their order; empty without one.
    joliet: Vec<Extent>,
    joliet_order: Vec<usize>,
    path_tables: [TreePlaces; 2],
    catalog: u32,
    images: Vec<Placed>,
    /// Boot volumes, which stand in no folder, in the order of their sectors.
    volumes: Vec<Data>,
    /// Partitions of the hybrid table, behind the files.
    partitions: Vec<Data>,
    system_area: Vec<u8>,
    tail: Vec<u8>,
    sectors: u64,
    identity: Digest,
}

impl Iso {
    /// Plans an image of a tree. Refuses what the format cannot hold. Extended attributes are not written: ISO 9660 has
    /// none that Linux reads.
    pub fn new(tree: &Tree, options: &Options) -> Result<Iso> {
        check_label(&options.label)?;
        let programs: Vec<InodeId> =
            options.boot.iter().filter_map(|image| program(tree, image).transpose()).collect::<Result<_>>()?;
        let layout = Layout::new(tree, &programs)?;
        let identity = identity(&layout, options);
        let mut iso = Iso {
            primary: vec![Extent::default(); layout.folders.len()],
            joliet: if options.joliet { vec![Extent::default(); layout.folders.len()] } else { Vec::new() },
            joliet_order: if options.joliet { directory::joliet_order(&layout) } else { Vec::new() },
            layout,
            label: options.label.clone(),
            time: options.time,
            path_tables: [TreePlaces {
                path_table_size: 0,
                little_path_table: 0,
                big_path_table: 0,
                root: Extent::default(),
            }; 2],
            catalog: 0,
            images: Vec::new(),
            volumes: Vec::new(),
            partitions: Vec::new(),
            system_area: Vec::new(),
            tail: Vec::new(),
            sectors: 0,
            identity,
        };
        iso.place(tree, options)?;
        Ok(iso)
    }

    /// Gives everything its sectors, in the order in which it is written.
    fn place(&mut self, tree: &Tree, options: &Options) -> Result<()> {
        let mut next = SYSTEM_AREA + 2 + u64::from(!options.boot.is_empty()) + u64::from(options.joliet);
        let primary_order: Vec<usize> = (0..self.layout.folders.len()).collect();
        for joliet in [false, true] {
            let (order, places) =
                if joliet { (&self.joliet_order, &self.joliet) } else { (&primary_order, &self.primary) };
            if places.is_empty() {
                continue;
            }
            let size = directory::path_table(&self.layout, order, joliet, places, false).len() as u64;
            let tables = &mut self.path_tables[usize::from(joliet)];
            tables.path_table_size = number(size)?;
            tables.little_path_table = number(next)?;
            tables.big_path_table = number(next + size.div_ceil(SECTOR))?;
            next += 2 * size.div_ceil(SECTOR);
        }
        if !options.boot.is_empty() {
            self.catalog = number(next)?;
            next += 1;
        }
        for index in 0..self.primary.len() {
            let bytes = directory::primary(&self.layout, index, &self.primary);
            self.primary[index] = Extent { sector: number(next)?, size: number(bytes.records.len() as u64)? };
            next += (bytes.records.len() + bytes.continuation.len()) as u64 / SECTOR;
        }
        for index in 0..self.joliet.len() {
            let size = directory::joliet(&self.layout, index, &self.joliet).len() as u64;
            self.joliet[index] = Extent { sector: number(next)?, size: number(size)? };
            next += size / SECTOR;
        }
        for volume in options.boot.iter().filter_map(|image| match image {
            BootImage::Volume(volume) => Some(volume),
            BootImage::Program(_) => None,
        }) {
            self.volumes.push(Data { source: Arc::clone(volume), sector: number(next)? });
            next += sectors_of(volume.size());
        }
        for data in &mut self.layout.data {
            data.sector = number(next)?;
            next += sectors_of(data.source.size());
        }
        self.path_tables[0].root = self.primary[0];
        self.path_tables[1].root = self.joliet.first().copied().unwrap_or_default();
        self.place_images(tree, options)?;
        for partition in options.hybrid.iter().flat_map(|hybrid| &hybrid.partitions) {
            next = next.next_multiple_of(hybrid::ALIGNMENT);
            self.partitions.push(Data { source: Arc::clone(&partition.content), sector: number(next)? });
            next += hybrid::room(partition);
        }
        if options.hybrid.is_some() {
            next = (next + hybrid::tail()).next_multiple_of(hybrid::multiple(options.hybrid.as_ref()));
        }
        number(next)?;
        self.sectors = next;
        if let Some(disk) = &options.hybrid {
            (self.system_area, self.tail) = hybrid::encode(disk, &self.images, &self.partitions, next, self.identity)?;
        }
        Ok(())
    }

    /// Lists what is booted, and writes boot information tables into programs.
    fn place_images(&mut self, tree: &Tree, options: &Options) -> Result<()> {
        let mut volumes = self.volumes.iter();
        for image in &options.boot {
            let placed = match image {
                BootImage::Volume(volume) => {
                    let sector = volumes.next().map_or(0, |data| data.sector);
                    Placed { platform: Platform::Efi, sector, size: volume.size() }
                }
                BootImage::Program(path) => {
                    let data = program(tree, image)?
                        .and_then(|id| self.layout.data_of(tree, id))
                        .and_then(|index| self.layout.data.get_mut(index))
                        .ok_or_else(|| Error::usage(format!("the boot program /{} is empty", path.escape_ascii())))?;
                    data.source = Arc::new(Patched::new(&data.source, data.sector)?);
                    Placed { platform: Platform::Bios, sector: data.sector, size: data.source.size() }
                }
            };
            self.images.push(placed);
        }
        Ok(())
    }

    /// Where boot images lie, in the order of the options: sector of 2,048 bytes and bytes.
    pub fn boot_images(&self) -> impl Iterator<Item = (u32, u64)> {
        self.images.iter().map(|image| (image.sector, image.size))
    }

    fn write_descriptors(&self, out: &mut Sequential<'_>) -> Result<()> {
        let descriptor = |joliet| Descriptor {
            joliet,
            label: &self.label,
            // Checked when it was planned.
            sectors: self.sectors as u32,
            places: self.path_tables[usize::from(joliet)],
            time: self.time,
        };
        out.bytes(&descriptor(false).encode())?;
        if !self.images.is_empty() {
            // El Torito wants to be in sector 17.
            out.bytes(&el_torito::boot_record(self.catalog))?;
        }
        if !self.joliet.is_empty() {
            out.bytes(&descriptor(true).encode())?;
        }
        out.bytes(&terminator())
    }
}

impl Source for Iso {
    fn size(&self) -> u64 {
        self.sectors * SECTOR
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut out = Sequential::new(out);
        let at = |sector: u32| u64::from(sector) * SECTOR;
        out.bytes(&self.system_area)?;
        out.zeros_to(SYSTEM_AREA * SECTOR)?;
        self.write_descriptors(&mut out)?;
        let primary_order: Vec<usize> = (0..self.layout.folders.len()).collect();
        let trees = [(false, &primary_order, &self.primary), (true, &self.joliet_order, &self.joliet)];
        for (joliet, order, places) in trees.into_iter().filter(|(.., places)| !places.is_empty()) {
            let tables = self.path_tables[usize::from(joliet)];
            for (sector, big_endian) in [(tables.little_path_table, false), (tables.big_path_table, true)] {
                out.zeros_to(at(sector))?;
                out.bytes(&directory::path_table(&self.layout, order, joliet, places, big_endian))?;
            }
        }
        if !self.images.is_empty() {
            out.zeros_to(at(self.catalog))?;
            out.bytes(&el_torito::catalog(&self.images))?;
        }
        for (index, place) in self.primary.iter().enumerate() {
            out.zeros_to(at(place.sector))?;
            let bytes = directory::primary(&self.layout, index, &self.primary);
            out.bytes(&bytes.records)?;
            out.bytes(&bytes.continuation)?;
        }
        for (index, place) in self.joliet.iter().enumerate() {
            out.zeros_to(at(place.sector))?;
            out.bytes(&directory::joliet(&self.layout, index, &self.joliet))?;
        }
        let data = self.volumes.iter().chain(&self.layout.data).chain(&self.partitions);
        let parts: Vec<Part<'_>> =
            data.map(|data| Part { position: at(data.sector), source: data.source.as_ref() }).collect();
        ahead::write(&mut out, &parts)?;
        out.zeros_to(self.size() - self.tail.len() as u64)?;
        out.bytes(&self.tail)
    }
}

fn sectors_of(size: u64) -> u64 {
    size.div_ceil(SECTOR)
}

/// A sector's number or a size, which have 32 bits.
fn number(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::refused("the image would be larger than the 8 TiB that ISO 9660 reaches"))
}

/// The inode of a boot program.
fn program(tree: &Tree, image: &BootImage) -> Result<Option<InodeId>> {
    let BootImage::Program(path) = image else { return Ok(None) };
    let found = tree.lookup(path).filter(|id| matches!(tree.inode(*id).kind, Kind::File(_)));
    found
        .map(Some)
        .ok_or_else(|| Error::usage(format!("the boot program /{} is no file in the tree", path.escape_ascii())))
}

fn check_label(label: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if label.len() > LABEL_LIMIT || !label.bytes().all(allowed) {
        return Err(Error::usage(format!("\"{}\" is no label for an ISO 9660 volume", label.escape_debug()))
            .hint("a label has at most 32 capital letters, digits, _ and -"));
    }
    Ok(())
}

/// All names, attributes and contents, and the options.
fn identity(layout: &Layout, options: &Options) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(b"iso9660");
    hasher.field(options.label.as_bytes());
    hasher.update(&options.time.to_le_bytes());
    hasher.update(&[u8::from(options.joliet)]);
    for image in &options.boot {
        match image {
            BootImage::Program(path) => hasher.field(path),
            BootImage::Volume(volume) => hasher.field(volume.identity().as_bytes()),
        }
    }
    hasher.field(options.hybrid.as_ref().map_or(&[][..], |hybrid| &hybrid.boot_code));
    hasher.update(&[u8::from(options.hybrid.is_some())]);
    for partition in options.hybrid.iter().flat_map(|hybrid| &hybrid.partitions) {
        partition.put_into(&mut hasher);
    }
    // Folders with places that are still empty say everything but the places, which follow from it.
    let nowhere = vec![Extent::default(); layout.folders.len()];
    for index in 0..layout.folders.len() {
        let bytes = directory::primary(layout, index, &nowhere);
        hasher.field(&bytes.records);
        hasher.field(&bytes.continuation);
    }
    for data in &layout.data {
        hasher.field(data.source.identity().as_bytes());
    }
    for file in &layout.files {
        hasher.field(format!("{:?}", file.kind).as_bytes());
    }
    hasher.finish()
}
