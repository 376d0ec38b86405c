//! The keys of blueprints as data: the decoder refuses what is not in these tables, and a JSON schema can be written
//! from them. Each table stands beside the type that it describes.

/// The keys of one kind of map.
#[derive(Debug)]
pub struct Table {
    /// What the map is ("a service"), for messages.
    pub name: &'static str,
    /// The keys, in the order in which they are written out.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// How it is written.
    pub name: &'static str,
    /// What may stand behind it.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// What it is if it is left out, where that does not depend on anything else.
    pub default: Option<IfAbsent>,
    /// What it does, in one line.
    pub doc: &'static str,
}

/// What a key that is left out means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfAbsent {
    /// `true` or `false`.
    Bool(bool),
    /// A text.
    Text(&'static str),
    /// A whole number.
    Integer(u32),
    /// A list of texts.
    Texts(&'static [&'static str]),
    /// What depends on something else, in words for readers: "that of the image".
    Told(&'static str),
}

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Text.
    Text,
    /// Text without line breaks.
    Line,
    /// Text that matches a regular expression, which is anchored at both ends (ECMA-262, as JSON Schema wants it). The
    /// decoder has rules of its own, which are never wider.
    Matching(&'static str),
    /// The name of a capability, `all` or `none`.
    Capability,
    /// Text that names an image, or `@pkg:DIR`.
    Image,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second.
    Integer(i64, u64),
    /// A whole number, or text.
    IntegerOrText,
    /// An octal file mode, quoted or not.
    Mode,
    /// A list.
    List(&'static Shape),
    /// A map from any text to text.
    TextMap,
    /// A map with the keys of a table.
    Map(&'static Table),
}

impl Key {
    /// A key that may be there.
    pub const fn new(name: &'static str, shape: Shape, doc: &'static str) -> Key {
        Key { name, shape, required: false, default: None, doc }
    }

    /// The same key with what it is if it is left out.
    pub const fn or(mut self, default: IfAbsent) -> Key {
        self.default = Some(default);
        self
    }

    /// The same key with words for what it is if it is left out.
    pub const fn told(self, words: &'static str) -> Key {
        self.or(IfAbsent::Told(words))
    }

    /// The same key, which must be there.
    pub const fn required(mut self) -> Key {
        self.required = true;
        self
    }
}

/// A list of texts.
pub const TEXTS: Shape = Shape::List(&Shape::Text);
/// Any 64-bit number that fits where it goes.
pub const ANY_INTEGER: Shape = Shape::Integer(i64::MIN, u64::MAX);
