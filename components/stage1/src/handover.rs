//! Leaving the initramfs: the new root takes its place, and the image's own PID 1 runs.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fcntl_setfl, fstat, openat2, statfs};
use rustix::mount::{UnmountFlags, mount_move, unmount};
use rustix::process::{chdir, chroot};
use rustix::stdio::stdout;

use crate::error::{Doing, Failure, Result};

/// Where the root is mounted before it becomes `/`.
pub const NEW_ROOT: &str = "/root";

/// `f_type` of ramfs and tmpfs, which is what an initramfs is unpacked into (statfs(2)).
const RAMFS: u64 = 0x8584_58f6;
const TMPFS: u64 = 0x0102_1994;

/// Looked for in this order, as the kernel does; `/init` is where trees have it that are an initramfs too.
const PROGRAMS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/init"];

/// An initramfs is flat; deeper folders are left, which costs some memory.
const DEPTH: usize = 32;

/// Whether `/` is what the kernel unpacked: everything in it will be deleted.
pub fn is_initramfs() -> bool {
    let kind = statfs("/").map(|found| found.f_type as u64 & 0xffff_ffff);
    matches!(kind, Ok(RAMFS | TMPFS)) && Path::new("/init").exists()
}

/// Makes the mounted root `/` and becomes its PID 1. Returns only if that failed.
///
/// The new root sees what it would see if the kernel had mounted it itself: /dev, and nothing else. Whoever expects
/// /proc and /sys mounts them; the init of LinuxKit, components/init, BusyBox and systemd all do.
pub fn hand_over(wanted: Option<&str>) -> Result<Infallible> {
    let root = Path::new(NEW_ROOT);
    // Before anything is taken down.
    let program = find_program(root, wanted)?;
    for folder in ["/proc", "/sys"] {
        unmount(folder, UnmountFlags::DETACH).doing(format_args!("unmounting {folder}"))?;
    }
    let devices = root.join("dev");
    match devices.is_dir() {
        true => mount_move("/dev", &devices).doing("moving /dev to the root")?,
        false => unmount("/dev", UnmountFlags::DETACH).doing("unmounting /dev")?,
    }
    chdir(root).at("entering", root)?;
    if let Ok(here) = fs::metadata("/") {
        empty(Path::new("/"), here.dev(), DEPTH);
    }
    mount_move(".", "/").doing("moving the root over the initramfs")?;
    chroot(".").doing("changing into the root")?;
    chdir("/").doing("entering the root")?;
    // Init gets the console as the kernel would have given it, and does not expect to be told to try again.
    let _ = fcntl_setfl(stdout(), OFlags::RDWR);
    // The kernel gave us what was meant for init: arguments and environment.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let error = Command::new(&program).args(arguments).exec();
    Err(Failure::new(format!("running {program}: {error}")))
}

/// The program that will be PID 1, which must be there and executable. Links are followed inside of the root.
fn find_program(root: &Path, wanted: Option<&str>) -> Result<String> {
    let folder = File::open(root).at("opening", root)?;
    let runs = |path: &str| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = openat2(&folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        let stat = file.and_then(fstat);
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        })
    };
    match wanted {
        Some(path) if runs(path) => Ok(path.to_owned()),
        Some(path) => Err(Failure::new(format!("init={path}: the root has no such program"))),
        None => PROGRAMS.into_iter().find(|path| runs(path)).map(str::to_owned).ok_or_else(|| {
            Failure::new(format!("the root has no init: none of {} is there and executable", PROGRAMS.join(", ")))
        }),
    }
}

/// Deletes what is in `folder`, but nothing of other file systems. What cannot be deleted stays: it only costs memory.
fn empty(folder: &Path, device: u64, depth: usize) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.dev() != device {
            continue;
        }
        let path = entry.path();
        if !metadata.is_dir() {
            let _ = fs::remove_file(&path);
        } else if depth > 0 {
            empty(&path, device, depth - 1);
            let _ = fs::remove_dir(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn programs_are_found_inside() {
        let root = std::env::temp_dir().join(format!("stage1-init-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("usr/sbin", root.join("sbin")).unwrap();
        assert!(find_program(&root, None).unwrap_err().to_string().starts_with("the root has no init"));
        // Outside it would be a program.
        symlink("/bin/sh", root.join("etc/init")).unwrap();
        assert!(find_program(&root, None).is_err());
        fs::write(root.join("usr/sbin/real"), "x").unwrap();
        fs::set_permissions(root.join("usr/sbin/real"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/usr/sbin/real", root.join("usr/sbin/init")).unwrap();
        assert_eq!(find_program(&root, None).unwrap(), "/sbin/init");
        assert_eq!(find_program(&root, Some("/sbin/real")).unwrap(), "/sbin/real");
        assert!(find_program(&root, Some("/sbin/other")).is_err());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn emptying() {
        let folder = std::env::temp_dir().join(format!("stage1-empty-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/c"), "x").unwrap();
        symlink("/", folder.join("a/link")).unwrap();
        let device = fs::metadata(&folder).unwrap().dev();
        empty(&folder, device + 1, DEPTH);
        assert!(folder.join("a/b/c").exists());
        empty(&folder, device, DEPTH);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
    }
}
