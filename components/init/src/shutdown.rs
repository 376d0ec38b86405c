//! The end of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot};

use crate::console::{drain, say};
use crate::containers::run_section;
use crate::kernel_options::{Ending, KernelOptions};
use crate::stages::{run_script, scripts};
use crate::supervisor::Supervisor;
use crate::sys;

/// Between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// Processes that do not go on SIGKILL wait for hardware: they are left behind.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Where QEMU's isa-debug-exit device listens by default.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// Stops every container and process.
pub fn stop_everything(supervisor: &mut Supervisor, options: &KernelOptions, machine: bool) {
    // A second request interrupts what runs at shutdown.
    supervisor.take_request();
    let own = scripts(Path::new("/etc/shutdown.d"));
    let scripted = own.iter().any(|path| path.to_string_lossy().contains("onshutdown"));
    if !scripted {
        run_section(supervisor, options, "onshutdown", None);
    }
    for script in own {
        run_script(supervisor, &script, options.quiet);
    }
    supervisor.take_request();
    if !machine && std::process::id() != 1 {
        return;
    }
    if sys::signal_everything(libc::SIGTERM).is_ok() && !supervisor.wait_for_all(PATIENCE) {
        let _ = sys::signal_everything(libc::SIGKILL);
        if !supervisor.wait_for_all(KILL_PATIENCE) {
            say("some processes did not end");
        }
    }
}

/// Writes everything out, takes the file systems down, and ends. Never returns.
///
/// Does nothing of that unless this is PID 1 of the machine: it must not be possible to stop the computer of someone
/// who runs this program by hand.
pub fn end_machine(ending: Ending, options: &KernelOptions, status: i32) -> ! {
    if std::process::id() != 1 {
        say("refused to end the machine: this is not PID 1");
        std::process::exit(1);
    }
    rustix::fs::sync();
    unmount_all();
    rustix::fs::sync();
    // The line that `moby run` reads; nothing of ours comes after it.
    say(&format!("exit status {status}"));
    drain();
    if options.debug_exit {
        // QEMU ends here with `status * 2 + 1`; without the device, or where there are no ports, nothing happens.
        let _ = sys::write_port(DEBUG_EXIT_PORT, u8::try_from(status & 0x7f).unwrap_or(1));
    }
    let command = match ending {
        Ending::Halt => RebootCommand::Halt,
        Ending::PowerOff => RebootCommand::PowerOff,
        Ending::Reboot => RebootCommand::Restart,
    };
    if let Err(error) = reboot(command) {
        say(&format!("ending the machine: {error}"));
    }
    // PID 1 must not return: the kernel would panic.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Unmounts in reverse order. What is busy is made read-only; network file systems, whose server may be gone, are
/// detached. Mounts that hold nothing worth keeping are left.
fn unmount_all() {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for (target, kind) in mounts_to_end(&table) {
        if unmount(&target, UnmountFlags::NOFOLLOW).is_ok() {
            continue;
        }
        let network = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs"].contains(&kind.as_str());
        if network || kind == "overlay" {
            let _ = unmount(&target, UnmountFlags::DETACH);
        } else if mount_remount(&target, MountFlags::RDONLY, "").is_err() {
            say(&format!("{} could not be unmounted", target.display()));
        }
    }
    let _ = mount_remount("/", MountFlags::RDONLY, "");
}

/// Mount points and types of a mountinfo table (proc(5)), the last first, without those of the kernel's interfaces
/// and of memory.
fn mounts_to_end(table: &str) -> Vec<(PathBuf, String)> {
    const KEPT: [&str; 20] = [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "tmpfs",
        "ramfs",
        "rootfs",
        "mqueue",
        "cgroup",
        "cgroup2",
        "securityfs",
        "debugfs",
        "tracefs",
        "configfs",
        "fusectl",
        "selinuxfs",
        "pstore",
        "bpf",
        "efivarfs",
        "binfmt_misc",
    ];
    let parse = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let target = unescape(head.split(' ').nth(4)?);
        let kind = tail.split(' ').next()?.to_owned();
        (target != Path::new("/") && !KEPT.contains(&kind.as_str()) && kind != "nsfs").then_some((target, kind))
    };
    table.lines().rev().filter_map(parse).collect()
}

/// `\040` is a space: the kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = |digit: &u8| digit.is_ascii_digit().then(|| u32::from(digit - b'0'));
        match (byte, tail) {
            (b'\\', [a, b, c, after @ ..]) => match (octal(a), octal(b), octal(c)) {
                (Some(a), Some(b), Some(c)) => {
                    bytes.push((a * 64 + b * 8 + c) as u8);
                    rest = after;
                }
                _ => {
                    bytes.push(byte);
                    rest = tail;
                }
            },
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_mounted_first() {
        let table = "22 1 0:21 / / rw - tmpfs tmpfs rw\n\
                     30 22 8:1 / /var/lib/a\\040b rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                     31 30 0:40 / /var/lib/a\\040b/c rw - overlay overlay rw\n\
                     32 22 0:4 / /proc rw - proc proc rw\nbroken\n33 22 0:5 /x /y";
        let found = mounts_to_end(table);
        let expected = [("/var/lib/a b/c", "overlay"), ("/var/lib/a b", "ext4")];
        assert_eq!(found.len(), 2);
        for ((target, kind), (path, name)) in found.iter().zip(expected) {
            assert_eq!((target.as_path(), kind.as_str()), (Path::new(path), name));
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a\\134b"), Path::new("a\\b"));
        assert_eq!(unescape("\\04"), Path::new("\\04"));
        assert_eq!(unescape("\\xyz"), Path::new("\\xyz"));
        let _ = unescape("\\999");
    }
}
