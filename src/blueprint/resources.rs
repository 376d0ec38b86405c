//! `resources`: control group limits, with the keys of the OCI runtime specification (`config-linux.md`).
//!
//! LinuxKit's schema knows all of these keys but drops those with an upper-case letter; here they work.

use super::decode::{Decoder, Fields};
use super::node::{Meaning, Node};
use super::schema::{ANY_INTEGER, Key, Shape, Table};

/// Control group limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Which devices may be used.
    pub devices: Option<Vec<DeviceRule>>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Processors.
    pub cpu: Option<Cpu>,
    /// The most processes; 0 for `pids: {}`, which is no limit.
    pub pids_limit: Option<i64>,
    /// Block devices.
    pub block_io: Option<BlockIo>,
    /// Huge pages: size ("2MB") and the most bytes.
    pub hugepage_limits: Option<Vec<(String, u64)>>,
    /// Network.
    pub network: Option<Network>,
}

/// Whether devices may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allowed or not.
    pub allow: bool,
    /// `a`, `b` or `c`.
    pub kind: Option<String>,
    /// Major number; absent is any.
    pub major: Option<i64>,
    /// Minor number; absent is any.
    pub minor: Option<i64>,
    /// Letters of `rwm`.
    pub access: Option<String>,
}

/// Memory limits in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    pub swap: Option<i64>,
    pub kernel: Option<i64>,
    pub kernel_tcp: Option<i64>,
    pub swappiness: Option<u64>,
    pub disable_oom_killer: Option<bool>,
}

/// Processor limits; times in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Cpu {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub period: Option<u64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    pub cpus: Option<String>,
    pub mems: Option<String>,
}

/// Block device limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BlockIo {
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    pub weight_device: Option<Vec<WeightDevice>>,
    pub throttle_read_bps_device: Option<Vec<ThrottleDevice>>,
    pub throttle_write_bps_device: Option<Vec<ThrottleDevice>>,
    pub throttle_read_iops_device: Option<Vec<ThrottleDevice>>,
    pub throttle_write_iops_device: Option<Vec<ThrottleDevice>>,
}

/// The weight of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WeightDevice {
    pub major: i64,
    pub minor: i64,
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
}

/// The most bytes or operations a second of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ThrottleDevice {
    pub major: i64,
    pub minor: i64,
    pub rate: u64,
}

/// Network priorities (control groups version 1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The class of packets.
    pub class_id: Option<u32>,
    /// Interface and priority.
    pub priorities: Option<Vec<(String, u32)>>,
}

const RULES: Shape = Shape::List(&Shape::Map(&DEVICE_RULE));
const THROTTLE: Shape = Shape::List(&Shape::Map(&THROTTLE_DEVICE));
const NUMBER: Shape = Shape::Integer(0, i64::MAX as u64);
const WEIGHT: Shape = Shape::Integer(0, 1000);

/// The keys of `resources`.
pub static RESOURCES: Table = Table {
    name: "`resources`",
    keys: &[
        Key::new("devices", RULES, "which devices may be used"),
        Key::new("memory", Shape::Map(&MEMORY), "memory limits"),
        Key::new("cpu", Shape::Map(&CPU), "processor limits"),
        Key::new("pids", Shape::Map(&PIDS), "limit of processes"),
        Key::new("blockio", Shape::Map(&BLOCK_IO), "block device limits"),
        Key::new("hugepageLimits", Shape::List(&Shape::Map(&HUGEPAGE)), "limits of huge pages"),
        Key::new("network", Shape::Map(&NETWORK), "network class and priorities"),
    ],
};

/// The keys of an entry of `resources.devices`.
pub static DEVICE_RULE: Table = Table {
    name: "a device rule",
    keys: &[
        Key::new("allow", Shape::Bool, "allowed or not"),
        Key::new("type", Shape::Text, "a, b or c"),
        Key::new("major", NUMBER, "major number; any if left out"),
        Key::new("minor", NUMBER, "minor number; any if left out"),
        Key::new("access", Shape::Text, "letters of rwm"),
    ],
};

/// The keys of `resources.memory`.
pub static MEMORY: Table = Table {
    name: "`memory`",
    keys: &[
        Key::new("limit", ANY_INTEGER, "most bytes"),
        Key::new("reservation", ANY_INTEGER, "bytes to shrink to when memory is short"),
        Key::new("swap", ANY_INTEGER, "most bytes of memory and swap"),
        Key::new("kernel", ANY_INTEGER, "most bytes of kernel memory"),
        Key::new("kernelTCP", ANY_INTEGER, "most bytes of TCP buffers"),
        Key::new("swappiness", Shape::Integer(0, 100), "how readily memory is swapped out"),
        Key::new("disableOOMKiller", Shape::Bool, "wait instead of being killed"),
    ],
};

/// The keys of `resources.cpu`.
pub static CPU: Table = Table {
    name: "`cpu`",
    keys: &[
        Key::new("shares", Shape::Integer(0, u64::MAX), "share against others"),
        Key::new("quota", ANY_INTEGER, "microseconds in a period"),
        Key::new("period", Shape::Integer(0, u64::MAX), "microseconds of a period"),
        Key::new("realtimeRuntime", ANY_INTEGER, "realtime microseconds in a period"),
        Key::new("realtimePeriod", Shape::Integer(0, u64::MAX), "microseconds of a realtime period"),
        Key::new("cpus", Shape::Text, "processors (`0-2,7`)"),
        Key::new("mems", Shape::Text, "memory nodes"),
    ],
};

/// The keys of `resources.pids`.
pub static PIDS: Table = Table { name: "`pids`", keys: &[Key::new("limit", ANY_INTEGER, "most processes")] };

/// The keys of `resources.blockio`.
pub static BLOCK_IO: Table = Table {
    name: "`blockio`",
    keys: &[
        Key::new("weight", WEIGHT, "share against others"),
        Key::new("leafWeight", WEIGHT, "share against child groups"),
        Key::new("weightDevice", Shape::List(&Shape::Map(&WEIGHT_DEVICE)), "shares of single devices"),
        Key::new("throttleReadBpsDevice", THROTTLE, "most bytes read a second"),
        Key::new("throttleWriteBpsDevice", THROTTLE, "most bytes written a second"),
        Key::new("throttleReadIOPSDevice", THROTTLE, "most reads a second"),
        Key::new("throttleWriteIOPSDevice", THROTTLE, "most writes a second"),
    ],
};

/// The keys of an entry of `weightDevice`.
pub static WEIGHT_DEVICE: Table = Table {
    name: "a device weight",
    keys: &[
        Key::new("major", NUMBER, "major number"),
        Key::new("minor", NUMBER, "minor number"),
        Key::new("weight", WEIGHT, "share against others"),
        Key::new("leafWeight", WEIGHT, "share against child groups"),
    ],
};

/// The keys of an entry of `throttle...Device`.
pub static THROTTLE_DEVICE: Table = Table {
    name: "a device throttle",
    keys: &[
        Key::new("major", NUMBER, "major number"),
        Key::new("minor", NUMBER, "minor number"),
        Key::new("rate", Shape::Integer(0, u64::MAX), "most a second"),
    ],
};

/// The keys of an entry of `hugepageLimits`.
pub static HUGEPAGE: Table = Table {
    name: "a huge page limit",
    keys: &[
        Key::new("pageSize", Shape::IntegerOrText, "size of the pages (`2MB`)"),
        Key::new("limit", Shape::Integer(0, u64::MAX), "most bytes"),
    ],
};

/// The keys of `resources.network`.
pub static NETWORK: Table = Table {
    name: "`network`",
    keys: &[
        Key::new("classID", Shape::Integer(0, u32::MAX as u64), "class of packets"),
        Key::new("priorities", Shape::List(&Shape::Map(&PRIORITY)), "priorities of interfaces"),
    ],
};

/// The keys of an entry of `priorities`.
pub static PRIORITY: Table = Table {
    name: "an interface priority",
    keys: &[
        Key::new("name", Shape::Text, "interface"),
        Key::new("priority", Shape::Integer(0, u32::MAX as u64), "priority"),
    ],
};

impl Decoder<'_, '_> {
    /// `resources`.
    pub fn resources(&mut self, node: &Node) -> Option<Resources> {
        let fields = self.fields(node, &RESOURCES)?;
        Some(Resources {
            devices: fields.get("devices").and_then(|node| self.device_rules(node)),
            memory: fields.get("memory").and_then(|node| self.memory(node)),
            cpu: fields.get("cpu").and_then(|node| self.cpu(node)),
            pids_limit: fields.get("pids").and_then(|node| {
                let fields = self.fields(node, &PIDS)?;
                Some(self.signed(&fields, "limit").unwrap_or(0))
            }),
            block_io: fields.get("blockio").and_then(|node| self.block_io(node)),
            hugepage_limits: fields.get("hugepageLimits").and_then(|node| self.hugepage_limits(node)),
            network: fields.get("network").and_then(|node| self.network(node)),
        })
    }

    fn number<T: TryFrom<i128>>(&mut self, fields: &Fields<'_>, key: &str, least: i128, most: i128) -> Option<T> {
        let node = fields.get(key)?;
        self.integer::<T>(node, &format!("`{key}`"), least, most).map(|number| number.value)
    }

    fn signed(&mut self, fields: &Fields<'_>, key: &str) -> Option<i64> {
        self.number(fields, key, i64::MIN.into(), i64::MAX.into())
    }

    fn unsigned(&mut self, fields: &Fields<'_>, key: &str) -> Option<u64> {
        self.number(fields, key, 0, u64::MAX.into())
    }

    fn word_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let node = fields.get(key)?;
        self.clean_text(node, &format!("`{key}`")).map(|text| text.value)
    }

    fn truth(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let node = fields.get(key)?;
        self.bool(node, &format!("`{key}`")).map(|value| value.value)
    }

    fn device_rules(&mut self, node: &Node) -> Option<Vec<DeviceRule>> {
        self.list(node, "`devices`", |decoder, node| {
            let fields = decoder.fields(node, &DEVICE_RULE)?;
            Some(DeviceRule {
                allow: decoder.truth(&fields, "allow").unwrap_or(false),
                kind: decoder.word_of(&fields, "type"),
                major: decoder.number(&fields, "major", 0, i64::MAX.into()),
                minor: decoder.number(&fields, "minor", 0, i64::MAX.into()),
                access: decoder.word_of(&fields, "access"),
            })
        })
    }

    fn memory(&mut self, node: &Node) -> Option<Memory> {
        let fields = self.fields(node, &MEMORY)?;
        Some(Memory {
            limit: self.signed(&fields, "limit"),
            reservation: self.signed(&fields, "reservation"),
            swap: self.signed(&fields, "swap"),
            kernel: self.signed(&fields, "kernel"),
            kernel_tcp: self.signed(&fields, "kernelTCP"),
            swappiness: self.number(&fields, "swappiness", 0, 100),
            disable_oom_killer: self.truth(&fields, "disableOOMKiller"),
        })
    }

    fn cpu(&mut self, node: &Node) -> Option<Cpu> {
        let fields = self.fields(node, &CPU)?;
        Some(Cpu {
            shares: self.unsigned(&fields, "shares"),
            quota: self.signed(&fields, "quota"),
            period: self.unsigned(&fields, "period"),
            realtime_runtime: self.signed(&fields, "realtimeRuntime"),
            realtime_period: self.unsigned(&fields, "realtimePeriod"),
            cpus: self.word_of(&fields, "cpus"),
            mems: self.word_of(&fields, "mems"),
        })
    }

    fn block_io(&mut self, node: &Node) -> Option<BlockIo> {
        let fields = self.fields(node, &BLOCK_IO)?;
        Some(BlockIo {
            weight: self.number(&fields, "weight", 0, 1000),
            leaf_weight: self.number(&fields, "leafWeight", 0, 1000),
            weight_device: fields.get("weightDevice").and_then(|node| {
                self.list(node, "`weightDevice`", |decoder, node| {
                    let fields = decoder.fields(node, &WEIGHT_DEVICE)?;
                    Some(WeightDevice {
                        major: decoder.number(&fields, "major", 0, i64::MAX.into()).unwrap_or(0),
                        minor: decoder.number(&fields, "minor", 0, i64::MAX.into()).unwrap_or(0),
                        weight: decoder.number(&fields, "weight", 0, 1000),
                        leaf_weight: decoder.number(&fields, "leafWeight", 0, 1000),
                    })
                })
            }),
            throttle_read_bps_device: self.throttles(&fields, "throttleReadBpsDevice"),
            throttle_write_bps_device: self.throttles(&fields, "throttleWriteBpsDevice"),
            throttle_read_iops_device: self.throttles(&fields, "throttleReadIOPSDevice"),
            throttle_write_iops_device: self.throttles(&fields, "throttleWriteIOPSDevice"),
        })
    }

    fn throttles(&mut self, fields: &Fields<'_>, key: &str) -> Option<Vec<ThrottleDevice>> {
        let node = fields.get(key)?;
        self.list(node, &format!("`{key}`"), |decoder, node| {
            let fields = decoder.fields(node, &THROTTLE_DEVICE)?;
            Some(ThrottleDevice {
                major: decoder.number(&fields, "major", 0, i64::MAX.into()).unwrap_or(0),
                minor: decoder.number(&fields, "minor", 0, i64::MAX.into()).unwrap_or(0),
                rate: decoder.unsigned(&fields, "rate").unwrap_or(0),
            })
        })
    }

    fn hugepage_limits(&mut self, node: &Node) -> Option<Vec<(String, u64)>> {
        self.list(node, "`hugepageLimits`", |decoder, node| {
            let fields = decoder.fields(node, &HUGEPAGE)?;
            // LinuxKit's schema asks for a number, the OCI specification for text: both are taken.
            let size = match fields.get("pageSize") {
                None => String::new(),
                Some(node) => match node.scalar().map(|scalar| (scalar.meaning(), &scalar.text)) {
                    Some((Meaning::Integer(_), text)) => text.clone(),
                    _ => decoder.clean_text(node, "`pageSize`")?.value,
                },
            };
            Some((size, decoder.unsigned(&fields, "limit").unwrap_or(0)))
        })
    }

    fn network(&mut self, node: &Node) -> Option<Network> {
        let fields = self.fields(node, &NETWORK)?;
        Some(Network {
            class_id: self.number(&fields, "classID", 0, u32::MAX.into()),
            priorities: fields.get("priorities").and_then(|node| {
                self.list(node, "`priorities`", |decoder, node| {
                    let fields = decoder.fields(node, &PRIORITY)?;
                    let name = decoder.word_of(&fields, "name").unwrap_or_default();
                    Some((name, decoder.number(&fields, "priority", 0, u32::MAX.into()).unwrap_or(0)))
                })
            }),
        })
    }
}
