//! Disks that BIOS boots whose root is a file system under dm-verity. Nothing checks the boot program, the kernel or its
//! command line, so the root hash guards against damage and not against people.

use std::sync::Arc;

use super::verified_root::DiskRoot;
use super::{Options, System, uki};
use crate::blueprint::Root;
use crate::error::{Error, Result};
use crate::formats::source::Source;
use crate::formats::{gpt, mbr};

/// A root beside the boot partition of a disk.
#[derive(Debug)]
pub struct Beside<P> {
    /// What the boot program starts: the initramfs and the command line.
    pub starter: System,
    /// Root, and hash tree if there is one; they are partitions 2 and 3.
    pub partitions: Vec<P>,
    /// The signature that a master boot record must have: the command line finds the partitions by it.
    pub signature: u32,
}

/// Lays the root onto a disk with a master boot record; nothing if the root is the initrd.
pub fn on_record(system: &System, options: &Options<'_>) -> Result<Option<Beside<mbr::Partition>>> {
    let Some(root) = &system.root else { return Ok(None) };
    check(root, system, true)?;
    let made = DiskRoot::make(root, system, options)?;
    let identity = made.tree.as_ref().map_or_else(|| *made.image.identity().as_bytes(), |tree| tree.root_hash);
    let [a, b, c, d, ..] = identity;
    // Zero is no signature: Linux names no partition by it.
    let signature = u32::from_be_bytes([a, b, c, d]).max(1);
    let mut places = vec![format!("root=PARTUUID={signature:08x}-02")];
    let mut contents = vec![Arc::clone(&made.image)];
    if let Some(tree) = &made.tree {
        places.push(format!("moby.root.hash=PARTUUID={signature:08x}-03"));
        contents.push(Arc::clone(&tree.content));
    }
    let partition =
        |content: Arc<dyn Source>| mbr::Partition { kind: mbr::kind::LINUX, active: false, size: 0, content };
    let partitions = contents.into_iter().map(partition).collect();
    Ok(Some(Beside { starter: starter(&made, system, &places)?, partitions, signature }))
}

/// Lays the root onto a disk with a GPT; nothing if the root is the initrd.
pub fn on_gpt(system: &System, options: &Options<'_>) -> Result<Option<Beside<gpt::Partition>>> {
    let Some(root) = &system.root else { return Ok(None) };
    check(root, system, false)?;
    let made = DiskRoot::make(root, system, options)?;
    let starter = starter(&made, system, &made.places())?;
    Ok(Some(Beside { starter, partitions: made.partitions(system.arch, ""), signature: 0 }))
}

/// What a boot program starts: the system with the initramfs for its root, and the command line that finds it.
fn starter(made: &DiskRoot, system: &System, places: &[String]) -> Result<System> {
    let kernel = uki::kernel(system)?;
    let cmdline = made.command_line(kernel, places)?;
    let kernel = Some(super::Kernel { cmdline, ..kernel.clone() });
    // The parts of the image that tell of the root are not in the initramfs.
    Ok(System { kernel, ..made.initramfs.clone() })
}

/// Refuses what such disks cannot have. `record` is whether they have no GPT.
fn check(root: &Root, system: &System, record: bool) -> Result<()> {
    let refused = |what: &str, why: &str, hint: &str| {
        Err(Error::usage(format!("the blueprint has {what}, and {why}")).hint(hint.to_owned()))
    };
    if system.disk.slots() > 1 {
        let why = "the boot program for BIOS cannot choose between two roots";
        return refused("disk: {slots: 2}", why, "take a format for UEFI, such as raw-efi");
    }
    if let (true, Some(data)) = (record, &system.disk.data) {
        let why = "a disk with a master boot record has no place for a data partition";
        return refused(&format!("disk: {{data: ...}} ({})", data.place), why, "take raw, or a format for UEFI");
    }
    if root.signature_required() {
        let why = "where BIOS boots nobody vouches for the kernel that would check it";
        return refused("root: {signature: required}", why, "take a format for UEFI, such as raw-efi");
    }
    Ok(())
}
