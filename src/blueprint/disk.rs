//! `disk`: an extension. How disks of the image are laid out beside the root.

use std::fmt;

use super::decode::{Decoder, shorten, visible};
use super::node::Node;
use super::schema::{IfAbsent, Key, Shape, Table};
use super::source::Spanned;

/// The layout of disks. Absent values have defaults; a later blueprint overrules an earlier one value by value.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// See [`Disk::slots`].
    pub slots: Option<Spanned<u8>>,
    /// Bytes of each root partition, with two slots; by content if absent.
    pub slot_size: Option<Spanned<Size>>,
    /// A partition for what shall survive; none if absent.
    pub data: Option<Spanned<Data>>,
}

/// A partition that the guest makes when it first boots.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// How large.
    pub size: Option<Spanned<DataSize>>,
    /// The name of the partition and of the file system.
    pub label: Option<Spanned<String>>,
    /// Where it is mounted.
    pub mount: Option<Spanned<String>>,
    /// What it is formatted with.
    pub file_system: Option<Spanned<DataFileSystem>>,
    /// How it is encrypted.
    pub encrypt: Option<Spanned<Encryption>>,
}

/// A number of bytes that was written as MiB or GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes.is_multiple_of(1 << 30) => write!(f, "{}G", bytes >> 30),
            bytes => write!(f, "{}M", bytes >> 20),
        }
    }
}

/// How large the data partition becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataSize {
    /// All that is free behind the other partitions, and what the disk grows by later.
    #[default]
    Rest,
    /// So many bytes.
    Bytes(Size),
}

/// What the data partition is formatted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataFileSystem {
    /// ext4.
    #[default]
    Ext4,
}

/// How the data partition is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// LUKS2 with a key that the machine's TPM 2.0 keeps.
    Tpm2,
}

impl Disk {
    /// How many roots the disk has room for: 1, or 2 for updates that can be taken back.
    pub fn slots(&self) -> u8 {
        self.slots.as_ref().map_or(1, |slots| slots.value)
    }
}

impl Data {
    /// See [`DataSize`].
    pub fn size(&self) -> DataSize {
        self.size.as_ref().map_or(DataSize::default(), |size| size.value)
    }

    /// The name of the partition and of the file system.
    pub fn label(&self) -> &str {
        self.label.as_ref().map_or("data", |label| label.as_str())
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &str {
        self.mount.as_ref().map_or("/var", |mount| mount.as_str())
    }

    /// Its file system, as the kernel calls it.
    pub fn file_system(&self) -> &'static str {
        match self.file_system.as_ref().map_or(DataFileSystem::default(), |value| value.value) {
            DataFileSystem::Ext4 => "ext4",
        }
    }

    /// Its encryption, as in blueprints.
    pub fn encrypt(&self) -> &'static str {
        match self.encrypt.as_ref().map_or(Encryption::default(), |value| value.value) {
            Encryption::None => "none",
            Encryption::Tpm2 => "tpm2",
        }
    }
}

impl fmt::Display for DataSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataSize::Rest => f.write_str("rest"),
            DataSize::Bytes(size) => size.fmt(f),
        }
    }
}

/// At most 7 digits: 9 PiB, which no sum of a few overflows.
const SIZE: Shape = Shape::Matching("[1-9][0-9]{0,6}[MG]");
const DATA_SIZE: Shape = Shape::Matching("rest|[1-9][0-9]{0,6}[MG]");
/// What ext4 and GPT both take as a name, and every shell without quotes.
const LABEL: Shape = Shape::Matching("[A-Za-z0-9_.-]{1,16}");
const LABEL_LIMIT: usize = 16;
const MOUNT: Shape = Shape::Matching(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.-]+)+");

/// The keys of `disk`.
pub static DISK: Table = Table {
    name: "`disk`",
    keys: &[
        Key::new("slots", Shape::Integer(1, 2), "2 for updates that can be taken back, else 1"),
        Key::new("slot-size", SIZE, "size of each root partition with two slots, as 512M or 2G"),
        Key::new("data", Shape::Map(&DATA), "a partition that is made on first boot and keeps what is written to it"),
    ],
};

/// The keys of `disk.data`.
pub static DATA: Table = Table {
    name: "`data`",
    keys: &[
        Key::new("size", DATA_SIZE, "rest, or a size as 512M or 2G").or(IfAbsent::Text("rest")),
        Key::new("label", LABEL, "name of the partition and of the file system").or(IfAbsent::Text("data")),
        Key::new("mount", MOUNT, "where it is mounted").or(IfAbsent::Text("/var")),
        Key::new("filesystem", Shape::Word(&["ext4"]), "what it is formatted with").or(IfAbsent::Text("ext4")),
        Key::new("encrypt", Shape::Word(&["none", "tpm2"]), "how it is encrypted").or(IfAbsent::Text("none")),
    ],
};

impl Decoder<'_, '_> {
    /// `disk`.
    pub fn disk(&mut self, node: &Node) -> Option<Disk> {
        let fields = self.fields(node, &DISK)?;
        Some(Disk {
            slots: fields.get("slots").and_then(|node| self.integer(node, "`slots`", 1, 2)),
            slot_size: fields.get("slot-size").and_then(|node| self.size(node, "`slot-size`")),
            data: fields.get("data").and_then(|node| self.data(node)),
        })
    }

    fn data(&mut self, node: &Node) -> Option<Spanned<Data>> {
        let fields = self.fields(node, &DATA)?;
        let encryptions = [("none", Encryption::None), ("tpm2", Encryption::Tpm2)];
        let data = Data {
            size: fields.get("size").and_then(|node| self.data_size(node)),
            label: fields.get("label").and_then(|node| self.disk_label(node)),
            mount: fields.get("mount").and_then(|node| self.mount_point(node)),
            file_system: fields
                .get("filesystem")
                .and_then(|node| self.word(node, "`filesystem`", &[("ext4", DataFileSystem::Ext4)])),
            encrypt: fields.get("encrypt").and_then(|node| self.word(node, "`encrypt`", &encryptions)),
        };
        Some(Spanned::new(data, self.place(node)))
    }

    fn size(&mut self, node: &Node, what: &str) -> Option<Spanned<Size>> {
        let text = self.sized_text(node, what)?;
        match parse(&text) {
            Some(size) => Some(text.map(|_| size)),
            None => {
                let diagnostic = text.place.mistake(format!("{what}: `{}` is no size", shorten(&text)));
                self.push(diagnostic.help("write `512M` or `2G`"));
                None
            }
        }
    }

    fn data_size(&mut self, node: &Node) -> Option<Spanned<DataSize>> {
        let text = self.sized_text(node, "`size`")?;
        let size = if *text == "rest" { Some(DataSize::Rest) } else { parse(&text).map(DataSize::Bytes) };
        if size.is_none() {
            let diagnostic = text.place.mistake(format!("`size`: `{}` is no size", shorten(&text)));
            let help = self.diagnostics.suggest(&text, ["rest"]);
            self.push(diagnostic.help(help.unwrap_or_else(|| "write `rest`, `512M` or `2G`".to_owned())));
        }
        size.map(|size| text.map(|_| size))
    }

    /// Text, or a number whose unit is missing, about which the caller complains in its own words.
    fn sized_text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let number = node.scalar().filter(|scalar| matches!(scalar.meaning(), super::Meaning::Integer(_)));
        if let Some(scalar) = number {
            let message = format!("{what}: {} of what?", shorten(&scalar.text));
            let diagnostic = self.place(node).mistake(message);
            self.push(diagnostic.help(format!("write `{0}M` for MiB or `{0}G` for GiB", shorten(&scalar.text))));
            return None;
        }
        self.text(node, what)
    }

    fn disk_label(&mut self, node: &Node) -> Option<Spanned<String>> {
        let text = self.text(node, "`label`")?;
        let odd = text.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || "_.-".contains(*c)));
        let (at, message) = match odd {
            Some((at, found)) => (at..at + found.len_utf8(), format!("{} is not allowed in a label", visible(found))),
            None if text.is_empty() => (0..0, "the label is empty".to_owned()),
            None if text.len() > LABEL_LIMIT => {
                (LABEL_LIMIT..text.len(), format!("a label has at most {LABEL_LIMIT} characters"))
            }
            None => return Some(text),
        };
        let diagnostic = self.part(node, at).mistake(message);
        self.push(diagnostic.help("labels are made of letters, digits, `_`, `.` and `-`"));
        None
    }

    fn mount_point(&mut self, node: &Node) -> Option<Spanned<String>> {
        let text = self.clean_text(node, "`mount`")?;
        let part = |part: &str| {
            !matches!(part, "" | "." | "..") && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        let problem = match text.strip_prefix('/') {
            Some("") => "the root is mounted there",
            Some(path) if path.split('/').all(part) => return Some(text),
            Some(_) => "a folder's name is made of letters, digits, `_`, `.` and `-`, and is neither `.` nor `..`",
            None => "it is a path from the root on: `/var`",
        };
        let diagnostic = text.place.mistake(format!("`mount`: `{}` is no place to mount at", shorten(&text)));
        self.push(diagnostic.help(problem));
        None
    }
}

/// A size in MiB or GiB.
fn parse(text: &str) -> Option<Size> {
    let (digits, shift) = match text.strip_suffix('M') {
        Some(digits) => (digits, 20),
        None => (text.strip_suffix('G')?, 30),
    };
    let good =
        (1..=7).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    Some(Size(digits.parse::<u64>().ok().filter(|_| good)? << shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(parse("512M"), Some(Size(512 << 20)));
        assert_eq!(parse("9999999G"), Some(Size(9_999_999 << 30)));
        for wrong in ["", "M", "0M", "01M", "1", "1K", "1.5G", "+1G", "12345678M", "1 G", "-1G"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!((Size(512 << 20).to_string(), Size(2048 << 20).to_string()), ("512M".into(), "2G".into()));
    }
}
