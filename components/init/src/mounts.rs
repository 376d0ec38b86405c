//! Mounting: one mount, and the table of the machine.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use crate::console::say;
use crate::error::{Doing, Failure, Result};
use crate::mount_options::MountOptions;

/// Mounts `source` on `target`. `words` are mount options; a bind mount gets its flags in a second step, as the
/// kernel asks for, and the propagation comes last. What fails leaves no mount behind.
pub fn mount_words(source: &str, target: &Path, kind: &str, words: &[String]) -> Result<()> {
    mount_through(source, target, kind, words, || Ok(target.to_owned()))
}

/// As [`mount_words`], where `target` is a path by which only the first mount can be made: that of a descriptor, which
/// goes on to mean the folder below. `mounted` gives the path of what is mounted there then.
pub fn mount_through(
    source: &str,
    target: &Path,
    kind: &str,
    words: &[String],
    mounted: impl FnOnce() -> Result<PathBuf>,
) -> Result<()> {
    let options = MountOptions::parse(words.iter().map(String::as_str));
    let data = CString::new(options.data.as_str())
        .map_err(|_| Failure::new(format!("mounting {}: an option holds a zero byte", target.display())))?;
    if options.bind {
        match options.recursive {
            true => mount_bind_recursive(source, target),
            false => mount_bind(source, target),
        }
        .doing(format_args!("binding {source} to {}", target.display()))?;
    } else if options.remount {
        // `remount,private` alone is LinuxKit's way to write "make private".
        if !options.flags.is_empty() || !options.data.is_empty() || options.propagation.is_none() {
            mount_remount(target, options.flags, data.as_c_str()).at("remounting", target)?;
        }
    } else if !kind.is_empty() {
        let data = (!options.data.is_empty()).then_some(data.as_c_str());
        mount(source, target, kind, options.flags, data)
            .doing(format_args!("mounting {kind} on {}", target.display()))?;
    }
    let flags = options.flags;
    let second = || {
        let bind_flags = options.bind && !flags.is_empty();
        if !bind_flags && options.propagation.is_none() {
            return Ok(());
        }
        let mounted = mounted()?;
        if bind_flags {
            mount_remount(&mounted, MountFlags::BIND | flags, "").at("setting the options of", &mounted)?;
        }
        match options.propagation {
            Some(propagation) => mount_change(&mounted, propagation).at("setting the propagation of", &mounted),
            None => Ok(()),
        }
    };
    let result = second();
    if result.is_err() && (options.bind || !options.remount && !kind.is_empty()) {
        let _ = unmount(target, UnmountFlags::DETACH);
    }
    result
}

/// As [`mount_words`] with the options in one string.
pub fn mount_line(source: &str, target: &str, kind: &str, options: &str) -> Result<()> {
    let words: Vec<String> = options.split(',').map(str::to_owned).collect();
    mount_words(source, Path::new(target), kind, &words)
}

/// Whether something is mounted exactly on `path`.
fn is_mounted(path: &str, kind: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(path) && fields.next() == Some(kind)
    })
}

const API: &str = "nodev,nosuid,noexec,relatime";

/// Targets, types and options that every machine has, after /proc. Sizes are bounds, not reservations.
const TABLE: &[(&str, &str, &str)] = &[
    ("/dev", "devtmpfs", "nosuid,noexec,relatime,size=10m,nr_inodes=248418,mode=755"),
    ("/run", "tmpfs", "nodev,nosuid,noexec,relatime,size=10%,mode=755"),
    ("/tmp", "tmpfs", "nodev,nosuid,noexec,relatime,size=10%,mode=1777"),
    ("/var", "tmpfs", "nodev,nosuid,noexec,relatime,size=50%,mode=755"),
    ("/sys", "sysfs", API),
];

/// Mounted where the kernel has them; a kernel that lacks one is no error.
const OPTIONAL: &[(&str, &str, &str)] = &[
    ("/dev/mqueue", "mqueue", "noexec,nosuid,nodev"),
    ("/sys/kernel/security", "securityfs", API),
    ("/sys/kernel/debug", "debugfs", API),
    ("/sys/kernel/config", "configfs", API),
    ("/sys/fs/fuse/connections", "fusectl", API),
    ("/sys/fs/selinux", "selinuxfs", "noexec,nosuid"),
    ("/sys/fs/pstore", "pstore", API),
    ("/sys/fs/bpf", "bpf", API),
    ("/sys/firmware/efi/efivars", "efivarfs", API),
    ("/proc/sys/fs/binfmt_misc", "binfmt_misc", API),
];

/// Mounts what a machine needs and makes the root read-only. What fails is told on the console: a machine that can
/// still tell is better than one that stopped.
pub fn mount_machine() {
    for target in ["/proc", "/dev", "/run", "/tmp", "/var", "/sys"] {
        if let Err(error) = fs::create_dir_all(target) {
            say(&format!("creating {target}: {error}"));
        }
    }
    if !Path::new("/proc/self").exists() {
        report(mount_line("proc", "/proc", "proc", API));
    }
    if let Err(error) = mount_remount("/", MountFlags::RDONLY, "") {
        say(&format!("making the root read-only: {error}"));
    }
    for (target, kind, options) in TABLE {
        if !is_mounted(target, kind) {
            report(mount_line(kind, target, kind, options));
        }
    }
    device_links();
    for (target, kind, options) in [
        ("/dev/shm", "tmpfs", "noexec,nosuid,nodev,mode=1777"),
        ("/dev/pts", "devpts", "noexec,nosuid,gid=5,mode=0620,ptmxmode=0666"),
    ] {
        report(fs::create_dir_all(target).at("creating", Path::new(target)));
        if !is_mounted(target, kind) {
            report(mount_line(kind, target, kind, options));
        }
    }
    // Made by hand: everything else there exists exactly when the kernel has the file system.
    let _ = fs::create_dir("/dev/mqueue");
    for (target, kind, options) in OPTIONAL {
        if Path::new(target).is_dir() {
            let _ = mount_line(kind, target, kind, options);
        }
    }
    report(var_folders());
}

/// Everything below `/` is shared, so that mounts of one container reach those that ask for them.
pub fn share_root() {
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    report(mount_change("/", flags).doing("making / shared"));
}

/// Mounts the control groups: version 2, or version 1 with a mount for every controller if asked for.
pub fn mount_cgroups(version_1: bool) -> Result<()> {
    let place = "/sys/fs/cgroup";
    if is_mounted(place, "cgroup2") {
        return Ok(());
    }
    if !version_1 {
        return mount_line("cgroup2", place, "cgroup2", API);
    }
    mount_line("cgroup", place, "tmpfs", "nodev,nosuid,noexec,mode=755,size=10m")?;
    let table = fs::read_to_string("/proc/cgroups").at("reading", Path::new("/proc/cgroups"))?;
    // Columns: name, hierarchy, number of groups, enabled.
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_ascii_whitespace();
        let (name, enabled) = (fields.next().unwrap_or_default(), fields.nth(2));
        if enabled == Some("1") {
            let target = format!("{place}/{name}");
            fs::create_dir_all(&target).at("creating", Path::new(&target))?;
            report(mount_line(name, &target, "cgroup", &format!("{API},{name}")));
        }
    }
    let _ = fs::write(format!("{place}/memory/memory.use_hierarchy"), "1");
    let systemd = format!("{place}/systemd");
    fs::create_dir_all(&systemd).at("creating", Path::new(&systemd))?;
    mount_line("cgroup", &systemd, "cgroup", &format!("{API},none,name=systemd"))
}

fn device_links() {
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/kcore", "/proc/kcore"),
    ] {
        // They exist already when something before this program made them.
        let _ = symlink(target, link);
    }
}

fn var_folders() -> Result<()> {
    for (name, mode) in [
        ("cache", 0o755),
        ("empty", 0o555),
        ("lib", 0o755),
        ("local", 0o755),
        ("lock", 0o755),
        ("log", 0o755),
        ("opt", 0o755),
        ("spool", 0o755),
        ("tmp", 0o1777),
    ] {
        let path = Path::new("/var").join(name);
        fs::create_dir_all(&path).at("creating", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at("setting the mode of", &path)?;
    }
    let run = Path::new("/var/run");
    match run.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(_) => symlink("/run", run).at("linking", run),
    }
}

/// Tells a failure and goes on.
pub fn report(result: Result<()>) {
    if let Err(failure) = result {
        say(&failure.to_string());
    }
}
