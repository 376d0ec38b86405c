//! `mounts` of config.json.

use std::collections::BTreeMap;

use super::precedence::Precedence;
use crate::blueprint::{Bind, Mount, Value, Volume};

/// The default mounts, then `tmpfs`, `binds` and `mounts`: one of a destination replaces those before it. Sorted by
/// destination, so that `/dev` comes before `/dev/pts`.
///
/// LinuxKit leaves the name of a volume in `mounts` as it is; here it becomes its path, as in `binds`.
///
/// `data` is where the data partition is mounted.
pub fn mounts(settings: Precedence<'_>, readonly: bool, data: Option<&str>) -> Value {
    let mut all: BTreeMap<String, Mount> = defaults(readonly).into_iter().map(keyed).collect();
    for tmpfs in settings.list(|settings| &settings.tmpfs) {
        let options = tmpfs.options.clone().unwrap_or_default();
        all.extend([keyed(mount(&tmpfs.destination, "tmpfs", "tmpfs", options))]);
    }
    // Volumes are known to blueprints only: a name in a label is taken as it is.
    let blueprint_binds = settings.blueprint.binds.is_some();
    let label_binds = settings.label.and_then(|label| label.binds.as_ref()).filter(|_| !blueprint_binds);
    let own = settings.blueprint.binds.as_ref().or(settings.blueprint.binds_add.as_ref());
    for bind in label_binds.into_iter().flatten() {
        all.extend([keyed(bind_mount(bind, &bind.source))]);
    }
    for bind in own.into_iter().flatten() {
        let source = bind.volume().map_or_else(|| bind.source.clone(), Volume::merged);
        all.extend([keyed(bind_mount(bind, &source))]);
    }
    let own = settings.blueprint.mounts.is_some();
    for written in settings.list(|settings| &settings.mounts) {
        // What cannot be completed was refused when it was read.
        let Ok(mut full) = written.completed() else { continue };
        if let Some(volume) = written.volume().filter(|_| own) {
            full.source = Volume::merged(volume);
            // Without one of these runtimes would look for a file system of the name "bind".
            if !full.options.iter().any(|option| option == "bind" || option == "rbind") {
                full.options.push("rbind".into());
            }
        }
        all.extend([keyed(full)]);
    }
    if let Some(data) = data {
        all.values_mut().for_each(|mount| without_rights(mount, data));
    }
    Value::List(all.values().map(Mount::to_value).collect())
}

/// What is bound from the data partition has no device nodes and no set-user-ID programs, unless `dev` or `suid` ask for
/// them: nothing checks that partition. In the machine it is mounted so, but crun gives a bind the flags of its own
/// options and no others (seen with 1.8). Programs can be run from it: container engines do.
fn without_rights(mount: &mut Mount, data: &str) {
    let bound = mount.options.iter().any(|option| option == "bind" || option == "rbind");
    let inside = mount.source.strip_prefix(data).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !bound || !inside {
        return;
    }
    for (flag, opposite) in [("nodev", "dev"), ("nosuid", "suid")] {
        if !mount.options.iter().any(|option| option == flag || option == opposite) {
            mount.options.push(flag.into());
        }
    }
}

fn keyed(mount: Mount) -> (String, Mount) {
    (mount.destination.clone(), mount)
}

fn mount(destination: &str, kind: &str, source: &str, options: Vec<String>) -> Mount {
    Mount { destination: destination.into(), kind: kind.into(), source: source.into(), options, source_place: None }
}

fn bind_mount(bind: &Bind, source: &str) -> Mount {
    let options = match &bind.options {
        Some(options) => options.iter().map(String::as_str).chain(["rbind"]).map(str::to_owned).collect(),
        None => words("rw,rbind,rshared"),
    };
    mount(&bind.destination, "bind", source, options)
}

fn words(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

/// Without /dev/shm and /dev/mqueue, as in LinuxKit.
fn defaults(readonly: bool) -> [Mount; 5] {
    let read_only = |options: &str| {
        let mut options = words(options);
        if readonly {
            options.push("ro".into());
        }
        options
    };
    [
        mount("/dev", "tmpfs", "tmpfs", read_only("nosuid,strictatime,mode=755,size=65536k")),
        mount("/dev/pts", "devpts", "devpts", words("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620")),
        mount("/proc", "proc", "proc", words("nosuid,nodev,noexec,relatime")),
        mount("/sys", "sysfs", "sysfs", read_only("nosuid,noexec,nodev")),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", words("nosuid,noexec,nodev,relatime,ro")),
    ]
}
