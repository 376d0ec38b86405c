//! An update: another root and kernel image into the slot that does not run. The steps are those of
//! `docs/verified-boot.md`; at every moment the other slot is whole, and it is what starts until the last step is done.

use super::bytes::hex;
use super::device::{Device, bytes_at};
use super::failure::{Doing, Failure, Result};
use super::fat::Volume;
use super::folder::File;
use super::layout::{Image, Layout, Slot, UNUSED, images, name_of, root_guid, system_partition, tree_guid};
use super::table::{Entry, Lock, Table};
use super::verity::Superblock;

/// Tries of a new image.
const TRIES: u32 = 3;
/// The new image until its last step: a name that the boot menu passes over.
const TEMPORARY: &[u8; 11] = b"MOBY    NEW";
const TEMPORARY_NAME: &str = "MOBY.NEW";
const COPY: usize = 1 << 20;

/// What became of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The slot that it is in, `A` or `B`.
    pub slot: char,
    /// The name of the kernel image.
    pub name: String,
    /// Its root hash as hexadecimal digits.
    pub root_hash: String,
}

/// The disk that holds the update, read and checked.
#[derive(Debug)]
struct Source<'d> {
    volume: Volume<'d>,
    file: File,
    root_hash: [u8; 32],
    root: Entry,
    tree: Entry,
    superblock: Superblock,
}

impl<'d> Source<'d> {
    fn read(device: &'d dyn Device) -> Result<Source<'d>> {
        let table = Table::read(device)?;
        let (volume, folder) = system_partition(device, &table)?;
        let newest = images(&volume, folder)?.into_iter().max_by_key(|image| image.generation);
        let Some(Image { file, root_hash: Some(root_hash), .. }) = newest else {
            return Err(Failure::refused("it has no kernel image moby_N.efi with a root hash"));
        };
        let partition = |number| table.get(number).ok_or_else(|| Failure::refused(format!("no partition {number}")));
        let (root, tree) = (partition(2)?, partition(3)?);
        if root.guid != root_guid(&root_hash) || tree.guid != tree_guid(&root_hash) {
            return Err(Failure::refused("its partitions 2 and 3 are not those of the root hash of its kernel image"));
        }
        let superblock = Superblock::read(device, tree.start())?;
        if superblock.data_size() > root.size() || superblock.tree_size() > tree.size() {
            return Err(Failure::refused("its root or its hash tree is larger than its partition"));
        }
        superblock.check(device, root.start(), tree.start(), &root_hash)?;
        Ok(Source { volume, file, root_hash, root, tree, superblock })
    }
}

/// Writes the root and the kernel image of `image` to the slot of `disk` that does not run. `running` is the root hash of
/// the running system; without it the disk is taken to be one that does not run. Everything that can be refused is
/// refused before anything is written. `tell` gets a line for each step.
pub fn stage(
    disk: &dyn Device,
    image: &dyn Device,
    running: Option<&[u8; 32]>,
    tell: &mut dyn FnMut(&str),
) -> Result<Staged> {
    let mut layout = Layout::read(disk).map_err(|failure| failure.context("the disk"))?;
    // What an interrupted update left would take the room of this one. With damage elsewhere nothing is given back.
    let _ = layout.volume.reclaim();
    let slot = layout.kept(running).other();
    keep_a_good_one(&layout, slot, running)?;
    tell("checking the new image against its root hash");
    let source = Source::read(image).map_err(|failure| failure.context("the new image"))?;
    let target = Target::choose(&layout, slot, &source)?;

    tell(&format!("emptying slot {}", slot.letter));
    target.empty(&mut layout)?;
    tell(&format!("writing the root, {} MiB, to slot {}", source.superblock.data_size() >> 20, slot.letter));
    let (data, tree) = (source.superblock.data_size(), source.superblock.tree_size());
    copy(image, source.root.start(), disk, target.root.start(), data)?;
    copy(image, source.tree.start(), disk, target.tree.start(), tree)?;
    disk.flush().doing("writing the root")?;
    tell("reading the root back");
    disk.forget(target.root.start(), data);
    disk.forget(target.tree.start(), tree);
    let written = Superblock::read(disk, target.tree.start())?;
    if written != source.superblock {
        return Err(Failure::new("the superblock of the hash tree was not written as it is: the disk fails"));
    }
    let check = written.check(disk, target.root.start(), target.tree.start(), &source.root_hash);
    check.map_err(|failure| Failure::new(format!("the disk does not keep what is written to it: {failure}")))?;
    target.name(&mut layout, &source.root_hash)?;
    let name = name_of(target.generation, Some(TRIES));
    tell(&format!("writing the kernel image {name}, {} MiB", source.file.size >> 20));
    target.start_with(&mut layout, &source, &name)?;
    Ok(Staged { slot: slot.letter, name, root_hash: hex(&source.root_hash) })
}

/// Refuses to overwrite the only version that had a good boot while the running one has had none.
fn keep_a_good_one(layout: &Layout<'_>, slot: Slot, running: Option<&[u8; 32]>) -> Result<()> {
    let good = |slot: Slot| layout.images_of(slot).iter().any(|image| image.tries.is_none());
    if running.and_then(|hash| layout.slot_of(hash)) == Some(slot.other()) && good(slot) && !good(slot.other()) {
        return Err(Failure::refused(format!(
            "the running version is still on trial, and the one in slot {} would be lost: mark this boot as good first",
            slot.letter
        )));
    }
    Ok(())
}

/// The slot that is written.
struct Target {
    slot: Slot,
    root: Entry,
    tree: Entry,
    /// What goes first: images of the slot, and one that an interrupted update left.
    old: Vec<File>,
    generation: u64,
}

impl Target {
    /// Looks whether the update fits. Nothing is written yet.
    fn choose(layout: &Layout<'_>, slot: Slot, source: &Source<'_>) -> Result<Target> {
        let (root, tree) = (layout.partition(slot.root)?, layout.partition(slot.tree)?);
        if (root.kind, tree.kind) != (source.root.kind, source.tree.kind) {
            return Err(Failure::refused("the new image is for another architecture than the disk"));
        }
        let guid = root_guid(&source.root_hash);
        let other = layout.partition(slot.other().root)?;
        if other.guid == guid {
            let letter = slot.other().letter;
            return Err(Failure::refused(format!("the new image is what slot {letter} has: nothing to update")));
        }
        if root.guid == guid
            && let Some(image) = layout.images_of(slot).first()
        {
            let (letter, name) = (slot.letter, &image.file.name);
            return Err(Failure::refused(format!("the new image is in slot {letter} already, as {name}")));
        }
        for (what, needed, there) in [
            ("root", source.superblock.data_size(), root.size()),
            ("hash tree", source.superblock.tree_size(), tree.size()),
        ] {
            if needed > there {
                return Err(Failure::refused(format!(
                    "the {what} of the new image has {needed} bytes, and slot {} has room for {there}: a larger \
                     `slot-size` takes a new installation",
                    slot.letter
                )));
            }
        }
        let mut old: Vec<File> = layout.images_of(slot).into_iter().map(|image| image.file.clone()).collect();
        let files = layout.volume.list(layout.folder)?;
        old.extend(files.into_iter().filter(|file| file.name.eq_ignore_ascii_case(TEMPORARY_NAME)));
        let cluster = layout.volume.cluster_size();
        let clusters = |size: u32| u64::from(size).div_ceil(cluster);
        let there = layout.volume.free() + old.iter().map(|file| clusters(file.size)).sum::<u64>();
        // One more: the folder may have to grow.
        let needed = clusters(source.file.size) + 1;
        if needed > there {
            return Err(Failure::refused(format!(
                "the EFI system partition has no room for the new kernel image: {} bytes are free, {} needed",
                there * cluster,
                needed * cluster
            )));
        }
        let highest = layout.images.iter().map(|image| image.generation).max().unwrap_or_default();
        let generation = highest.checked_add(1).ok_or_else(|| Failure::refused("there is no higher generation"))?;
        Ok(Target { slot, root, tree, old, generation })
    }

    /// Step 1: nothing starts from this slot any more.
    fn empty(&self, layout: &mut Layout<'_>) -> Result<()> {
        for file in &self.old {
            layout.volume.delete(file)?;
        }
        self.set(layout, |entry| UNUSED.clone_into(&mut entry.name), |entry| UNUSED.clone_into(&mut entry.name))
    }

    /// Step 4: the partitions go by the root hash.
    fn name(&self, layout: &mut Layout<'_>, root_hash: &[u8; 32]) -> Result<()> {
        let [root, tree] = self.slot.names();
        self.set(
            layout,
            |entry| (entry.guid, entry.name) = (root_guid(root_hash), root),
            |entry| (entry.guid, entry.name) = (tree_guid(root_hash), tree),
        )
    }

    /// Changes the entries of the slot in the table as it is now: minutes lie between the steps of an update, and other
    /// programs may ask for a reset of the data meanwhile.
    fn set(&self, layout: &mut Layout<'_>, root: impl FnOnce(&mut Entry), tree: impl FnOnce(&mut Entry)) -> Result<()> {
        let lock = Lock::take(layout.device)?;
        layout.table = lock.read()?;
        let same = |number: u32, planned: &Entry| {
            let entry = layout.partition(number)?;
            match (entry.first, entry.last, entry.kind) == (planned.first, planned.last, planned.kind) {
                true => Ok(entry),
                false => Err(Failure::new(format!("another program has changed partition {number} meanwhile"))),
            }
        };
        let (mut root_entry, mut tree_entry) = (same(self.slot.root, &self.root)?, same(self.slot.tree, &self.tree)?);
        root(&mut root_entry);
        tree(&mut tree_entry);
        layout.table.set(self.slot.root, &root_entry);
        layout.table.set(self.slot.tree, &tree_entry);
        layout.table.write(&lock)
    }

    /// Step 5: the kernel image, which starts the new root.
    fn start_with(&self, layout: &mut Layout<'_>, source: &Source<'_>, name: &str) -> Result<()> {
        let read = |at: u64, bytes: &mut [u8]| source.volume.read(&source.file, at, bytes);
        let added = layout.volume.add(layout.folder, TEMPORARY, name, source.file.size, &read)?;
        layout.volume.rename(layout.folder, &added, name)
    }
}

fn copy(from: &dyn Device, from_at: u64, to: &dyn Device, to_at: u64, length: u64) -> Result<()> {
    let mut done = 0;
    while done < length {
        let count = (length - done).min(COPY as u64);
        let bytes = bytes_at(from, from_at + done, count as usize).doing("reading the new image")?;
        to.write(to_at + done, &bytes).doing("writing to the slot")?;
        done += count;
    }
    Ok(())
}
