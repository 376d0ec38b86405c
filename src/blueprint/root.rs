//! `root`: an extension. What the root file system is where an image has a disk to keep it on.

use super::decode::Decoder;
use super::node::Node;
use super::schema::{IfAbsent, Key, Shape, Table};
use super::source::Spanned;

/// The root of an image that has a disk. Absent values have defaults; a later blueprint overrules an earlier one value by
/// value. A blueprint without `root` has LinuxKit's root, the initrd.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// See [`Root::kind`].
    pub kind: Option<Spanned<RootType>>,
    /// See [`Root::verity`].
    pub verity: Option<Spanned<bool>>,
    /// See [`Root::compression_of`].
    pub compression: Option<Spanned<RootCompression>>,
    /// See [`Root::signature_required`].
    pub signature: Option<Spanned<RootSignature>>,
    /// What stage1 does if it finds no root.
    pub on_failure: Option<Spanned<OnFailure>>,
}

/// What the root is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootType {
    /// A partition with EROFS.
    #[default]
    Erofs,
    /// A partition with squashfs.
    Squashfs,
    /// The initrd, which the kernel unpacks into memory.
    Initrd,
}

/// How the files of a root on a disk are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootCompression {
    /// As the type of file system does by default.
    #[default]
    Default,
    /// As they are.
    None,
    /// LZ4, of EROFS.
    Lz4,
    /// zlib, of squashfs: the one that kernels with squashfs read longest.
    Gzip,
    /// xz, of squashfs: the smallest, and the slowest to read.
    Xz,
    /// Zstandard, of squashfs.
    Zstd,
}

/// Whether the kernel itself checks a signature of the root hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootSignature {
    /// No: the root hash is trusted because the signed kernel image has it.
    #[default]
    Optional,
    /// Yes: it opens nothing without one.
    Required,
}

/// What stage1 does without a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Stops.
    Halt,
    /// Switches the machine off.
    Poweroff,
    /// Starts again after ten seconds.
    Reboot,
}

impl OnFailure {
    /// The word of blueprints and of the kernel option `moby.root.onfailure`.
    pub fn word(self) -> &'static str {
        ON_FAILURE_WORDS.iter().find(|(_, value)| *value == self).map_or("halt", |(word, _)| word)
    }
}

impl RootType {
    /// The word of blueprints.
    pub fn word(self) -> &'static str {
        TYPE_WORDS.iter().find(|(_, value)| *value == self).map_or("erofs", |(word, _)| word)
    }
}

impl RootCompression {
    /// Whether a type of root can be stored so.
    pub fn is_of(self, kind: RootType) -> bool {
        match self {
            RootCompression::Default | RootCompression::None => true,
            RootCompression::Lz4 => kind == RootType::Erofs,
            RootCompression::Gzip | RootCompression::Xz | RootCompression::Zstd => kind == RootType::Squashfs,
        }
    }

    /// The word of blueprints.
    pub fn word(self) -> &'static str {
        COMPRESSION_WORDS.iter().find(|(_, value)| *value == self).map_or("default", |(word, _)| word)
    }
}

impl RootSignature {
    /// The word of blueprints.
    pub fn word(self) -> &'static str {
        SIGNATURE_WORDS.iter().find(|(_, value)| *value == self).map_or("optional", |(word, _)| word)
    }
}

impl Root {
    /// What the root is; EROFS if nothing is said.
    pub fn kind(&self) -> RootType {
        self.kind.as_ref().map_or(RootType::default(), |kind| kind.value)
    }

    /// Whether everything that is read of the root is checked against a hash (dm-verity): yes, unless it is switched off
    /// or the root is the initrd.
    pub fn verity(&self) -> bool {
        self.kind() != RootType::Initrd && self.verity.as_ref().is_none_or(|verity| verity.value)
    }

    /// How files are stored in a root of a type, which is that of the blueprint or that of a format that has it in its
    /// name. What is said of another type does not count.
    pub fn compression_of(&self, kind: RootType) -> RootCompression {
        let said = self.compression.as_ref().map_or(RootCompression::Default, |compression| compression.value);
        if said.is_of(kind) { said } else { RootCompression::Default }
    }

    /// Whether the kernel opens the root only with a signature of its root hash.
    pub fn signature_required(&self) -> bool {
        self.verity() && self.signature.as_ref().is_some_and(|signature| signature.value == RootSignature::Required)
    }
}

const TYPE_WORDS: [(&str, RootType); 3] =
    [("erofs", RootType::Erofs), ("squashfs", RootType::Squashfs), ("initrd", RootType::Initrd)];
const COMPRESSION_WORDS: [(&str, RootCompression); 6] = [
    ("default", RootCompression::Default),
    ("none", RootCompression::None),
    ("lz4", RootCompression::Lz4),
    ("gzip", RootCompression::Gzip),
    ("xz", RootCompression::Xz),
    ("zstd", RootCompression::Zstd),
];
const SIGNATURE_WORDS: [(&str, RootSignature); 2] =
    [("optional", RootSignature::Optional), ("required", RootSignature::Required)];
const ON_FAILURE_WORDS: [(&str, OnFailure); 3] =
    [("halt", OnFailure::Halt), ("poweroff", OnFailure::Poweroff), ("reboot", OnFailure::Reboot)];

/// The keys of `root`.
pub static ROOT: Table = Table {
    name: "`root`",
    keys: &[
        Key::new("type", Shape::Word(&["erofs", "squashfs", "initrd"]), "what the root is").or(IfAbsent::Text("erofs")),
        Key::new("verity", Shape::Bool, "check everything that is read of it with dm-verity").or(IfAbsent::Bool(true)),
        Key::new(
            "compression",
            Shape::Word(&["default", "none", "lz4", "gzip", "xz", "zstd"]),
            "how files are stored: `erofs` has `lz4`, its default; `squashfs` has `zstd`, its default, `gzip` and `xz`",
        )
        .or(IfAbsent::Text("default")),
        Key::new("signature", Shape::Word(&["optional", "required"]), "whether the kernel wants its root hash signed")
            .or(IfAbsent::Text("optional")),
        Key::new("onfailure", Shape::Word(&["halt", "poweroff", "reboot"]), "what to do if there is no root")
            .or(IfAbsent::Text("halt")),
    ],
};

impl Decoder<'_, '_> {
    /// `root`.
    pub fn root(&mut self, node: &Node) -> Option<Root> {
        let fields = self.fields(node, &ROOT)?;
        let root = Root {
            kind: fields.get("type").and_then(|node| self.word(node, "`type` of the root", &TYPE_WORDS)),
            verity: fields.get("verity").and_then(|node| self.bool(node, "`verity`")),
            compression: fields
                .get("compression")
                .and_then(|node| self.word(node, "`compression` of the root", &COMPRESSION_WORDS)),
            signature: fields.get("signature").and_then(|node| self.word(node, "`signature`", &SIGNATURE_WORDS)),
            on_failure: fields.get("onfailure").and_then(|node| self.word(node, "`onfailure`", &ON_FAILURE_WORDS)),
        };
        // Of one document only: where a later one says `type: initrd`, it means to switch off what an earlier one has.
        if root.kind.as_ref().is_some_and(|kind| kind.value == RootType::Initrd) {
            let verity = root.verity.as_ref().is_some_and(|verity| verity.value);
            let signature = root.signature.as_ref().is_some_and(|value| value.value == RootSignature::Required);
            let compression = root.compression.as_ref().is_some_and(|said| said.value != RootCompression::Default);
            let other = "choose `type: erofs`, or remove the key";
            let of_initrd = "remove the key; what an initrd is compressed with, `moby build --compression` says";
            for (key, wrong, help) in
                [("verity", verity, other), ("signature", signature, other), ("compression", compression, of_initrd)]
            {
                if let Some(node) = fields.key(key).filter(|_| wrong) {
                    let message = format!("`{key}` is for a root on a disk, and `type: initrd` is none");
                    let diagnostic = self.place(node).mistake(message);
                    self.push(diagnostic.help(help));
                }
            }
        }
        Some(root)
    }
}
