//! `runtime`: what the init of the guest does around a container; it becomes runtime.json.

use super::decode::{Decoder, Fields};
use super::mount::{MOUNT, Mount};
use super::node::Node;
use super::schema::{Key, Shape, TEXTS, Table};
use super::source::Spanned;

/// What is done around a container. An absent value of the blueprint leaves that of the label.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    /// Cgroups to make.
    pub cgroups: Option<Vec<Spanned<String>>>,
    /// What is mounted before the container is made.
    pub mounts: Option<Vec<Spanned<Mount>>>,
    /// Folders to make.
    pub mkdir: Option<Vec<Spanned<String>>>,
    /// Network interfaces to make or move.
    pub interfaces: Option<Vec<Interface>>,
    /// Files that the namespaces are bound to.
    pub bind_ns: BindNamespaces,
    /// The containerd namespace of a service.
    pub namespace: Option<Spanned<String>>,
}

/// A network interface of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its type, if it shall be made ("veth"); otherwise it is moved.
    pub add: String,
    /// The other end of a veth.
    pub peer: String,
    /// Whether it is made in the root namespace.
    pub create_in_root: bool,
}

/// Where the namespaces of a container are bound to, so that others can join them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindNamespaces {
    /// Control groups.
    pub cgroup: Option<String>,
    /// System V IPC and message queues.
    pub ipc: Option<String>,
    /// Mounts.
    pub mnt: Option<String>,
    /// Network.
    pub net: Option<String>,
    /// Process ids.
    pub pid: Option<String>,
    /// Users.
    pub user: Option<String>,
    /// Host name.
    pub uts: Option<String>,
}

impl BindNamespaces {
    /// Every namespace with its key, in the order of runtime.json.
    pub fn members(&self) -> [(&'static str, &Option<String>); 7] {
        [
            ("cgroup", &self.cgroup),
            ("ipc", &self.ipc),
            ("mnt", &self.mnt),
            ("net", &self.net),
            ("pid", &self.pid),
            ("user", &self.user),
            ("uts", &self.uts),
        ]
    }
}

/// The keys of `runtime`.
pub static RUNTIME: Table = Table {
    name: "`runtime`",
    keys: &[
        Key::new("cgroups", TEXTS, "control groups to make"),
        Key::new("mounts", Shape::List(&Shape::Map(&MOUNT)), "what is mounted before the container is made"),
        Key::new("mkdir", TEXTS, "folders to make"),
        Key::new("interfaces", Shape::List(&Shape::Map(&INTERFACE)), "network interfaces to make or move"),
        Key::new("bindNS", Shape::Map(&BIND_NS), "files that the namespaces are bound to"),
        Key::new("namespace", Shape::Text, "containerd namespace of a service"),
    ],
};

/// The keys of an entry of `runtime.interfaces`.
pub static INTERFACE: Table = Table {
    name: "an interface",
    keys: &[
        Key::new("name", Shape::Text, "name of the interface"),
        Key::new("add", Shape::Text, "type, if it shall be made"),
        Key::new("peer", Shape::Text, "other end of a veth"),
        Key::new("createInRoot", Shape::Bool, "made in the root namespace"),
    ],
};

/// The keys of `runtime.bindNS`.
pub static BIND_NS: Table = Table {
    name: "`bindNS`",
    keys: &[
        Key::new("cgroup", Shape::Text, "control groups"),
        Key::new("ipc", Shape::Text, "System V IPC and message queues"),
        Key::new("mnt", Shape::Text, "mounts"),
        Key::new("net", Shape::Text, "network"),
        Key::new("pid", Shape::Text, "process ids"),
        Key::new("user", Shape::Text, "users"),
        Key::new("uts", Shape::Text, "host name"),
    ],
};

impl Decoder<'_, '_> {
    /// `runtime`.
    pub fn runtime(&mut self, node: &Node) -> Option<Runtime> {
        let fields = self.fields(node, &RUNTIME)?;
        Some(Runtime {
            cgroups: fields.get("cgroups").and_then(|node| self.texts(node, "`cgroups`")),
            mounts: fields.get("mounts").and_then(|node| self.mounts(node, "`mounts`", false)),
            mkdir: fields.get("mkdir").and_then(|node| self.texts(node, "`mkdir`")),
            interfaces: fields.get("interfaces").and_then(|node| {
                self.list(node, "`interfaces`", |decoder, node| {
                    let fields = decoder.fields(node, &INTERFACE)?;
                    Some(Interface {
                        name: decoder.text_or_empty(&fields, "name"),
                        add: decoder.text_or_empty(&fields, "add"),
                        peer: decoder.text_or_empty(&fields, "peer"),
                        create_in_root: fields
                            .get("createInRoot")
                            .and_then(|node| decoder.bool(node, "`createInRoot`"))
                            .is_some_and(|value| value.value),
                    })
                })
            }),
            bind_ns: fields.get("bindNS").and_then(|node| self.bind_namespaces(node)).unwrap_or_default(),
            namespace: fields.get("namespace").and_then(|node| self.clean_text(node, "`namespace`")),
        })
    }

    fn bind_namespaces(&mut self, node: &Node) -> Option<BindNamespaces> {
        let fields = self.fields(node, &BIND_NS)?;
        let mut text = |key: &str| {
            fields.get(key).and_then(|node| self.clean_text(node, &format!("`{key}`"))).map(|text| text.value)
        };
        Some(BindNamespaces {
            cgroup: text("cgroup"),
            ipc: text("ipc"),
            mnt: text("mnt"),
            net: text("net"),
            pid: text("pid"),
            user: text("user"),
            uts: text("uts"),
        })
    }

    fn text_or_empty(&mut self, fields: &Fields<'_>, key: &str) -> String {
        let found = fields.get(key).and_then(|node| self.clean_text(node, &format!("`{key}`")));
        found.map(|text| text.value).unwrap_or_default()
    }
}
