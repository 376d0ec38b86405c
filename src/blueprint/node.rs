//! The tree of a YAML document before it has a meaning: every scalar, list and map with its bytes in the text.

use std::ops::Range;
use std::sync::Arc;

/// One node. Shared nodes are what an alias (`*name`) makes.
#[derive(Debug)]
pub struct Node {
    /// The bytes in the text. For a block list or map they begin at its first entry.
    start: u32,
    end: u32,
    /// How many nodes there are in it, itself too, aliases expanded.
    weight: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Arc<Node>>),
    /// A map in the order of the text; no key is there twice. Keys may be any node.
    Map(Vec<(Arc<Node>, Arc<Node>)>),
}

impl Node {
    /// A node over bytes `span`. Texts are limited to 16 MiB, so 32 bits are enough.
    pub fn new(span: Range<usize>, weight: usize, kind: Kind) -> Node {
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Node { start: narrow(span.start), end: narrow(span.end), weight: narrow(weight), kind }
    }

    /// The bytes in the text.
    pub fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// How many nodes there are in it, itself too, aliases expanded.
    pub fn weight(&self) -> usize {
        self.weight as usize
    }

    /// The scalar, if it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// What it is, for "expected .., found ..".
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => "nothing",
                Meaning::Bool(_) => "a truth value",
                Meaning::Integer(_) => "a number",
                Meaning::Float => "a number with a fraction",
                Meaning::Text => "text",
            },
        }
    }
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// `|` or `>`.
    Block,
}

/// A tag of YAML's core schema that decides what a scalar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `!!str`, and `!`.
    Text,
    /// `!!int`, `!!bool`, `!!null` and `!!float`: as if it were written without quotes.
    Plain,
}

/// A single value.
#[derive(Debug)]
pub struct Scalar {
    /// The text without quotes and escapes.
    pub text: String,
    /// How it was written.
    pub style: Style,
    /// The tag before it, if there is one that matters.
    pub tag: Option<Tag>,
    /// Where `text` begins in the source when it stands there as it is, byte for byte.
    pub verbatim: Option<u32>,
}

/// What a scalar is by YAML 1.2's core schema, section 10.3.2, as yaml.v3 reads it: `yes` and `on` are text, numbers may
/// have `_` between digits, and a leading zero means octal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Meaning {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction or exponent, an infinity, or not a number.
    Float,
    /// Anything else.
    Text,
}

impl Scalar {
    /// See [`Meaning`].
    pub fn meaning(&self) -> Meaning {
        let plain = match self.tag {
            Some(Tag::Text) => false,
            Some(Tag::Plain) => true,
            None => self.style == Style::Plain,
        };
        if plain { meaning(&self.text) } else { Meaning::Text }
    }
}

fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float,
        _ => {}
    }
    // Longer is no number anybody writes, and parsing it would be work.
    if text.len() > 64 || !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return Meaning::Text;
    }
    if let Some(number) = integer(text) {
        return Meaning::Integer(number);
    }
    if float(text) { Meaning::Float } else { Meaning::Text }
}

fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    let number = i128::from_str_radix(&digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

fn float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let digits: String = unsigned.chars().filter(|c| *c != '_').collect();
    digits.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c)) && digits.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_mean_what_yaml_v3_says() {
        for (text, expected) in [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("yes", Meaning::Text),
            ("on", Meaning::Text),
            ("True", Meaning::Bool(true)),
            ("0666", Meaning::Integer(0o666)),
            ("0o17", Meaning::Integer(15)),
            ("0x1F", Meaning::Integer(31)),
            ("-12", Meaning::Integer(-12)),
            ("1_000", Meaning::Integer(1000)),
            ("08", Meaning::Float),
            ("1.20", Meaning::Float),
            ("1e3", Meaning::Float),
            ("-", Meaning::Text),
            ("1.2.3", Meaning::Text),
            ("7:alpine", Meaning::Text),
            ("9999999999999999999999999999999999999999999", Meaning::Float),
        ] {
            assert_eq!(meaning(text), expected, "{text:?}");
        }
    }
}
