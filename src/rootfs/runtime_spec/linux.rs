//! `linux` of config.json: namespaces, control groups, devices, and what is hidden.

use super::precedence::{Precedence, pairs};
use super::process::Capabilities;
use super::seccomp;
use crate::Arch;
use crate::blueprint::{Device, DeviceRule, IdMapping, MapBuilder, Resources, Settings, Spanned, Value};

/// What Docker hides from containers: kernel memory, keys and timers, and firmware.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What Docker makes read-only in containers: where the kernel is configured.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `linux`; with `strict`, the defaults of `security: strict` for an architecture.
pub fn linux(settings: Precedence<'_>, strict: Option<Arch>, capabilities: &Capabilities) -> Value {
    let devices = settings.list(|settings| &settings.devices);
    let nodes: Vec<Value> = devices.iter().filter(|device| device.path != "all").map(|device| node(device)).collect();
    let filled = |value: Value| (!value.is_empty()).then_some(value);
    let mappings = |list: &[IdMapping]| filled(Value::List(list.iter().map(IdMapping::to_value).collect()));

    let mut map = MapBuilder::default();
    map.maybe("uidMappings", mappings(settings.list(|settings| &settings.uid_mappings)));
    map.maybe("gidMappings", mappings(settings.list(|settings| &settings.gid_mappings)));
    map.maybe("sysctl", settings.first(|settings| &settings.sysctl).and_then(|list| filled(pairs(list))));
    map.put("resources", resources(settings.first(|settings| &settings.resources), devices));
    map.maybe("cgroupsPath", settings.text(|settings| &settings.cgroups_path).map(Value::text));
    map.put("namespaces", Value::List(namespaces(settings)));
    map.maybe("devices", filled(Value::List(nodes)));
    map.maybe("seccomp", strict.map(|arch| seccomp::profile(arch, capabilities)));
    map.maybe("rootfsPropagation", settings.text(|settings| &settings.rootfs_propagation).map(Value::text));
    let mut paths = |key: &str, get: fn(&Settings) -> &Option<Vec<Spanned<String>>>, defaults: &[&str]| {
        let said = settings.first(get).is_some();
        let value = if said || strict.is_none() { settings.texts(get) } else { Some(Value::texts(defaults)) };
        map.maybe(key, value);
    };
    paths("maskedPaths", |settings| &settings.masked_paths, &MASKED_PATHS);
    paths("readonlyPaths", |settings| &settings.readonly_paths, &READONLY_PATHS);
    map.build()
}

/// Which namespaces are new or joined; those of the host are left out. Never one for control groups.
fn namespaces(settings: Precedence<'_>) -> Vec<Value> {
    type Get = for<'a> fn(&'a Settings) -> &'a Option<Spanned<String>>;
    let known: [(&str, Get, &str); 5] = [
        ("network", |settings| &settings.net, "host"),
        ("ipc", |settings| &settings.ipc, "host"),
        ("uts", |settings| &settings.uts, "host"),
        ("pid", |settings| &settings.pid, "new"),
        ("user", |settings| &settings.userns, "host"),
    ];
    let mut list = Vec::new();
    for (kind, get, default) in known {
        let path = match settings.text(get).unwrap_or(default) {
            "host" | "root" => continue,
            "new" | "none" => None,
            path => Some(Value::text(path)),
        };
        list.push(MapBuilder::default().put("type", Value::text(kind)).maybe("path", path).build());
    }
    list.push(MapBuilder::default().put("type", Value::text("mount")).build());
    list
}

/// `resources`, with the right to use the devices. `path: all` stands for all devices of a type, whatever its numbers.
fn resources(written: Option<&Resources>, devices: &[Spanned<Device>]) -> Value {
    let mut resources = written.cloned().unwrap_or_default();
    if !devices.is_empty() {
        let rules = resources.devices.get_or_insert_default();
        rules.extend(devices.iter().map(|device| {
            let one = device.path != "all";
            DeviceRule {
                allow: true,
                kind: Some(device.kind.clone()),
                major: one.then_some(device.major),
                minor: one.then_some(device.minor),
                access: Some("rwm".into()),
            }
        }));
    }
    resources.to_value("blockIO")
}

fn node(device: &Device) -> Value {
    let mut map = MapBuilder::default();
    map.put("path", Value::text(&device.path)).put("type", Value::text(&device.kind));
    map.put("major", Value::Integer(device.major.into())).put("minor", Value::Integer(device.minor.into()));
    map.put("fileMode", Value::Integer(device.mode.unwrap_or(0).into())).build()
}
