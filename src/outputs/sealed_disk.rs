//! Disks for UEFI whose root is a file system under dm-verity: firmware starts a unified kernel image, its command line has
//! the root hash, and the root hash vouches for every block of the root. `docs/verified-boot.md` is the contract for the
//! programs in the guest that update such disks.

use std::sync::Arc;

use super::disk_file::{DiskFile, Room};
use super::uefi_disk::{program_path, wanted_size};
use super::verified_root::{DiskRoot, Unwritten, partition_types};
use super::{Options, System, signing, uki};
use crate::Arch;
use crate::blueprint::Root;
use crate::error::{Error, Result};
use crate::formats::fat::{self, Fat};
use crate::formats::gpt::{self, Disk};
use crate::formats::source::Source;
use crate::formats::uki::Uki;
use crate::formats::verity::format as verity;
use crate::rootfs::{Content, Inode, Kind, Meta, Origin, Tree};
use crate::secure_boot::signing::Signing;

/// What firmware and people see.
const LABEL: &str = "ESP";
/// Room for what firmware and guests put into the EFI system partition beside kernels.
const FREE: u64 = 1 << 20;
/// Sizes of slots, and of the places for kernels, are multiples of this.
const STEP: u64 = 16 << 20;
/// The component that has the boot menu.
const MENU: &str = "components/systemd-boot";
/// Bytes of the menu, at most; systemd's have 100 KB.
const MENU_LIMIT: u64 = 16 << 20;
/// The first kernel image of a disk with two slots: the number is its generation, which grows with each update; `+3` are the
/// tries that it has left (Boot Loader Specification, "Boot counting").
const FIRST_IMAGE: &str = "EFI/Linux/moby_1+3.efi";
/// No menu unless a key is held, no way to type another command line, no entries but the kernel images.
const MENU_CONFIGURATION: &str = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\n";
/// Index of the root's partition.
const ROOT: usize = 1;
/// An unused slot (systemd-sysupdate's convention).
const UNUSED: &str = "_empty";
/// Kernel images that the EFI system partition has room for: one of each slot, and one that is being written.
const IMAGES: u64 = 3;

/// Plans the disk. Its size is a multiple of `multiple` bytes, and of whole MiB.
///
/// The root is written into the disk's `file` at once, if there is room for it.
pub fn plan(root: &Root, system: &System, multiple: u64, file: &DiskFile, options: &Options<'_>) -> Result<Disk> {
    let root = Unwritten::new(root, system, options)?;
    let place = match file.room() {
        Room::Raw if root.goes_anywhere() => root_place(&root, system, options)?,
        Room::Qcow2 if root.goes_anywhere() => Some(0),
        _ => None,
    };
    let made = root.write(place.map(|start| (file, start)))?;
    let disk = disk(&made, system, multiple, options)?;
    if file.room() == Room::Raw && place.is_some() && disk.offset(ROOT) != place {
        drop(disk);
        return self::disk(&made.apart(file, options.store)?, system, multiple, options);
    }
    Ok(disk)
}

/// The first byte of the root's partition, if it is known before the root is. It depends on what stands in front: the EFI
/// system partition.
fn root_place(root: &Unwritten<'_, '_>, system: &System, options: &Options<'_>) -> Result<Option<u64>> {
    let Some(sketch) = root.sketch() else { return Ok(None) };
    // Nobody is asked to sign what is thrown away: programs get room for signatures.
    let room = options.sign.map(|sign| Signing::with_messages(sign.certificate().clone(), Vec::new()));
    let esp = esp(&sketch, system, room.as_ref(), options)?;
    let behind = gpt::Partition::new(gpt::LINUX_DATA, "root", Arc::new(Vec::new()));
    Ok(Disk::new(vec![esp, behind], gpt::Options::default())?.offset(ROOT))
}

/// The partition that firmware starts.
fn esp(made: &DiskRoot, system: &System, sign: Option<&Signing>, options: &Options<'_>) -> Result<gpt::Partition> {
    let mut starter = made.starter(system, &made.places())?;
    let two = system.disk.slots() == 2;
    if two {
        order_by_name(&mut starter.tree, options.time)?;
    }
    let image = Arc::new(uki::image(&starter, options)?);
    let esp = if two { menu_volume(system, image, sign, options)? } else { volume(system.arch, image, sign, options)? };
    Ok(gpt::Partition::new(gpt::EFI_SYSTEM, LABEL, Arc::new(esp)))
}

/// The disk of a root that is written.
fn disk(made: &DiskRoot, system: &System, multiple: u64, options: &Options<'_>) -> Result<Disk> {
    let mut partitions = vec![esp(made, system, options.sign, options)?];
    if system.disk.slots() == 2 {
        partitions.extend(slots(made, system)?);
    } else {
        partitions.extend(made.partitions(system.arch, ""));
    }
    let disk = |size| Disk::new(partitions.clone(), gpt::Options { size, ..gpt::Options::default() });
    let wanted = wanted_size(disk(0)?.size(), options)?;
    disk(wanted.checked_next_multiple_of(multiple).unwrap_or(wanted))
}

/// The EFI system partition of a disk with one root: the image is what firmware starts by itself.
fn volume(arch: Arch, image: Arc<Uki>, sign: Option<&Signing>, options: &Options<'_>) -> Result<Fat> {
    let path = program_path(arch);
    fat(vec![(path, signing::finish_with(image, Some(path), sign)?)], FREE, options)
}

/// The EFI system partition of a disk with two slots: firmware starts the menu, the menu the newest image.
fn menu_volume(system: &System, image: Arc<Uki>, sign: Option<&Signing>, options: &Options<'_>) -> Result<Fat> {
    let menu = options.component_file(MENU, system.arch, menu_path(system.arch))?.read(MENU_LIMIT)?;
    let path = program_path(system.arch);
    let menu = signing::finish_with(Arc::new(menu), Some(path), sign)?;
    let image = signing::finish_with(image, Some(FIRST_IMAGE), sign)?;
    let room = with_room(image.size()).saturating_mul(IMAGES).saturating_sub(image.size()).saturating_add(FREE);
    let files: Vec<(&str, Arc<dyn Source>)> = vec![
        (path, menu),
        ("loader/loader.conf", Arc::new(MENU_CONFIGURATION.as_bytes().to_vec())),
        (FIRST_IMAGE, image),
    ];
    fat(files, room, options)
}

fn fat(files: Vec<(&str, Arc<dyn Source>)>, free: u64, options: &Options<'_>) -> Result<Fat> {
    let files: Vec<_> =
        files.into_iter().map(|(path, content)| fat::File { path: path.to_owned(), content: Some(content) }).collect();
    // UEFI asks for FAT32 on fixed disks (2.10, 13.3); some firmware takes nothing else.
    let kind = Some(fat::Kind::Fat32);
    Fat::new(
        &files,
        &fat::Options { kind, label: LABEL.to_owned(), time: options.time, free, ..fat::Options::default() },
    )
}

/// The partitions of both slots: the first holds the root, the second is as large, and empty.
fn slots(made: &DiskRoot, system: &System) -> Result<Vec<gpt::Partition>> {
    let size = match &system.disk.slot_size {
        None => with_room(made.image.size()),
        Some(size) if size.value.0 >= made.image.size() => size.value.0,
        Some(size) => {
            return Err(Error::usage(format!(
                "{}: slot-size is {}, and the root has {} bytes",
                size.place,
                size.value,
                made.image.size()
            ))
            .hint("make it larger, with room for later versions, or leave it away"));
        }
    };
    let mut partitions = made.partitions(system.arch, "-A");
    // In the order of the partitions of a slot: root, then hash tree.
    let sizes = [size, verity::size(size.div_ceil(verity::BLOCK))];
    for (partition, size) in partitions.iter_mut().zip(sizes) {
        partition.size = size;
    }
    let types = partition_types(system.arch);
    let empty = |(kind, size): (gpt::Guid, u64)| gpt::Partition {
        size,
        attributes: gpt::READ_ONLY,
        ..gpt::Partition::new(kind, UNUSED, Arc::new(Vec::new()))
    };
    let unused: Vec<_> = types.into_iter().zip(sizes).take(partitions.len()).map(empty).collect();
    partitions.extend(unused);
    Ok(partitions)
}

/// A size with a quarter more for what later versions grow by, in whole steps.
fn with_room(size: u64) -> u64 {
    size.saturating_add(size.div_ceil(4)).div_ceil(STEP).saturating_mul(STEP)
}

/// What the menu is called in systemd's package.
fn menu_path(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        Arch::Arm64 => "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
    }
}

/// Gives the os-release a constant IMAGE_ID and IMAGE_VERSION. The menu sorts by these first and by the file's name last;
/// so the name alone, with its generation, says which image is newer, and going back to an older version of a
/// distribution is an update like any other. The root that is on the disk is another copy of the tree.
fn order_by_name(tree: &mut Tree, time: i64) -> Result<()> {
    let found = uki::OS_RELEASES.into_iter().find_map(|path| tree.resolve(path.as_bytes()));
    let text = match found.map(|id| &tree.inode(id).kind) {
        Some(Kind::File(content)) if (1..=uki::OS_RELEASE_LIMIT).contains(&content.size) => {
            content.read(uki::OS_RELEASE_LIMIT)?
        }
        _ => uki::OS_RELEASE.as_bytes().to_vec(),
    };
    let kind = Kind::File(Content::bytes(ordered_by_name(&text)));
    match found {
        Some(id) => tree.inode_mut(id).kind = kind,
        None => {
            let origin = tree.add_origin(Origin { source: "os-release".into(), location: "disk".into() });
            let inode = Inode { meta: Meta::root(0o644, time), kind, origin };
            tree.insert(uki::OS_RELEASES[0].as_bytes(), inode, &Meta::root(0o755, time))?;
        }
    }
    Ok(())
}

fn ordered_by_name(text: &[u8]) -> Vec<u8> {
    let own = |line: &&[u8]| !line.starts_with(b"IMAGE_ID=") && !line.starts_with(b"IMAGE_VERSION=");
    let mut out = Vec::with_capacity(text.len() + 32);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).filter(own) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(b"IMAGE_ID=moby\nIMAGE_VERSION=0\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_room_to_grow() {
        assert_eq!(with_room(1), STEP);
        assert_eq!(with_room(STEP / 5 * 4), STEP);
        assert_eq!(with_room(STEP), 2 * STEP);
        assert_eq!(with_room(64 << 20), 80 << 20);
    }

    #[test]
    fn only_the_name_tells_versions_apart() {
        let out = ordered_by_name(b"ID=debian\nIMAGE_VERSION=7\nVERSION_ID=12");
        assert_eq!(out, b"ID=debian\nVERSION_ID=12\nIMAGE_ID=moby\nIMAGE_VERSION=0\n");
    }
}
