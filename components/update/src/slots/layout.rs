//! What is on a disk with two slots: partitions by their numbers, kernel images by their names.

use super::bytes::swap_guid;
use super::device::Device;
use super::failure::{Failure, Result};
use super::fat::Volume;
use super::folder::File;
use super::program;
use super::table::{Entry, Table};

/// Where kernel images are on the EFI system partition.
pub const FOLDER: &str = "EFI/Linux";
/// The name of the partitions of a slot that is not in use.
pub const UNUSED: &str = "_empty";
/// The number of the EFI system partition.
pub const ESP: u32 = 1;

/// A slot: two partitions, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// `A` or `B`.
    pub letter: char,
    /// The number of the root's partition.
    pub root: u32,
    /// The number of the hash tree's.
    pub tree: u32,
}

/// Both slots.
pub const SLOTS: [Slot; 2] = [Slot { letter: 'A', root: 2, tree: 3 }, Slot { letter: 'B', root: 4, tree: 5 }];

impl Slot {
    /// The other one.
    pub fn other(self) -> Slot {
        let [a, b] = SLOTS;
        if self == a { b } else { a }
    }

    /// What its partitions are named while it is in use.
    pub fn names(self) -> [String; 2] {
        [format!("root-{}", self.letter), format!("root-verity-{}", self.letter)]
    }
}

/// Attempts that an image on trial has left, and had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// Starts that are left.
    pub left: u32,
    /// Starts that there were.
    pub done: u32,
}

/// A kernel image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its file.
    pub file: File,
    /// Which is the newest: the highest.
    pub generation: u64,
    /// Nothing once a boot was good.
    pub tries: Option<Tries>,
    /// The root hash of its command line; nothing if it cannot be read.
    pub root_hash: Option<[u8; 32]>,
}

/// What a disk with two slots has.
#[derive(Debug)]
pub struct Layout<'d> {
    /// The disk.
    pub device: &'d dyn Device,
    /// Its partitions.
    pub table: Table,
    /// Its EFI system partition.
    pub volume: Volume<'d>,
    /// The first cluster of [`FOLDER`].
    pub folder: u32,
    /// The kernel images, in no order.
    pub images: Vec<Image>,
}

impl<'d> Layout<'d> {
    /// Reads a disk. One without two slots is refused.
    pub fn read(device: &'d dyn Device) -> Result<Layout<'d>> {
        let table = Table::read(device)?;
        for slot in SLOTS {
            for number in [slot.root, slot.tree] {
                if table.get(number).is_none() {
                    return Err(Failure::refused(format!(
                        "no disk with two slots: there is no partition {number} (`disk: {{slots: 2}}` in the blueprint)"
                    )));
                }
            }
        }
        let (volume, folder) = system_partition(device, &table)?;
        let images = images(&volume, folder)?;
        Ok(Layout { device, table, volume, folder, images })
    }

    /// A partition of the table.
    pub fn partition(&self, number: u32) -> Result<Entry> {
        self.table.get(number).ok_or_else(|| Failure::refused(format!("there is no partition {number}")))
    }

    /// Whether a slot is in use.
    pub fn in_use(&self, slot: Slot) -> bool {
        self.table.get(slot.root).is_some_and(|entry| entry.name != UNUSED)
    }

    /// The images that belong to a slot, whether its name says that it is in use or not.
    pub fn images_of(&self, slot: Slot) -> Vec<&Image> {
        let guid = self.table.get(slot.root).map(|entry| entry.guid);
        self.images.iter().filter(|image| guid.is_some() && image.root_hash.as_ref().map(root_guid) == guid).collect()
    }

    /// The slot in use whose root has this root hash.
    pub fn slot_of(&self, root_hash: &[u8; 32]) -> Option<Slot> {
        let guid = root_guid(root_hash);
        let has = |slot: &Slot| self.in_use(*slot) && self.table.get(slot.root).is_some_and(|root| root.guid == guid);
        SLOTS.into_iter().find(has)
    }

    /// The slot that an update must not touch: the running one; on a disk that does not run, that of the newest image that
    /// had a good boot, else of the newest with tries left, else of the newest.
    pub fn kept(&self, running: Option<&[u8; 32]>) -> Slot {
        if let Some(slot) = running.and_then(|hash| self.slot_of(hash)) {
            return slot;
        }
        let rank = |image: &&Image| (rank(image.tries), image.generation);
        let best = |slot: &Slot| self.images_of(*slot).iter().map(rank).max().filter(|_| self.in_use(*slot));
        let [a, b] = SLOTS;
        if best(&b) > best(&a) { b } else { a }
    }

    /// The image that the boot menu starts next: images without tries left last, then by generation.
    pub fn next(&self) -> Option<&Image> {
        self.images.iter().max_by_key(|image| (image.tries.is_none_or(|tries| tries.left > 0), image.generation))
    }
}

fn rank(tries: Option<Tries>) -> u8 {
    match tries {
        None => 2,
        Some(Tries { left, .. }) => u8::from(left > 0),
    }
}

/// The EFI system partition and its folder of kernel images.
pub fn system_partition<'d>(device: &'d dyn Device, table: &Table) -> Result<(Volume<'d>, u32)> {
    let esp = table.get(ESP).ok_or_else(|| Failure::refused("there is no partition 1, the EFI system partition"))?;
    let volume = Volume::open(device, esp.start(), esp.size())?;
    match volume.folder(FOLDER)? {
        Some(folder) => Ok((volume, folder)),
        None => Err(Failure::refused(format!("no disk with two slots: no {FOLDER} on the EFI system partition"))),
    }
}

/// The kernel images of a folder.
pub fn images(volume: &Volume<'_>, folder: u32) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for file in volume.list(folder)?.into_iter().filter(|file| !file.folder) {
        let Some((generation, tries)) = parse_name(&file.name) else { continue };
        let read = |at: u64, bytes: &mut [u8]| volume.read(&file, at, bytes);
        // One that cannot be read belongs to no slot, and nothing is done with it.
        let line = program::command_line(file.size.into(), &read).ok();
        let root_hash = line.as_deref().and_then(program::root_hash);
        images.push(Image { file, generation, tries, root_hash });
    }
    Ok(images)
}

/// The GUID of the root's partition, as stored: the first 128 bits of the root hash.
pub fn root_guid(root_hash: &[u8; 32]) -> [u8; 16] {
    swap_guid(root_hash.first_chunk().copied().unwrap_or_default())
}

/// The GUID of the hash tree's partition, as stored: the last 128 bits.
pub fn tree_guid(root_hash: &[u8; 32]) -> [u8; 16] {
    swap_guid(root_hash.last_chunk().copied().unwrap_or_default())
}

/// The name of an image.
pub fn name_of(generation: u64, tries: Option<u32>) -> String {
    match tries {
        Some(left) => format!("moby_{generation}+{left}.efi"),
        None => format!("moby_{generation}.efi"),
    }
}

/// Generation and tries of `moby_2.efi`, `moby_2+3.efi`, `moby_2+1-2.efi`. Firmware may have changed the case.
pub fn parse_name(name: &str) -> Option<(u64, Option<Tries>)> {
    let name = name.to_ascii_lowercase();
    let middle = name.strip_prefix("moby_")?.strip_suffix(".efi")?;
    let (generation, tries) = match middle.split_once('+') {
        None => (middle, None),
        Some((generation, counts)) => {
            let (left, done) = counts.split_once('-').unwrap_or((counts, "0"));
            (generation, Some(Tries { left: number(left)?, done: number(done)? }))
        }
    };
    let without_zeros = generation == "0" || !generation.starts_with('0');
    without_zeros.then(|| number(generation)).flatten().map(|generation| (generation, tries))
}

fn number<N: std::str::FromStr>(digits: &str) -> Option<N> {
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}
