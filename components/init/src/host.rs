//! The machine's own settings: clock, loopback, limits, host name, resolv.conf.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::system::sethostname;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::error::{Doing, Failure, Result};
use crate::mounts::report;
use crate::netlink::{Interface, Network};

/// As LinuxKit: what a busy server needs, and what the kernel allows at most by default.
const OPEN_FILES: u64 = 1_048_576;

/// 2020-01-01, in seconds since 1970: a clock before that was never set.
const PLAUSIBLE: i64 = 1_577_836_800;

/// Applies all of them. What fails is told and left.
pub fn configure() {
    report(set_clock());
    report(raise_limits());
    report(set_host_name());
    report(make_resolver_target());
}

/// Brings the loopback interface up; the kernel gives it its addresses.
pub fn loopback_up() -> Result<()> {
    Network::open()?.link_up(Interface::named("lo")?.index)
}

/// Sets the clock from the hardware's if the kernel has not done so (the clock driver can be a module).
fn set_clock() -> Result<()> {
    if clock_gettime(ClockId::Realtime).tv_sec >= PLAUSIBLE {
        return Ok(());
    }
    let Ok(seconds) = fs::read_to_string("/sys/class/rtc/rtc0/since_epoch") else { return Ok(()) };
    match seconds.trim().parse::<i64>() {
        Ok(seconds) if seconds >= PLAUSIBLE => {
            clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 }).doing("setting the clock")
        }
        _ => Ok(()),
    }
}

fn raise_limits() -> Result<()> {
    let files = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    setrlimit(Resource::Nofile, files).doing("raising the limit of open files")?;
    setrlimit(Resource::Nproc, Rlimit { current: None, maximum: None }).doing("raising the limit of processes")
}

/// /etc/hostname, else `linuxkit-` and the hardware address of eth0 (or of the first interface that has one).
fn set_host_name() -> Result<()> {
    let path = Path::new("/etc/hostname");
    let named = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let name = if !named.is_empty() {
        named
    } else {
        let interfaces: Vec<Interface> = Interface::all().into_iter().filter(|interface| interface.ethernet).collect();
        let first = interfaces.iter().find(|interface| interface.name == "eth0").or(interfaces.first());
        match first {
            Some(interface) => {
                let address: String = interface.hardware.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("linuxkit-{address}")
            }
            None => "linuxkit".to_owned(),
        }
    };
    sethostname(name.as_bytes()).doing(format_args!("setting the host name {name:?}"))
}

/// /etc/resolv.conf is a link into /run on a read-only root: makes what it points to, so that it can be bound.
fn make_resolver_target() -> Result<()> {
    let link = Path::new("/etc/resolv.conf");
    let Ok(target) = fs::read_link(link) else { return Ok(()) };
    let target = match target.is_absolute() {
        true => target,
        false => PathBuf::from("/etc").join(target),
    };
    let folder = target.parent().ok_or_else(|| Failure::new("/etc/resolv.conf points to /"))?;
    fs::create_dir_all(folder).at("creating", folder)?;
    fs::OpenOptions::new().create(true).append(true).open(&target).at("creating", &target)?;
    Ok(())
}
