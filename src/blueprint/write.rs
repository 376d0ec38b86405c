//! Blueprints written out again: `--dry-run`, and `metadata` of a file.
//!
//! What is written can be read again. Keys stand in the order of the types; the sections are always written, most other
//! keys only if they were given.

use super::device::Device;
use super::disk::{Data, Disk};
use super::document::Blueprint;
use super::file::{Content, File, MetadataFormat};
use super::id::{Id, IdMapping};
use super::image::{Image, Security, Settings};
use super::kernel::{Kernel, Ucode};
use super::mount::Mount;
use super::reference::Reference;
use super::resources::{BlockIo, Cpu, DeviceRule, Memory, Network, Resources, ThrottleDevice};
use super::root::Root;
use super::runtime::Runtime;
use super::source::Spanned;
use super::value::Value;
use super::volume::{Volume, VolumeFormat};

/// A map under construction.
#[derive(Debug, Default)]
pub struct MapBuilder(Vec<(String, Value)>);

impl MapBuilder {
    /// Puts a key in.
    pub fn put(&mut self, key: &str, value: Value) -> &mut MapBuilder {
        self.0.push((key.to_owned(), value));
        self
    }

    /// Puts a key in if there is a value.
    pub fn maybe(&mut self, key: &str, value: Option<Value>) -> &mut MapBuilder {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// The map.
    pub fn build(&mut self) -> Value {
        Value::Map(std::mem::take(&mut self.0))
    }
}

/// How references are written.
#[derive(Clone, Copy)]
enum Names {
    AsTyped,
    Full,
}

impl Names {
    fn write(self, reference: &Reference) -> Value {
        match self {
            Names::AsTyped => Value::text(reference.as_typed()),
            Names::Full => Value::text(reference.to_string()),
        }
    }
}

impl Blueprint {
    /// The merged blueprint as YAML, with references as they were typed and templates resolved.
    pub fn to_yaml(&self) -> String {
        self.to_value(Names::AsTyped).to_yaml(4)
    }

    /// What a file with `metadata` holds: the blueprint with full references (but those of volumes).
    pub fn metadata(&self, format: MetadataFormat) -> String {
        let value = self.to_value(Names::Full);
        match format {
            MetadataFormat::Yaml => value.to_yaml(2),
            MetadataFormat::Json => value.to_json(4),
        }
    }

    fn to_value(&self, names: Names) -> Value {
        let images = |list: &[Image]| Value::List(list.iter().map(|image| image_value(image, names)).collect());
        let mut map = MapBuilder::default();
        map.put("kernel", kernel_value(&self.kernel, names));
        map.put("init", Value::List(self.init.iter().map(|reference| names.write(reference)).collect()));
        map.put("onboot", images(&self.onboot));
        map.put("onshutdown", images(&self.onshutdown));
        map.put("services", images(&self.services));
        map.put("files", Value::List(self.files.iter().map(file_value).collect()));
        map.put("volumes", Value::List(self.volumes.iter().map(volume_value).collect()));
        let mut trust = MapBuilder::default();
        for (key, list) in [("image", &self.trust.image), ("org", &self.trust.org)] {
            if !list.is_empty() {
                trust.put(key, Value::texts(list));
            }
        }
        let trust = trust.build();
        if !trust.is_empty() {
            map.put("trust", trust);
        }
        map.maybe("security", self.security.as_ref().map(|security| security_value(security.value)));
        map.maybe("root", self.root.as_ref().map(root_value));
        let disk = disk_value(&self.disk);
        map.maybe("disk", (!disk.is_empty()).then_some(disk));
        map.build()
    }
}

fn root_value(root: &Root) -> Value {
    let mut map = MapBuilder::default();
    map.maybe("type", root.kind.as_ref().map(|kind| Value::text(kind.value.word())));
    map.maybe("verity", root.verity.as_ref().map(|verity| Value::Bool(verity.value)));
    map.maybe("compression", root.compression.as_ref().map(|kind| Value::text(kind.value.word())));
    map.maybe("signature", root.signature.as_ref().map(|signature| Value::text(signature.value.word())));
    map.maybe("onfailure", root.on_failure.as_ref().map(|word| Value::text(word.value.word())));
    map.build()
}

fn disk_value(disk: &Disk) -> Value {
    let mut map = MapBuilder::default();
    map.maybe("slots", disk.slots.as_ref().map(|slots| Value::Integer(slots.value.into())));
    map.maybe("slot-size", disk.slot_size.as_ref().map(|size| Value::Text(size.value.to_string())));
    map.maybe("data", disk.data.as_ref().map(|data| data_value(data)));
    map.build()
}

fn data_value(data: &Data) -> Value {
    let text = |text: &Option<Spanned<String>>| text.as_ref().map(|text| Value::text(text.as_str()));
    let mut map = MapBuilder::default();
    map.maybe("size", data.size.as_ref().map(|size| Value::Text(size.value.to_string())));
    map.maybe("label", text(&data.label)).maybe("mount", text(&data.mount));
    map.maybe("filesystem", data.file_system.as_ref().map(|_| Value::text(data.file_system())));
    map.maybe("encrypt", data.encrypt.as_ref().map(|_| Value::text(data.encrypt())));
    map.build()
}

fn security_value(security: Security) -> Value {
    Value::text(match security {
        Security::Linuxkit => "linuxkit",
        Security::Strict => "strict",
    })
}

fn kernel_value(kernel: &Kernel, names: Names) -> Value {
    let text = |text: &Option<Spanned<String>>| text.as_ref().map(|text| Value::text(text.as_str()));
    let mut map = MapBuilder::default();
    map.put("image", kernel.image.as_ref().map_or_else(|| Value::text(""), |image| names.write(image)));
    map.maybe("cmdline", text(&kernel.cmdline)).maybe("binary", text(&kernel.binary)).maybe("tar", text(&kernel.tar));
    map.maybe(
        "ucode",
        kernel.ucode.as_ref().map(|ucode| match &ucode.value {
            Ucode::File(name) => Value::text(name),
            Ucode::Image(reference) => names.write(reference),
        }),
    );
    map.build()
}

fn file_value(file: &File) -> Value {
    let mut map = MapBuilder::default();
    map.put("path", Value::text(&file.typed_path));
    map.put("directory", Value::Bool(matches!(file.content, Content::Directory)));
    match &file.content {
        Content::Directory => &mut map,
        Content::Symlink(target) => map.put("symlink", Value::text(target.as_str())),
        Content::Contents(text) => map.put("contents", Value::text(text.as_str())),
        Content::Source(path) => map.put("source", Value::text(path.as_str())),
        Content::Metadata(MetadataFormat::Yaml) => map.put("metadata", Value::text("yaml")),
        Content::Metadata(MetadataFormat::Json) => map.put("metadata", Value::text("json")),
    };
    map.put("optional", Value::Bool(file.optional));
    map.maybe("mode", file.mode.as_ref().map(|mode| Value::Text(format!("{:04o}", mode.value))));
    map.maybe("uid", file.uid.as_ref().map(|id| id_value(id)));
    map.maybe("gid", file.gid.as_ref().map(|id| id_value(id)));
    map.build()
}

fn volume_value(volume: &Volume) -> Value {
    let mut map = MapBuilder::default();
    map.put("name", Value::text(volume.name.as_str()));
    map.maybe("image", volume.image.as_ref().map(|image| Names::AsTyped.write(image)));
    map.maybe("readonly", volume.readonly.then_some(Value::Bool(true)));
    map.maybe("format", (volume.format == VolumeFormat::Oci).then(|| Value::text("oci")));
    map.maybe("platforms", (!volume.platforms.is_empty()).then(|| Value::texts(&volume.platforms)));
    map.build()
}

fn id_value(id: &Id) -> Value {
    match id {
        Id::Number(number) => Value::Integer((*number).into()),
        Id::Name(name) => Value::text(name),
    }
}

fn image_value(image: &Image, names: Names) -> Value {
    let mut map = MapBuilder::default();
    map.put("name", Value::text(image.name.as_str())).put("image", names.write(&image.image));
    settings_keys(&image.settings, &mut map);
    map.build()
}

impl Settings {
    /// The settings as a map with the keys of a label, in the order of the types.
    pub fn to_value(&self) -> Value {
        let mut map = MapBuilder::default();
        settings_keys(self, &mut map);
        map.build()
    }
}

fn settings_keys(settings: &Settings, map: &mut MapBuilder) {
    fn texts<T: std::fmt::Display>(list: &Option<Vec<Spanned<T>>>) -> Option<Value> {
        list.as_ref().map(Value::texts)
    }
    let text = |text: &Option<Spanned<String>>| text.as_ref().map(|text| Value::text(text.as_str()));
    let truth = |value: &Option<Spanned<bool>>| value.as_ref().map(|value| Value::Bool(value.value));
    let ids = |mappings: &Option<Vec<IdMapping>>| {
        mappings.as_ref().map(|list| Value::List(list.iter().map(IdMapping::to_value).collect()))
    };
    let mounts = |list: &Vec<Spanned<Mount>>| Value::List(list.iter().map(|mount| mount.to_value()).collect());
    let devices = |list: &Vec<Spanned<Device>>| Value::List(list.iter().map(|device| device_value(device)).collect());
    map.maybe("capabilities", texts(&settings.capabilities));
    map.maybe("capabilities.add", texts(&settings.capabilities_add));
    map.maybe("ambient", texts(&settings.ambient));
    map.maybe("mounts", settings.mounts.as_ref().map(mounts));
    map.maybe("binds", texts(&settings.binds));
    map.maybe("binds.add", texts(&settings.binds_add));
    map.maybe("devices", settings.devices.as_ref().map(devices));
    map.maybe("tmpfs", texts(&settings.tmpfs));
    map.maybe("command", texts(&settings.command));
    map.maybe("env", texts(&settings.env));
    for (key, value) in [
        ("cwd", &settings.cwd),
        ("net", &settings.net),
        ("pid", &settings.pid),
        ("ipc", &settings.ipc),
        ("uts", &settings.uts),
        ("userns", &settings.userns),
        ("hostname", &settings.hostname),
    ] {
        map.maybe(key, text(value));
    }
    map.maybe("readonly", truth(&settings.readonly));
    map.maybe("maskedPaths", texts(&settings.masked_paths));
    map.maybe("readonlyPaths", texts(&settings.readonly_paths));
    map.maybe("uid", settings.uid.as_ref().map(|id| id_value(id)));
    map.maybe("gid", settings.gid.as_ref().map(|id| id_value(id)));
    let gids = settings.additional_gids.as_ref();
    map.maybe("additionalGids", gids.map(|list| Value::List(list.iter().map(|id| id_value(id)).collect())));
    map.maybe("noNewPrivileges", truth(&settings.no_new_privileges));
    map.maybe("oomScoreAdj", settings.oom_score_adj.as_ref().map(|score| Value::Integer(score.value.into())));
    map.maybe("rootfsPropagation", text(&settings.rootfs_propagation));
    map.maybe("cgroupsPath", text(&settings.cgroups_path));
    map.maybe("resources", settings.resources.as_ref().map(|resources| resources.to_value("blockio")));
    map.maybe("sysctl", settings.sysctl.as_ref().map(|pairs| pairs_value(pairs)));
    map.maybe("rlimits", texts(&settings.rlimits));
    map.maybe("uidMappings", ids(&settings.uid_mappings));
    map.maybe("gidMappings", ids(&settings.gid_mappings));
    map.maybe("annotations", settings.annotations.as_ref().map(|pairs| pairs_value(pairs)));
    map.maybe("runtime", settings.runtime.as_ref().map(runtime_value));
    map.maybe("security", settings.security.as_ref().map(|security| security_value(security.value)));
}

fn pairs_value(pairs: &[(Spanned<String>, Spanned<String>)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| (key.value.clone(), Value::text(value.as_str()))).collect())
}

impl IdMapping {
    /// The mapping with the keys of the OCI runtime specification.
    pub fn to_value(&self) -> Value {
        let mut map = MapBuilder::default();
        map.put("containerID", Value::Integer(self.container_id.into()));
        map.put("hostID", Value::Integer(self.host_id.into())).put("size", Value::Integer(self.size.into()));
        map.build()
    }
}

impl Mount {
    /// The mount with the keys of the OCI runtime specification; what is empty is left out.
    pub fn to_value(&self) -> Value {
        let mut map = MapBuilder::default();
        for (key, text) in [("destination", &self.destination), ("type", &self.kind), ("source", &self.source)] {
            map.maybe(key, (!text.is_empty()).then(|| Value::text(text)));
        }
        map.maybe("options", (!self.options.is_empty()).then(|| Value::texts(&self.options)));
        map.build()
    }
}

fn device_value(device: &Device) -> Value {
    let mut map = MapBuilder::default();
    map.put("path", Value::text(&device.path)).put("type", Value::text(&device.kind));
    map.put("major", Value::Integer(device.major.into())).put("minor", Value::Integer(device.minor.into()));
    map.maybe("mode", device.mode.map(|mode| Value::Text(format!("{mode:04o}"))));
    map.build()
}

fn runtime_value(runtime: &Runtime) -> Value {
    let mut map = MapBuilder::default();
    map.maybe("cgroups", runtime.cgroups.as_ref().map(Value::texts));
    let mounts = runtime.mounts.as_ref();
    map.maybe("mounts", mounts.map(|list| Value::List(list.iter().map(|mount| mount.to_value()).collect())));
    map.maybe("mkdir", runtime.mkdir.as_ref().map(Value::texts));
    let interfaces = runtime.interfaces.as_ref();
    map.maybe("interfaces", interfaces.map(|list| Value::List(list.iter().map(|one| one.to_value()).collect())));
    let names = &runtime.bind_ns;
    let mut bind = MapBuilder::default();
    for (key, path) in names.members() {
        bind.maybe(key, path.as_ref().map(Value::text));
    }
    let bind = bind.build();
    map.maybe("bindNS", (!bind.is_empty()).then_some(bind));
    map.maybe("namespace", runtime.namespace.as_ref().map(|text| Value::text(text.as_str())));
    map.build()
}

impl super::runtime::Interface {
    /// The interface with the keys of `runtime.interfaces`; what is empty is left out.
    pub fn to_value(&self) -> Value {
        let mut map = MapBuilder::default();
        for (key, text) in [("name", &self.name), ("add", &self.add), ("peer", &self.peer)] {
            map.maybe(key, (!text.is_empty()).then(|| Value::text(text)));
        }
        map.put("createInRoot", Value::Bool(self.create_in_root)).build()
    }
}

impl Resources {
    /// The limits with the keys of the OCI runtime specification, but for block devices: `blockio` in blueprints,
    /// `blockIO` in config.json.
    pub fn to_value(&self, block_io_key: &str) -> Value {
        let mut map = MapBuilder::default();
        let devices = self.devices.as_ref();
        map.maybe("devices", devices.map(|rules| Value::List(rules.iter().map(DeviceRule::to_value).collect())));
        map.maybe("memory", self.memory.as_ref().map(memory_value));
        map.maybe("cpu", self.cpu.as_ref().map(cpu_value));
        let pids = |limit: i64| MapBuilder::default().put("limit", Value::Integer(limit.into())).build();
        map.maybe("pids", self.pids_limit.map(pids));
        map.maybe(block_io_key, self.block_io.as_ref().map(block_io_value));
        let hugepages = |(size, limit): &(String, u64)| {
            let mut map = MapBuilder::default();
            map.put("pageSize", Value::text(size)).put("limit", Value::Integer((*limit).into())).build()
        };
        let limits = self.hugepage_limits.as_ref();
        map.maybe("hugepageLimits", limits.map(|list| Value::List(list.iter().map(hugepages).collect())));
        map.maybe("network", self.network.as_ref().map(network_value));
        map.build()
    }
}

impl DeviceRule {
    /// The rule with the keys of the OCI runtime specification.
    pub fn to_value(&self) -> Value {
        let mut map = MapBuilder::default();
        map.put("allow", Value::Bool(self.allow)).maybe("type", self.kind.as_ref().map(Value::text));
        map.maybe("major", self.major.map(integer)).maybe("minor", self.minor.map(integer));
        map.maybe("access", self.access.as_ref().map(Value::text)).build()
    }
}

fn integer(number: impl Into<i128>) -> Value {
    Value::Integer(number.into())
}

fn memory_value(memory: &Memory) -> Value {
    let mut map = MapBuilder::default();
    map.maybe("limit", memory.limit.map(integer)).maybe("reservation", memory.reservation.map(integer));
    map.maybe("swap", memory.swap.map(integer)).maybe("kernel", memory.kernel.map(integer));
    map.maybe("kernelTCP", memory.kernel_tcp.map(integer)).maybe("swappiness", memory.swappiness.map(integer));
    map.maybe("disableOOMKiller", memory.disable_oom_killer.map(Value::Bool)).build()
}

fn cpu_value(cpu: &Cpu) -> Value {
    let mut map = MapBuilder::default();
    map.maybe("shares", cpu.shares.map(integer)).maybe("quota", cpu.quota.map(integer));
    map.maybe("period", cpu.period.map(integer)).maybe("realtimeRuntime", cpu.realtime_runtime.map(integer));
    map.maybe("realtimePeriod", cpu.realtime_period.map(integer)).maybe("cpus", cpu.cpus.as_ref().map(Value::text));
    map.maybe("mems", cpu.mems.as_ref().map(Value::text)).build()
}

fn block_io_value(block_io: &BlockIo) -> Value {
    let throttle = |device: &ThrottleDevice| {
        let mut map = MapBuilder::default();
        map.put("major", integer(device.major)).put("minor", integer(device.minor)).put("rate", integer(device.rate));
        map.build()
    };
    let throttles = |list: &Vec<ThrottleDevice>| Value::List(list.iter().map(throttle).collect());
    let mut map = MapBuilder::default();
    map.maybe("weight", block_io.weight.map(integer)).maybe("leafWeight", block_io.leaf_weight.map(integer));
    let weights = block_io.weight_device.as_ref().map(|list| {
        let weight = |device: &super::resources::WeightDevice| {
            let mut map = MapBuilder::default();
            map.put("major", integer(device.major)).put("minor", integer(device.minor));
            map.maybe("weight", device.weight.map(integer)).maybe("leafWeight", device.leaf_weight.map(integer)).build()
        };
        Value::List(list.iter().map(weight).collect())
    });
    map.maybe("weightDevice", weights);
    map.maybe("throttleReadBpsDevice", block_io.throttle_read_bps_device.as_ref().map(throttles));
    map.maybe("throttleWriteBpsDevice", block_io.throttle_write_bps_device.as_ref().map(throttles));
    map.maybe("throttleReadIOPSDevice", block_io.throttle_read_iops_device.as_ref().map(throttles));
    map.maybe("throttleWriteIOPSDevice", block_io.throttle_write_iops_device.as_ref().map(throttles));
    map.build()
}

fn network_value(network: &Network) -> Value {
    let mut map = MapBuilder::default();
    let priority = |(name, priority): &(String, u32)| {
        MapBuilder::default().put("name", Value::text(name)).put("priority", integer(*priority)).build()
    };
    map.maybe("classID", network.class_id.map(integer));
    let priorities = network.priorities.as_ref();
    map.maybe("priorities", priorities.map(|list| Value::List(list.iter().map(priority).collect())));
    map.build()
}
