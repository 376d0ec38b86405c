//! From the options to a mounted root.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount as mount_device, unmount};

use crate::console::say;
use crate::device_mapper::Mapping;
use crate::devices::{Device, read_at};
use crate::error::{Doing, Failure, Result};
use crate::file_system::{FileSystem, LOOKED_AT, recognise};
use crate::handover::NEW_ROOT;
use crate::image_file::ImageFile;
use crate::options::Options;
use crate::search::{Machine, Wanted};
use crate::source::{RootHash, Source};
use crate::verity::Parts;

/// Where the file system is mounted that holds the image file.
const CONTAINER: &str = "/media";

/// File systems that cannot be written to.
const READ_ONLY_KINDS: [&str; 3] = ["erofs", "squashfs", "iso9660"];

/// What is to be found, verified and mounted.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    root: Source,
    verity: Option<(RootHash, TreePlace)>,
}

/// Where the hash tree is.
#[derive(Debug, PartialEq, Eq)]
enum TreePlace {
    Device(Source),
    SameDevice(u64),
}

impl Plan {
    /// Refuses options that cannot be understood or do not go together.
    pub fn of(options: &Options) -> Result<Plan> {
        if !options.problems.is_empty() {
            return Err(Failure::new(format!(
                "kernel command line: {}",
                options.problems.join("\nkernel command line: ")
            )));
        }
        let refuse = |what: &str| Err(Failure::new(format!("kernel command line: {what}")));
        let verity = match (&options.root_hash, &options.hash, options.hash_offset) {
            (None, None, None) if !options.lenient => None,
            (None, _, _) => return refuse("moby.root.hash without roothash=: nothing would be verified"),
            (_, Some(_), Some(_)) => return refuse("moby.root.hash= and moby.root.hash.offset= name two places"),
            (Some(hash), _, Some(offset)) => Some((hash.clone(), TreePlace::SameDevice(offset))),
            (Some(hash), Some(device), None) => Some((hash.clone(), TreePlace::Device(device.clone()))),
            (Some(hash), None, None) => Some((hash.clone(), TreePlace::Device(hash.hash_partition()))),
        };
        let root = match (&options.root, &verity) {
            (Some(root), _) => root.clone(),
            (None, Some((hash, _))) => hash.data_partition(),
            (None, None) => return refuse("neither root= nor roothash="),
        };
        Ok(Plan { root, verity })
    }

    fn wanted(&self) -> Vec<Wanted> {
        let mut wanted = vec![Wanted { source: self.root.clone(), what: "the root" }];
        if let Some((_, TreePlace::Device(source))) = &self.verity {
            wanted.push(Wanted { source: source.clone(), what: "the root's hash tree" });
        }
        wanted
    }
}

/// What was mounted, for the console.
#[derive(Debug)]
pub struct Mounted {
    place: String,
    kind: String,
    verified: bool,
}

impl fmt::Display for Mounted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verified = if self.verified { ", verified" } else { "" };
        write!(out, "{} ({}{verified})", self.place, self.kind)
    }
}

/// Waits for the devices and mounts the root on [`NEW_ROOT`].
pub fn mount(plan: &Plan, options: &Options) -> Result<Mounted> {
    let mut machine = Machine::start()?;
    let found = machine.wait_for(&plan.wanted(), options.timeout)?;
    let mut nodes = Vec::new();
    for (device, name) in found.iter().zip(["disc-1", "disc-2"]) {
        nodes.push(node_of(&mut machine, device, name)?);
    }
    let mut place = found.first().map(Device::node).unwrap_or_default().display().to_string();
    let mut nodes = nodes.into_iter();
    let device = nodes.next().unwrap_or_default();
    let tree = nodes.next();
    let image = match &options.file {
        Some(file) => {
            place = format!("{file} of {place}");
            Some(open_image(&mut machine, &device, file)?)
        }
        None => None,
    };
    let data = image.as_ref().map_or(device, |image| image.node.clone());
    let node = match &plan.verity {
        Some((hash, tree_place)) => {
            machine.coldplug.named("dm-mod");
            machine.coldplug.named("dm-verity");
            let (tree, offset) = match (tree_place, tree) {
                (TreePlace::Device(_), Some(tree)) => (tree, 0),
                (TreePlace::SameDevice(offset), _) => (data.clone(), *offset),
                (TreePlace::Device(_), None) => return Err(Failure::new("the root's hash tree was lost")),
            };
            let parts = Parts {
                data: &data,
                tree: &tree,
                offset,
                hash,
                lenient: options.lenient,
                on_corruption: options.on_corruption,
            };
            parts.open()?
        }
        None => data,
    };
    let verified = plan.verity.is_some();
    if verified && options.check_all {
        read_all(&node)?;
    }
    let (file_system, size) = recognised(&node)?;
    if let Some(found) = &file_system {
        check_size(found, size, verified && !options.lenient)
            .map_err(|what| Failure::new(format!("the {} of {place} {what}", found.kind)))?;
    }
    let kind = options.file_system.clone().or_else(|| Some(file_system?.kind.to_owned())).ok_or_else(|| {
        Failure::new(format!(
            "{place} holds no file system that is known here (erofs, squashfs, ext4, iso9660, vfat); rootfstype= can \
             name one"
        ))
    })?;
    let writable = options.writable && !verified && !READ_ONLY_KINDS.contains(&kind.as_str());
    mount_kind(&mut machine, &node, NEW_ROOT, &kind, &options.flags, writable)?;
    if image.is_some() {
        // The loop device keeps the file; the mount need not be seen any more.
        let _ = unmount(CONTAINER, UnmountFlags::DETACH);
    }
    machine.coldplug.failures.iter().for_each(|failure| say(&failure.to_string()));
    Ok(Mounted { place, kind, verified })
}

/// The node of a device. A partition of a CD gets one, under this name in the device mapper.
fn node_of(machine: &mut Machine, device: &Device, name: &str) -> Result<PathBuf> {
    let Some((parameters, sectors)) = device.mapping() else { return Ok(device.node()) };
    machine.coldplug.named("dm-mod");
    Mapping { name, uuid: &format!("moby-{name}"), target: "linear", parameters: &parameters, sectors }
        .create()
        .map_err(|failure| Failure::new(format!("a partition of {}: {failure}", device.node().display())))
}

fn open_image(machine: &mut Machine, device: &Path, file: &str) -> Result<ImageFile> {
    let (found, _) = recognised(device)?;
    let kind = found
        .map(|found| found.kind)
        .ok_or_else(|| Failure::new(format!("{} holds no file system that is known here", device.display())))?;
    mount_kind(machine, device, CONTAINER, kind, "", false)?;
    machine.coldplug.named("loop");
    ImageFile::open(Path::new(CONTAINER), file)
}

/// The file system of a device, and the device's size in bytes.
fn recognised(device: &Path) -> Result<(Option<FileSystem>, u64)> {
    let mut file = File::open(device).at("opening", device)?;
    let size = file.seek(SeekFrom::End(0)).at("asking for the size of", device)?;
    let bytes = read_at(&file, 0, size.min(LOOKED_AT as u64) as usize).at("reading the start of", device)?;
    Ok((recognise(&bytes), size))
}

/// A device that is shorter than its file system was cut off. One that is `exact`, which a verified device must be, has
/// nothing behind it either but the rest of a block: the number of blocks in the hash tree's superblock is not signed,
/// the file system's own size is.
fn check_size(found: &FileSystem, device: u64, exact: bool) -> Result<(), String> {
    const BLOCK: u64 = 4096;
    let Some(size) = found.size else { return Ok(()) };
    if exact && size.checked_next_multiple_of(BLOCK) != device.checked_next_multiple_of(BLOCK) {
        return Err(format!(
            "has {size} bytes, but {device} are verified: the hash tree's superblock was changed, or moby did not write \
             it (then: moby.root.hash.lenient)"
        ));
    }
    if size > device {
        return Err(format!("has {size} bytes, its place only {device}: it was cut off"));
    }
    Ok(())
}

/// Reads everything, so that the kernel checks everything.
fn read_all(device: &Path) -> Result<()> {
    let mut file = File::open(device).at("opening", device)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).at("verifying all of", device),
        }
    }
}

fn mount_kind(
    machine: &mut Machine,
    device: &Path,
    target: &str,
    kind: &str,
    flags: &str,
    writable: bool,
) -> Result<()> {
    let known = machine.coldplug.file_system(kind);
    std::fs::create_dir_all(target).at("creating", &PathBuf::from(target))?;
    let mode = if writable { MountFlags::empty() } else { MountFlags::RDONLY };
    let data = std::ffi::CString::new(flags).map_err(|_| Failure::new("rootflags= holds a zero byte"))?;
    let failures =
        || machine.coldplug.failures.iter().fold(String::new(), |text, failure| format!("{text}\n{failure}"));
    mount_device(device, target, kind, mode, data.as_c_str()).map_err(|error| {
        let place = device.display();
        match known {
            true => Failure::new(format!("mounting {place} as {kind}: {error}{}", failures())),
            false => Failure::new(format!(
                "mounting {place} as {kind}: the file system is neither in the kernel nor in this initramfs{}",
                failures()
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

    fn plan(line: &str) -> Result<Plan, String> {
        let line = line.replace("HASH", &format!("roothash={HASH}"));
        Plan::of(&Options::parse(&line)).map_err(|failure| failure.to_string())
    }

    fn sources(line: &str) -> Vec<String> {
        plan(line).unwrap().wanted().iter().map(|wanted| wanted.source.to_string()).collect()
    }

    #[test]
    fn what_is_awaited() {
        let data = "PARTUUID=00112233-4455-6677-8899-aabbccddeeff";
        let tree = "PARTUUID=01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(sources("HASH"), [data, tree]);
        assert_eq!(sources("HASH root=LABEL=x"), ["LABEL=x", tree]);
        assert_eq!(sources("HASH root=LABEL=x moby.root.hash=/dev/vdb"), ["LABEL=x", "/dev/vdb"]);
        assert_eq!(sources("HASH root=LABEL=x moby.root.hash.offset=4096"), ["LABEL=x"]);
        assert_eq!(sources("root=/dev/vda"), ["/dev/vda"]);
    }

    #[test]
    fn sizes() {
        let of = |size| FileSystem { kind: "erofs", uuid: None, label: None, size };
        assert!(check_size(&of(None), 0, true).is_ok());
        assert!(check_size(&of(Some(8193)), 8192, false).is_err());
        assert!(check_size(&of(Some(8192)), 1 << 20, false).is_ok());
        assert!(check_size(&of(Some(8192)), 12_288, true).is_err());
        assert!(check_size(&of(Some(8000)), 8192, true).is_ok());
        assert!(check_size(&of(Some(u64::MAX)), u64::MAX, true).is_ok());
    }

    #[test]
    fn refused() {
        for line in [
            "",
            "root=LABEL=x moby.root.hash=/dev/vdb",
            "root=LABEL=x moby.root.hash.offset=0",
            "root=LABEL=x moby.root.hash.lenient",
            "HASH moby.root.hash=/dev/vdb moby.root.hash.offset=0",
            "root=LABEL=x roothash=00",
            "root=LABEL=x moby.root.fiel=/x",
        ] {
            let problem = plan(line).unwrap_err();
            assert!(problem.starts_with("kernel command line: "), "{line}: {problem}");
        }
    }
}
