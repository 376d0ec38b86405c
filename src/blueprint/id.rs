//! User and group ids: numbers, or the names of containers, which have numbers of their own.

use super::decode::Decoder;
use super::node::{Meaning, Node};
use super::source::Spanned;

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// A number.
    Number(u32),
    /// The name of a container, `root`, or nothing, which is root too.
    Name(String),
}

impl Id {
    /// The name of the container that is meant, if one is.
    pub fn container(&self) -> Option<&str> {
        match self {
            Id::Name(name) if !name.is_empty() && name != "root" => Some(name),
            Id::Name(_) | Id::Number(_) => None,
        }
    }
}

/// From a range of ids in a container to one of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// First id in the container.
    pub container_id: u32,
    /// First id on the host.
    pub host_id: u32,
    /// How many ids.
    pub size: u32,
}

/// The keys of an entry of `uidMappings` and `gidMappings`.
pub static ID_MAPPING: super::schema::Table = super::schema::Table {
    name: "an id mapping",
    keys: &[
        super::schema::Key::new("containerID", ID, "first id in the container"),
        super::schema::Key::new("hostID", ID, "first id on the host"),
        super::schema::Key::new("size", ID, "how many ids"),
    ],
};

const ID: super::schema::Shape = super::schema::Shape::Integer(0, u32::MAX as u64);

impl Decoder<'_, '_> {
    /// A number or a name.
    pub fn id(&mut self, node: &Node, what: &str) -> Option<Spanned<Id>> {
        match node.scalar().map(super::node::Scalar::meaning) {
            Some(Meaning::Integer(_)) => Some(self.integer::<u32>(node, what, 0, u32::MAX.into())?.map(Id::Number)),
            Some(Meaning::Text) => Some(self.clean_text(node, what)?.map(Id::Name)),
            _ => {
                self.expected(node, what, "a number or the name of a container");
                None
            }
        }
    }

    /// `uidMappings` and `gidMappings`.
    pub fn id_mappings(&mut self, node: &Node, what: &str) -> Option<Vec<IdMapping>> {
        self.list(node, what, |decoder, node| {
            let fields = decoder.fields(node, &ID_MAPPING)?;
            let mut number = |key: &str| match fields.get(key) {
                Some(node) => decoder.integer::<u32>(node, &format!("`{key}`"), 0, u32::MAX.into()).map(|id| id.value),
                None => Some(0),
            };
            let (container_id, host_id, size) = (number("containerID"), number("hostID"), number("size"));
            Some(IdMapping { container_id: container_id?, host_id: host_id?, size: size? })
        })
    }
}
