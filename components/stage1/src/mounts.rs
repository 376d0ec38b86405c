//! What the kernel shows as file systems: /dev, /proc, /sys.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::error::{Doing, Result};

const SAFE: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

/// Mounts them, with the options that components/init would use: it finds /dev as it wants it.
pub fn mount_interfaces() -> Result<()> {
    let devices = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RELATIME;
    for (target, kind, flags, data) in [
        ("/dev", "devtmpfs", devices, c"mode=755"),
        ("/proc", "proc", SAFE | MountFlags::RELATIME, c""),
        ("/sys", "sysfs", SAFE | MountFlags::RELATIME, c""),
    ] {
        fs::create_dir_all(target).at("creating", Path::new(target))?;
        match mount(kind, target, kind, flags, data) {
            // The kernel did it (CONFIG_DEVTMPFS_MOUNT does not, for an initramfs; others may).
            Err(Errno::BUSY) => {}
            result => result.doing(format_args!("mounting {kind} on {target}"))?,
        }
    }
    Ok(())
}
