//! `volumes`: folders that containers share.

use super::decode::{Decoder, shorten, visible};
use super::node::Node;
use super::reference::Reference;
use super::schema::{IfAbsent, Key, Shape, Table};
use super::source::Spanned;
use crate::store::Platform;

/// A folder that containers share; they name it in `binds` and `mounts`.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name: lower-case letters, digits, `_` and `-`.
    pub name: Spanned<String>,
    /// What it holds at first; empty if absent.
    pub image: Option<Spanned<Reference>>,
    /// Whether containers may only read it.
    pub readonly: bool,
    /// How the image is laid into it.
    pub format: VolumeFormat,
    /// With [`VolumeFormat::Oci`], the platforms (`os/arch` or `os/arch/variant`) that are kept; all if empty.
    pub platforms: Vec<Spanned<String>>,
}

/// How an image is laid into a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VolumeFormat {
    /// Unpacked.
    #[default]
    Filesystem,
    /// As an OCI image layout.
    Oci,
}

impl Volume {
    /// The folder of all volumes.
    pub const BASE: &'static str = "/containers/volumes";

    /// The folder where containers find a volume of this name.
    pub fn merged(name: &str) -> String {
        format!("{}/{name}/merged", Self::BASE)
    }

    /// The platforms that are kept; all if there are none.
    pub fn layout_platforms(&self) -> Vec<Platform> {
        self.platforms.iter().filter_map(|text| Platform::parse(text)).collect()
    }
}

const PLATFORMS: Shape = Shape::List(&Shape::Matching(r"[^/\n\r]+/[^/\n\r]+(?:/[^/\n\r]+)?"));

/// The keys of a volume.
pub static VOLUME: Table = Table {
    name: "a volume",
    keys: &[
        Key::new("name", Shape::Matching("[a-z0-9_-]{1,255}"), "name: lower-case letters, digits, _ and -").required(),
        Key::new("image", Shape::Image, "what it holds at first"),
        Key::new("readonly", Shape::Bool, "containers may only read it").or(IfAbsent::Bool(false)),
        Key::new("format", Shape::Word(&["filesystem", "oci", ""]), "how the image is laid into it")
            .or(IfAbsent::Text("filesystem")),
        Key::new("platforms", PLATFORMS, "platforms that are kept (os/arch/variant), with format oci"),
    ],
};

impl Decoder<'_, '_> {
    /// An entry of `volumes`.
    pub fn volume(&mut self, node: &Node) -> Option<Volume> {
        let fields = self.fields(node, &VOLUME)?;
        let name = fields.get("name").and_then(|node| {
            let name = self.text(node, "`name` of a volume")?;
            self.volume_name(node, &name)?;
            Some(name)
        });
        let image = fields.filled("image").and_then(|node| self.reference(node, "`image` of a volume"));
        let readonly = fields.get("readonly").and_then(|node| self.bool(node, "`readonly`"));
        let words =
            [("filesystem", VolumeFormat::Filesystem), ("oci", VolumeFormat::Oci), ("", VolumeFormat::Filesystem)];
        let format = fields.get("format").and_then(|node| {
            let known =
                if node.scalar().is_some_and(|scalar| scalar.text.is_empty()) { &words[..] } else { &words[..2] };
            self.word(node, "`format`", known)
        });
        let format = format.map_or(VolumeFormat::default(), |format| format.value);
        let platforms = fields.get("platforms").and_then(|node| self.platforms(node)).unwrap_or_default();
        if let (Some(key), VolumeFormat::Filesystem, false) = (fields.key("platforms"), format, platforms.is_empty()) {
            let warning = self.place(key).mistake("`platforms` has no meaning without `format: oci`").warning();
            self.push(warning);
        }
        let readonly = readonly.is_some_and(|readonly| readonly.value);
        Some(Volume { name: name?, image, readonly, format, platforms })
    }

    fn volume_name(&mut self, node: &Node, name: &str) -> Option<()> {
        let odd = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
        let (at, message) = match name.char_indices().find(|(_, c)| odd(*c)) {
            Some((at, found)) => {
                (at..at + found.len_utf8(), format!("{} is not allowed in the name of a volume", visible(found)))
            }
            None if name.is_empty() => (0..0, "the name of a volume is empty".to_owned()),
            None if name.len() > 255 => (255..name.len(), "the name of a volume has at most 255 characters".to_owned()),
            None => return Some(()),
        };
        let place = self.part(node, at);
        self.push(place.mistake(message).help("names of volumes are made of lower-case letters, digits, `_` and `-`"));
        None
    }

    fn platforms(&mut self, node: &Node) -> Option<Vec<Spanned<String>>> {
        self.list(node, "`platforms`", |decoder, node| {
            let text = decoder.clean_text(node, "an entry of `platforms`")?;
            let parts = Platform::parse(&text);
            if parts.is_some_and(|platform| platform.variant.is_none_or(|variant| !variant.is_empty())) {
                return Some(text);
            }
            let message = format!("`{}` is not a platform", shorten(&text));
            decoder.push(text.place.mistake(message).help("write `linux/amd64` or `linux/arm64/v8`"));
            None
        })
    }
}
