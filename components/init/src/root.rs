//! The root file system: what it is, and leaving the kernel's own initramfs mount.

use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{mount_bind, mount_move};
use rustix::process::{chdir, chroot};

use crate::error::{Doing, Result};

/// `f_type` of ramfs and tmpfs, which is what an initramfs is unpacked into (statfs(2)).
const RAMFS: u64 = 0x8584_58f6;
const TMPFS: u64 = 0x0102_1994;

/// Puts a mount of its own over the initramfs, so that containers can `pivot_root` away from it.
///
/// The kernel's initramfs is the one mount that has no parent, and pivot_root(2) refuses it (EINVAL). LinuxKit moves
/// every file to a new tmpfs, which takes time in proportion to the image and loses hard links and extended
/// attributes. It is not needed: a bind mount of the same file system, moved over `/`, has the initramfs mount as its
/// parent, and that is all that pivot_root asks for. Nothing is copied. crun, runc and youki run on it.
///
/// Does nothing on a root that is not in memory.
pub fn leave_initramfs() -> Result<bool> {
    let kind = statfs("/").doing("looking at the root file system")?.f_type as u64 & 0xffff_ffff;
    if kind != RAMFS && kind != TMPFS {
        return Ok(false);
    }
    let place = Path::new("/.root");
    std::fs::create_dir_all(place).at("creating", place)?;
    mount_bind("/", place).doing("binding the root to itself")?;
    chdir(place).at("entering", place)?;
    mount_move(".", "/").doing("moving the root over the initramfs")?;
    chroot(".").doing("changing into the moved root")?;
    chdir("/").doing("entering the moved root")?;
    std::fs::remove_dir(place).at("removing", place)?;
    Ok(true)
}
