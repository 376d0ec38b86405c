//! Nodes to typed values. A mistake is noted and decoding goes on, so that one run shows all of a file's mistakes.

use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::node::{Kind, Meaning, Node, Scalar, Style};
use super::schema::Table;
use super::source::{Place, Source, Spanned};
use super::template::Templates;

/// What is at hand while one text is decoded.
#[derive(Debug)]
pub struct Decoder<'a, 't> {
    /// The text.
    pub source: &'a Arc<Source>,
    /// Where mistakes go.
    pub diagnostics: &'a mut Diagnostics,
    /// What resolves `@pkg:`.
    pub templates: &'a mut Templates<'t>,
}

/// The values of a map that has a [`Table`].
#[derive(Debug)]
pub struct Fields<'n> {
    table: &'static Table,
    values: Vec<Option<(&'n Node, &'n Node)>>,
}

impl<'n> Fields<'n> {
    /// The value behind a key.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.pair(key).map(|(_, value)| value)
    }

    /// The value behind a key, unless it is an empty text in quotes.
    pub fn filled(&self, key: &str) -> Option<&'n Node> {
        let empty = |scalar: &Scalar| scalar.text.is_empty() && scalar.meaning() == Meaning::Text;
        self.get(key).filter(|node| !node.scalar().is_some_and(empty))
    }

    /// The key itself, to mark it.
    pub fn key(&self, key: &str) -> Option<&'n Node> {
        self.pair(key).map(|(key, _)| key)
    }

    fn pair(&self, key: &str) -> Option<(&'n Node, &'n Node)> {
        let index = self.table.keys.iter().position(|known| known.name == key);
        debug_assert!(index.is_some(), "`{key}` is not in the table of {}", self.table.name);
        self.values.get(index?).copied().flatten()
    }
}

impl Decoder<'_, '_> {
    /// The place of a node.
    pub fn place(&self, node: &Node) -> Place {
        Place::new(self.source, node.span())
    }

    /// The place of bytes `part` of a scalar's text; the whole scalar where the text has escapes.
    pub fn part(&self, node: &Node, part: Range<usize>) -> Place {
        match node.scalar().and_then(|scalar| scalar.verbatim) {
            Some(start) => Place::new(self.source, start as usize + part.start..start as usize + part.end),
            None => self.place(node),
        }
    }

    /// Notes a mistake.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Notes a mistake at a node.
    pub fn mistake(&mut self, node: &Node, message: impl Into<String>) {
        let diagnostic = self.place(node).mistake(message);
        self.push(diagnostic);
    }

    /// Opens a map: refuses unknown keys and misses required ones.
    pub fn fields<'n>(&mut self, node: &'n Node, table: &'static Table) -> Option<Fields<'n>> {
        let Kind::Map(pairs) = &node.kind else {
            self.expected(node, table.name, "a map of keys and values");
            return None;
        };
        let mut values = vec![None; table.keys.len()];
        for (key, value) in pairs {
            let known = key.scalar().and_then(|scalar| table.keys.iter().position(|known| known.name == scalar.text));
            match known.and_then(|index| values.get_mut(index)) {
                Some(slot) => *slot = Some((&**key, &**value)),
                None => self.unknown_key(key, table),
            }
        }
        for (key, value) in table.keys.iter().zip(&values) {
            if key.required && value.is_none() {
                let message = format!("{} needs the key `{}`", table.name, key.name);
                let diagnostic = self.place(node).mistake(message).label(format!("`{}` is missing here", key.name));
                self.push(diagnostic);
            }
        }
        Some(Fields { table, values })
    }

    fn unknown_key(&mut self, key: &Node, table: &'static Table) {
        let Some(scalar) = key.scalar() else {
            self.mistake(key, format!("a key of {} is text, but this is {}", table.name, key.describe()));
            return;
        };
        if std::ptr::eq(table, &super::LABEL) && matches!(&*scalar.text, "name" | "image") {
            self.mistake(key, format!("`{}` cannot be set in a label: the blueprint says it", scalar.text));
            return;
        }
        let help = match self.diagnostics.suggest(&scalar.text, table.keys.iter().map(|key| key.name)) {
            Some(near) => near,
            None if table.keys.len() <= 10 => {
                let known: Vec<String> = table.keys.iter().map(|key| format!("`{}`", key.name)).collect();
                format!("the keys are {}", known.join(", "))
            }
            None => format!("{} has no key like it", table.name),
        };
        let message = format!("unknown key `{}` in {}", shorten(&scalar.text), table.name);
        let diagnostic = self.place(key).mistake(message).help(help);
        self.push(diagnostic);
    }

    /// Notes that a node is of the wrong type.
    pub fn expected(&mut self, node: &Node, what: &str, expected: &str) {
        let found = node.describe();
        if found == "nothing" {
            let key = Place::new(self.source, node.span());
            let help = match expected {
                "a list" => "write `[]` for an empty list, or remove the key",
                _ => "give it a value, or remove the key",
            };
            self.push(key.mistake(format!("{what} has no value: expected {expected}")).help(help));
            return;
        }
        let mut diagnostic = self.place(node).mistake(format!("{what}: expected {expected}, found {found}"));
        if let (Some(scalar), "a list") = (node.scalar(), expected) {
            diagnostic = diagnostic.help(format!("write it as a list: [{}]", quoted(scalar)));
        }
        self.push(diagnostic);
    }

    /// Any scalar's text, templates expanded. Wrong types are noted.
    fn expanded<'n>(&mut self, node: &'n Node, what: &str, expected: &str) -> Option<std::borrow::Cow<'n, str>> {
        let Some(scalar) = node.scalar() else {
            self.expected(node, what, expected);
            return None;
        };
        if scalar.text.starts_with('@') && scalar.style != Style::Block {
            let place = self.place(node);
            return self.templates.expand(&scalar.text, &place, self.diagnostics).map(std::borrow::Cow::Owned);
        }
        Some(std::borrow::Cow::Borrowed(&scalar.text))
    }

    /// Text without NUL: it ends up in C strings.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let text = self.any_text(node, what)?;
        if let Some(at) = text.find('\0') {
            let place = self.part(node, at..at + 1);
            self.push(place.mistake(format!("{what} has a NUL character in it")));
            return None;
        }
        Some(text)
    }

    /// Any text.
    pub fn any_text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let value = self.expanded(node, what, "text")?.into_owned();
        match node.scalar().map(Scalar::meaning) {
            Some(Meaning::Text) => Some(Spanned::new(value, self.place(node))),
            Some(Meaning::Null) => {
                self.expected(node, what, "text");
                None
            }
            _ => {
                let message = format!("{what}: expected text, found {}", node.describe());
                let diagnostic = self.place(node).mistake(message).help(format!("put it in quotes: \"{value}\""));
                self.push(diagnostic);
                None
            }
        }
    }

    /// Text without NUL and line breaks.
    pub fn clean_text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let text = self.text(node, what)?;
        if let Some(at) = text.find(['\n', '\r']) {
            let diagnostic = self.part(node, at..at + 1).mistake(format!("{what} has a line break in it"));
            let block = node.scalar().is_some_and(|scalar| scalar.style == Style::Block);
            self.push(diagnostic.help_if(block.then(|| "a block (`|`) ends with one, but `|-` does not".to_owned())));
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, node: &Node, what: &str) -> Option<Spanned<bool>> {
        match node.scalar().map(|scalar| (scalar, scalar.meaning())) {
            Some((_, Meaning::Bool(value))) => Some(Spanned::new(value, self.place(node))),
            Some((scalar, _)) => {
                let meant = match scalar.text.to_ascii_lowercase().as_str() {
                    "yes" | "y" | "on" | "1" | "true" => Some("true"),
                    "no" | "n" | "off" | "0" | "false" => Some("false"),
                    _ => None,
                };
                match meant {
                    Some(meant) => {
                        let quoted = if scalar.style == Style::Quoted { " in quotes" } else { "" };
                        let message = format!("{what}: expected true or false, found `{}`{quoted}", scalar.text);
                        let diagnostic = self.place(node).mistake(message).help(format!("write `{meant}`"));
                        self.push(diagnostic);
                    }
                    None => self.expected(node, what, "true or false"),
                }
                None
            }
            None => {
                self.expected(node, what, "true or false");
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub fn integer<T: TryFrom<i128>>(
        &mut self,
        node: &Node,
        what: &str,
        least: i128,
        most: i128,
    ) -> Option<Spanned<T>> {
        let value = match node.scalar().map(|scalar| (scalar, scalar.meaning())) {
            Some((_, Meaning::Integer(value))) => value,
            Some((scalar, Meaning::Text)) if !scalar.text.is_empty() && scalar.text.parse::<i128>().is_ok() => {
                let message = format!("{what}: expected a whole number, found text");
                let diagnostic =
                    self.place(node).mistake(message).help(format!("write {} without quotes", scalar.text));
                self.push(diagnostic);
                return None;
            }
            _ => {
                self.expected(node, what, "a whole number");
                return None;
            }
        };
        match T::try_from(value) {
            Ok(made) if (least..=most).contains(&value) => Some(Spanned::new(made, self.place(node))),
            _ => {
                self.mistake(node, format!("{what}: {value} is not in the range {least} to {most}"));
                None
            }
        }
    }

    /// A list; entries with mistakes are left out.
    pub fn list<T>(
        &mut self,
        node: &Node,
        what: &str,
        mut entry: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Kind::List(nodes) = &node.kind else {
            self.expected(node, what, "a list");
            return None;
        };
        Some(nodes.iter().filter_map(|node| entry(self, node)).collect())
    }

    /// A list of texts.
    pub fn texts(&mut self, node: &Node, what: &str) -> Option<Vec<Spanned<String>>> {
        let entry = format!("an entry of {what}");
        self.list(node, what, |decoder, node| decoder.text(node, &entry))
    }

    /// A map from text to text, in the order of the file.
    pub fn text_map(&mut self, node: &Node, what: &str) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
        let Kind::Map(pairs) = &node.kind else {
            self.expected(node, what, "a map of keys and values");
            return None;
        };
        let mut map = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let Some(name) = key.scalar() else {
                self.mistake(key, format!("a key of {what} is text, but this is {}", key.describe()));
                continue;
            };
            let name = Spanned::new(name.text.clone(), self.place(key));
            if let Some(value) = self.text(value, &format!("the value of `{}` in {what}", shorten(&name))) {
                map.push((name, value));
            }
        }
        Some(map)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&'static str, T)]) -> Option<Spanned<T>> {
        let text = self.text(node, what)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == *text) {
            return Some(Spanned::new(*value, text.place));
        }
        let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("{what}: expected {}, found `{}`", known.join(" or "), shorten(&text));
        let help = self.diagnostics.suggest(&text, words.iter().map(|(word, _)| *word));
        self.push(text.place.mistake(message).help_if(help));
        None
    }
}

/// At most forty characters of what was found, for a message.
pub fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

/// One character, for a message: itself if it can be seen, else its code.
pub fn visible(c: char) -> String {
    if c.is_alphanumeric() || c.is_ascii_punctuation() || c == ' ' {
        format!("`{c}`")
    } else {
        format!("the character U+{:04X}", c as u32)
    }
}

fn quoted(scalar: &Scalar) -> String {
    format!("{:?}", shorten(&scalar.text))
}
