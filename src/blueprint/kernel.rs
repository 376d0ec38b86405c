//! `kernel`: where the kernel comes from and what it is told.

use super::decode::Decoder;
use super::node::Node;
use super::reference::Reference;
use super::schema::{IfAbsent, Key, Shape, Table};
use super::source::Spanned;

/// The kernel of an image. Absent values have defaults; a later blueprint overrules an earlier one value by value.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// The image that has the kernel.
    pub image: Option<Spanned<Reference>>,
    /// The command line.
    pub cmdline: Option<Spanned<String>>,
    /// The name of the kernel in the image, see [`Kernel::binary`].
    pub binary: Option<Spanned<String>>,
    /// The name of the archive of modules in the image, see [`Kernel::tar`].
    pub tar: Option<Spanned<String>>,
    /// Microcode for the processor.
    pub ucode: Option<Spanned<Ucode>>,
}

/// Where microcode comes from: a cpio archive that goes before the initial file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ucode {
    /// The name of a file of the kernel image.
    File(String),
    /// An extension: the file [`Ucode::FILE`] of another image.
    Image(Reference),
}

impl Ucode {
    /// The name of the microcode archive in an image of its own.
    pub const FILE: &'static str = "ucode.cpio";
}

impl Kernel {
    /// The name of the kernel in its image.
    pub fn binary(&self) -> &str {
        self.binary.as_ref().map(|text| text.as_str()).filter(|name| !name.is_empty()).unwrap_or("kernel")
    }

    /// The name of the archive of modules in its image; nothing if there shall be none (`none` or an empty text).
    pub fn tar(&self) -> Option<&str> {
        match self.tar.as_ref().map(|text| text.as_str()) {
            None => Some("kernel.tar"),
            Some("" | "none") => None,
            Some(name) => Some(name),
        }
    }

    /// The microcode, if there shall be some.
    pub fn ucode(&self) -> Option<&Ucode> {
        self.ucode.as_ref().map(|ucode| &ucode.value).filter(|ucode| **ucode != Ucode::File(String::new()))
    }

    /// The command line; empty if none is given.
    pub fn cmdline(&self) -> &str {
        self.cmdline.as_ref().map_or("", |text| text.as_str())
    }
}

const ROOT_FILE: Shape = Shape::Matching(r"[^/\n\r]*");

/// The keys of `kernel`.
pub static KERNEL: Table = Table {
    name: "`kernel`",
    keys: &[
        Key::new("image", Shape::Image, "image that has the kernel"),
        Key::new("cmdline", Shape::Text, "command line"),
        Key::new("binary", ROOT_FILE, "name of the kernel in the image").or(IfAbsent::Text("kernel")),
        Key::new("tar", ROOT_FILE, "name of the archive of modules in the image; none for none")
            .or(IfAbsent::Text("kernel.tar")),
        Key::new("ucode", Shape::Line, "microcode: a file of the image, or an image of its own"),
    ],
};

impl Decoder<'_, '_> {
    /// `kernel`.
    pub fn kernel(&mut self, node: &Node) -> Option<Kernel> {
        let fields = self.fields(node, &KERNEL)?;
        // An empty text is as if it were absent, except for `tar`, where it means none.
        let text = |text: Option<Spanned<String>>| text.filter(|text| !text.is_empty());
        Some(Kernel {
            image: fields.filled("image").and_then(|node| self.reference(node, "`image` of the kernel")),
            cmdline: text(fields.get("cmdline").and_then(|node| self.cmdline(node))),
            binary: text(fields.get("binary").and_then(|node| self.kernel_file(node, "`binary`"))),
            tar: fields.get("tar").and_then(|node| self.kernel_file(node, "`tar`")),
            ucode: fields.get("ucode").and_then(|node| self.ucode(node)),
        })
    }

    /// One line; the line break at the end of a block is taken away.
    fn cmdline(&mut self, node: &Node) -> Option<Spanned<String>> {
        let text = self.text(node, "`cmdline`")?.map(|text| text.trim_end_matches(['\n', '\r']).to_owned());
        if let Some(at) = text.find(['\n', '\r']) {
            let diagnostic = self.part(node, at..at + 1).mistake("`cmdline` has a line break in it");
            self.push(diagnostic.help("a folded block (`>-`) makes one line of several"));
            return None;
        }
        Some(text)
    }

    /// Files of the kernel image lie in its root: LinuxKit matches the name exactly.
    fn kernel_file(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let text = self.clean_text(node, what)?;
        if let Some(at) = text.find('/') {
            let place = self.part(node, at..at + 1);
            let diagnostic = place.mistake(format!("{what} is the name of a file in the root of the kernel image"));
            self.push(diagnostic.help("write the name without a folder"));
            return None;
        }
        Some(text)
    }

    fn ucode(&mut self, node: &Node) -> Option<Spanned<Ucode>> {
        let text = self.clean_text(node, "`ucode`")?;
        let template = node.scalar().is_some_and(|scalar| scalar.text.starts_with('@'));
        if template || text.contains(['/', ':']) {
            return self.reference(node, "`ucode`").map(|reference| reference.map(Ucode::Image));
        }
        // Empty and `none` are no microcode, the default; kept apart from absent so that merging can drop it.
        Some(text.map(|name| Ucode::File(if name == "none" { String::new() } else { name })))
    }
}
