//! PID 1 from start to end.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::set_child_subreaper;
use rustix::system::{RebootCommand, reboot};

use crate::console::{open_console, say};
use crate::containers::run_section;
use crate::error::Result;
use crate::host;
use crate::kernel_options::{Ending, KernelOptions};
use crate::modules::{Coldplug, coldplug};
use crate::mounts::{mount_cgroups, mount_machine, report, share_root};
use crate::power_button::PowerButton;
use crate::root::leave_initramfs;
use crate::services::Services;
use crate::shutdown::{end_machine, stop_everything};
use crate::stages::{Stage, boot_stages, run_script};
use crate::supervisor::Supervisor;
use crate::volumes::mount_volumes;

/// By this name in /proc/1/comm other programs of this package know that PID 1 is this one.
pub const PROCESS_NAME: &std::ffi::CStr = c"moby-init";

/// The inode of the first process id namespace (PROC_PID_INIT_INO of linux/proc_ns.h).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether this process is PID 1 of a machine, and not of a container. The process id namespace tells, if there is
/// a /proc (an initramfs that ran before may have left one). Before anything is mounted the kernel can be asked: it
/// takes "Ctrl-Alt-Del is a signal to PID 1" from a machine's PID 1 only (reboot(2): EINVAL in other namespaces).
pub fn is_machine() -> bool {
    if std::process::id() != 1 {
        return false;
    }
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) => namespace == Path::new(FIRST_PID_NAMESPACE),
        Err(_) => reboot(RebootCommand::CadOff).is_ok(),
    }
}

/// Boots, runs, ends. Returns the exit status of a container; never returns in a machine.
pub fn run() -> i32 {
    let machine = is_machine();
    let _ = rustix::thread::set_name(PROCESS_NAME);
    if machine {
        let left = leave_initramfs();
        mount_machine();
        open_console();
        report(left.map(drop));
        // Ctrl-Alt-Del becomes SIGINT to us instead of an immediate reset.
        let _ = reboot(RebootCommand::CadOff);
    }
    let options = KernelOptions::read().unwrap_or_default();
    let mut supervisor = match Supervisor::new() {
        Ok(supervisor) => supervisor,
        Err(failure) => {
            say(&format!("{failure}: cannot go on"));
            return match machine {
                true => end_machine(Ending::Halt, &options, 1),
                false => 1,
            };
        }
    };
    if machine {
        for word in &options.unknown {
            say(&format!("kernel command line: {word}: not known, or not with this value"));
        }
        report(prepare_machine(&mut supervisor, &options));
    } else {
        report(container_mode());
    }
    let status = run_stages(&mut supervisor, &options);
    let ending = supervisor.request().unwrap_or(Ending::PowerOff);
    say(&match machine {
        true => format!("stopping ({})", word_of(ending)),
        false => "stopping".to_owned(),
    });
    stop_everything(&mut supervisor, &options, machine);
    match machine {
        true => end_machine(ending, &options, status),
        false => status,
    }
}

/// Devices, network, settings; the order is the documented one.
fn prepare_machine(supervisor: &mut Supervisor, options: &KernelOptions) -> Result<()> {
    report(mount_cgroups(options.cgroup_v1));
    // The socket first: a device that turns up while the others are looked at is not missed.
    let socket = coldplug::event_socket();
    let mut coldplug = Coldplug::open()?;
    let mut failures = coldplug.scan();
    // Used without a device that asks for them; the kernel asks /sbin/modprobe, which an image may not have.
    failures.extend(coldplug.file_system("overlay"));
    failures.extend(coldplug.named("evdev"));
    for failure in failures {
        say(&failure.to_string());
    }
    match socket {
        Ok(socket) => supervisor.watch_devices(socket, coldplug),
        Err(failure) => say(&failure.to_string()),
    }
    supervisor.watch_buttons(PowerButton::find());
    report(host::loopback_up());
    host::configure();
    share_root();
    Ok(())
}

/// Inside a container (the `docker` output): the container's manager has done what a machine needs. Orphans are
/// ours to collect.
fn container_mode() -> Result<()> {
    use crate::error::Doing;
    set_child_subreaper(Some(rustix::process::getpid())).doing("becoming the reaper of orphans")
}

/// Runs the stages, then supervises until the machine is asked to stop. Returns the exit status: the first of an
/// onboot container that is not 0, else 0.
fn run_stages(supervisor: &mut Supervisor, options: &KernelOptions) -> i32 {
    report(link_logs());
    let mut status = 0;
    let mut services = None;
    for stage in boot_stages(Path::new("/etc/init.d")) {
        if supervisor.request().is_some() {
            break;
        }
        match stage {
            Stage::Volumes => mount_volumes(),
            Stage::Onboot => status = run_section(supervisor, options, "onboot", options.on_failure),
            Stage::Services => match Services::read(options) {
                Ok(found) => services = found,
                Err(failure) => say(&format!("services: {failure}")),
            },
            Stage::Script(script) => run_script(supervisor, &script, options.quiet),
        }
        // Services start here, so that later programs of the image find them.
        if let Some(services) = &mut services {
            services.turn(supervisor);
        }
    }
    while supervisor.request().is_none() {
        let pause = services.as_mut().and_then(|services| services.turn(supervisor));
        if services.as_ref().is_none_or(Services::all_ended)
            && let Some(ending) = options.exit
        {
            say("nothing left to run");
            supervisor.ask(ending);
        }
        if supervisor.request().is_none() {
            supervisor.turn(pause);
        }
    }
    status
}

/// /var/log/onboot shows what /run/log/onboot has.
fn link_logs() -> Result<()> {
    use crate::error::Doing;
    let folder = PathBuf::from("/run/log/onboot");
    fs::create_dir_all(&folder).at("creating", &folder)?;
    let link = Path::new("/var/log/onboot");
    if link.symlink_metadata().is_err() {
        fs::create_dir_all("/var/log").at("creating", Path::new("/var/log"))?;
        symlink(&folder, link).at("linking", link)?;
    }
    Ok(())
}

fn word_of(ending: Ending) -> &'static str {
    match ending {
        Ending::Halt => "halt",
        Ending::PowerOff => "power off",
        Ending::Reboot => "reboot",
    }
}
