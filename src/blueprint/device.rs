//! `devices`: device nodes of a container and the right to use them.

use super::decode::{Decoder, shorten};
use super::node::{Meaning, Node, Scalar};
use super::schema::{Key, Shape, Table};
use super::source::Spanned;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Path in the container, or `all`: the right to use every device of that type, without a node.
    pub path: String,
    /// `b` block, `c` or `u` character, `p` fifo, `a` all.
    pub kind: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits; always there unless the path is `all`.
    pub mode: Option<u32>,
}

const TYPE: Shape = Shape::Word(&["b", "c", "u", "p", "a"]);

/// The keys of a device.
pub static DEVICE: Table = Table {
    name: "a device",
    keys: &[
        Key::new("path", Shape::Matching(r"/[^\n\r]*|all"), "path in the container, or `all`").required(),
        Key::new("type", TYPE, "b (block), c or u (character), p (fifo), a (all, with path `all`)").required(),
        Key::new("major", Shape::Integer(0, u32::MAX as u64), "major number"),
        Key::new("minor", Shape::Integer(0, u32::MAX as u64), "minor number"),
        Key::new("mode", Shape::Mode, "permission bits, octal; needed unless path is `all`"),
    ],
};

impl Decoder<'_, '_> {
    /// `devices`.
    pub fn devices(&mut self, node: &Node, what: &str) -> Option<Vec<Spanned<Device>>> {
        self.list(node, what, |decoder, node| {
            let fields = decoder.fields(node, &DEVICE)?;
            let path = fields.get("path").and_then(|node| decoder.clean_text(node, "`path` of a device"));
            let kind = fields.get("type").and_then(|node| decoder.clean_text(node, "`type` of a device"));
            let mut number = |key: &str| match fields.get(key) {
                Some(node) => decoder
                    .integer::<i64>(node, &format!("`{key}` of a device"), 0, u32::MAX.into())
                    .map(|number| number.value),
                None => Some(0),
            };
            let (major, minor) = (number("major"), number("minor"));
            let mode = match fields.get("mode") {
                Some(node) => Some(decoder.mode(node, "`mode` of a device")?.value),
                None => None,
            };
            let (path, kind) = (path?, kind?);
            if path.value != "all" && !path.starts_with('/') {
                let diagnostic = path.place.mistake("`path` of a device begins with `/`, or is `all`");
                decoder.push(diagnostic);
            }
            if !matches!(kind.as_str(), "a" | "b" | "c" | "u" | "p") {
                let message = format!("`type` of a device: expected b, c, u, p or a, found `{}`", shorten(&kind));
                decoder.push(kind.place.mistake(message));
            }
            if path.value != "all" && mode.is_none() && fields.get("mode").is_none() {
                decoder.mistake(node, "a device needs the key `mode`, unless its path is `all`");
            }
            let device = Device { path: path.value, kind: kind.value, major: major?, minor: minor?, mode };
            Some(Spanned::new(device, decoder.place(node)))
        })
    }

    /// An octal mode, quoted or not. `0666` without quotes is a number to YAML; its text is taken.
    pub fn mode(&mut self, node: &Node, what: &str) -> Option<Spanned<u32>> {
        let Some(scalar) = node.scalar() else {
            self.expected(node, what, "an octal mode such as \"0644\"");
            return None;
        };
        if scalar.meaning() == Meaning::Null {
            self.expected(node, what, "an octal mode such as \"0644\"");
            return None;
        }
        match octal(scalar) {
            Some(mode) => Some(Spanned::new(mode, self.place(node))),
            None => {
                let message =
                    format!("{what}: expected an octal mode of at most 7777, found `{}`", shorten(&scalar.text));
                let diagnostic = self.place(node).mistake(message).help("write the digits 0 to 7, as in \"0644\"");
                self.push(diagnostic);
                None
            }
        }
    }
}

/// The mode that a scalar's text means, up to 7777.
fn octal(scalar: &Scalar) -> Option<u32> {
    let digits = scalar.text.strip_prefix("0o").unwrap_or(&scalar.text);
    if digits.is_empty() || !digits.chars().all(|c| matches!(c, '0'..='7')) {
        return None;
    }
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777)
}
