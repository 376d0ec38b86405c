//! Text to [`Node`]s: one YAML document, bounded in every direction.
//!
//! Limits, each far above what any blueprint needs: 16 MiB of text, 64 levels, one million nodes with aliases expanded
//! (so that nested aliases, the "billion laughs", are refused before they cost anything).

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::diagnostic::Diagnostics;
use super::node::{Kind, Meaning, Node, Scalar, Style, Tag};
use super::source::{Place, Source};

/// The longest text in bytes.
pub const LONGEST_TEXT: usize = 16 << 20;
/// The deepest nesting of lists and maps.
pub const DEEPEST: usize = 64;
/// The most nodes, aliases expanded.
pub const MOST_NODES: usize = 1_000_000;

/// The first document of `source`, or nothing if it is not YAML; what is wrong goes to `diagnostics`. Duplicate keys are
/// reported and the first one kept, so that the rest of the file is checked too.
pub fn parse(source: &Arc<Source>, diagnostics: &mut Diagnostics) -> Option<Arc<Node>> {
    let text = source.text();
    if text.len() > LONGEST_TEXT {
        let message = format!("the text has {} bytes, more than the {LONGEST_TEXT} that are read", text.len());
        diagnostics.push(Place::new(source, 0..0).mistake(message));
        return None;
    }
    // The scanner takes NUL for the end: what follows would be ignored without a word.
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some((at, found)) = text.char_indices().find(|(_, c)| control(*c)) {
        let place = Place::new(source, at..at + found.len_utf8());
        diagnostics.push(place.mistake(format!("the control character U+{:04X} is not allowed in YAML", found as u32)));
        return None;
    }
    // Inside brackets the scanner keeps everything up to the closing one, 200 bytes for each of these.
    let separators = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if separators > MOST_NODES {
        let message = format!("more than {MOST_NODES} commas and opening brackets");
        diagnostics.push(Place::new(source, 0..0).mistake(message));
        return None;
    }
    Builder { source, diagnostics, offsets: Offsets::new(text), anchors: HashMap::new(), nodes: 0 }.document()
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    diagnostics: &'a mut Diagnostics,
    offsets: Offsets<'a>,
    anchors: HashMap<usize, Arc<Node>>,
    /// Nodes so far, aliases expanded.
    nodes: usize,
}

/// A list or map whose end has not been seen.
struct Open {
    start: usize,
    anchor: usize,
    entries: Entries,
}

enum Entries {
    List(Vec<Arc<Node>>),
    Map(Vec<(Arc<Node>, Arc<Node>)>, Option<Arc<Node>>),
}

impl Builder<'_> {
    fn document(mut self) -> Option<Arc<Node>> {
        let source = self.source.clone();
        let mut parser = Parser::new_from_str(source.text());
        let mut open: Vec<Open> = Vec::new();
        let mut root: Option<Arc<Node>> = None;
        loop {
            let (event, span) = match parser.next() {
                None => break,
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    self.syntax(&error, &open);
                    return None;
                }
            };
            let (start, end) = (self.offsets.byte(span.start.index()), self.offsets.byte(span.end.index()));
            let (node, anchor) = match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => continue,
                Event::DocumentStart(_) if root.is_some() => {
                    let place = Place::new(&source, start..end.max(start));
                    let note = place.mistake("a second document begins here and is not read").warning();
                    self.diagnostics
                        .push(note.help("put it into a file of its own: `moby build first.yml second.yml`"));
                    break;
                }
                Event::DocumentStart(_) => continue,
                Event::StreamEnd => break,
                Event::Alias(id) => {
                    let Some(node) = self.anchors.get(&id).cloned() else {
                        let place = Place::new(&source, start..end);
                        self.diagnostics.push(place.mistake("this alias refers to itself or to nothing before it"));
                        return None;
                    };
                    self.count(node.weight(), start..end)?;
                    (node, 0)
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.count(1, start..end)?;
                    let scalar = self.scalar(text.into_owned(), style, tag.as_deref(), start..end);
                    (Arc::new(Node::new(start..end, 1, Kind::Scalar(scalar))), anchor)
                }
                Event::SequenceStart(anchor, _) => {
                    self.enter(&open, start..end)?;
                    open.push(Open { start, anchor, entries: Entries::List(Vec::new()) });
                    continue;
                }
                Event::MappingStart(anchor, _) => {
                    self.enter(&open, start..end)?;
                    open.push(Open { start, anchor, entries: Entries::Map(Vec::new(), None) });
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(closed) = open.pop() else { continue };
                    let anchor = closed.anchor;
                    (self.close(closed, end)?, anchor)
                }
            };
            if anchor != 0 {
                self.anchors.insert(anchor, node.clone());
            }
            match open.last_mut().map(|open| &mut open.entries) {
                None => root = Some(node),
                Some(Entries::List(list)) => list.push(node),
                Some(Entries::Map(map, key)) => match key.take() {
                    None => *key = Some(node),
                    Some(key) => map.push((key, node)),
                },
            }
        }
        let empty = root.as_ref().is_none_or(|root| {
            root.span().is_empty() && root.scalar().is_some_and(|scalar| scalar.meaning() == Meaning::Null)
        });
        if empty {
            self.diagnostics.push(Place::new(&source, 0..0).mistake("the text has nothing in it"));
            return None;
        }
        root
    }

    fn syntax(&mut self, error: &saphyr_parser::ScanError, open: &[Open]) {
        let text = self.source.text();
        let at = self.offsets.byte(error.marker().index()).min(text.len());
        let length = text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        // The scanner looks ahead in flow style and has a limit of its own, far above ours.
        let message = match error.info() {
            "recursion limit exceeded" => format!("lists and maps are nested more than {DEEPEST} levels deep here"),
            "while parsing node, found unknown anchor" => "nothing before this alias has its name".to_owned(),
            info => format!("not YAML: {info}"),
        };
        let diagnostic = Place::new(self.source, at..at + length).mistake(message);
        let help = match text[at..].chars().next() {
            Some('@') => Some("a value that begins with `@` needs quotes: \"@pkg:../components/init\""),
            Some('`') => Some("a value that begins with a back quote needs quotes"),
            Some('\t') => Some("indent with spaces: YAML does not allow tabs there"),
            Some('%') => Some("a value that begins with `%` needs quotes"),
            _ if comment_ends_block(&text[..at]) => {
                Some("a comment that is not indented ends a block (`|`) before it begins: put it above the key")
            }
            _ if error.info().contains("expected '-' indicator") => {
                Some("lines of one entry are indented alike: is this one indented as the key above it?")
            }
            _ if error.info().contains("did not find expected key") => {
                Some("keys of one map are indented alike: is this line indented as the key above it?")
            }
            _ if error.info().starts_with("mapping values are not allowed") => {
                Some("a value with `: ` in it needs quotes; or this line, or the one above, is indented wrongly")
            }
            _ if error.info().contains("tab") => Some("indent with spaces: YAML does not allow tabs there"),
            _ => None,
        };
        // The scanner sees an unclosed bracket long after it: show where it was opened.
        let line = text[..at].rfind('\n').unwrap_or(0);
        let brackets = open.iter().rev().filter(|open| text[open.start.min(text.len())..].starts_with(['[', '{']));
        let flow = brackets.into_iter().next().filter(|open| open.start < line);
        let diagnostic = match flow {
            Some(open) => {
                let bracket = Place::new(self.source, open.start..open.start + 1);
                diagnostic.related(&bracket, "this bracket is open")
            }
            None => diagnostic,
        };
        self.diagnostics.push(diagnostic.help_if(help.map(str::to_owned)));
    }

    /// Counts nodes; says so and ends at too many.
    fn count(&mut self, more: usize, span: std::ops::Range<usize>) -> Option<()> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes <= MOST_NODES {
            return Some(());
        }
        let message = format!("more than {MOST_NODES} values, counting what aliases (`*name`) repeat");
        self.diagnostics.push(Place::new(self.source, span).mistake(message));
        None
    }

    fn enter(&mut self, open: &[Open], span: std::ops::Range<usize>) -> Option<()> {
        self.count(1, span.clone())?;
        if open.len() < DEEPEST {
            return Some(());
        }
        let message = format!("lists and maps are nested more than {DEEPEST} levels deep here");
        self.diagnostics.push(Place::new(self.source, span).mistake(message));
        None
    }

    fn close(&mut self, open: Open, end: usize) -> Option<Arc<Node>> {
        let kind = match open.entries {
            Entries::List(list) => Kind::List(list),
            Entries::Map(map, _) => Kind::Map(self.map(map)?),
        };
        let weight = match &kind {
            Kind::Scalar(_) => 1,
            Kind::List(list) => 1 + list.iter().map(|node| node.weight()).sum::<usize>(),
            Kind::Map(map) => 1 + map.iter().map(|(key, value)| key.weight() + value.weight()).sum::<usize>(),
        };
        // The end event of a block stands at whatever follows: take the end of the last thing inside.
        let end = match &kind {
            Kind::List(list) if !self.closed_by(end, ']') => list.last().map(|node| node.span().end),
            Kind::Map(map) if !self.closed_by(end, '}') => map.last().map(|(_, value)| value.span().end),
            _ => None,
        }
        .map_or(end, |last| last.min(end));
        Some(Arc::new(Node::new(open.start..end.max(open.start), weight, kind)))
    }

    fn closed_by(&self, end: usize, bracket: char) -> bool {
        self.source.text().get(..end).is_some_and(|before| before.ends_with(bracket))
    }

    /// Reports keys that are there twice, and puts in what `<<` merges (explicit keys win, then earlier maps).
    fn map(&mut self, pairs: Vec<(Arc<Node>, Arc<Node>)>) -> Option<Vec<(Arc<Node>, Arc<Node>)>> {
        let mut seen: HashMap<String, Arc<Node>> = HashMap::new();
        let mut kept = Vec::with_capacity(pairs.len());
        let mut merged = Vec::new();
        for (key, value) in pairs {
            let Some(scalar) = key.scalar() else {
                kept.push((key, value));
                continue;
            };
            if scalar.text == "<<" && scalar.style == Style::Plain && scalar.tag.is_none() {
                merged.push(value);
                continue;
            }
            if let Some(first) = seen.get(&scalar.text) {
                let diagnostic = Place::new(self.source, key.span())
                    .mistake(format!("the key `{}` is there twice", scalar.text))
                    .related(&Place::new(self.source, first.span()), "first here");
                self.diagnostics.push(diagnostic);
                continue;
            }
            seen.insert(scalar.text.clone(), key.clone());
            kept.push((key, value));
        }
        for value in merged {
            let maps = match &value.kind {
                Kind::List(list) => list.clone(),
                Kind::Map(_) | Kind::Scalar(_) => vec![value.clone()],
            };
            for map in maps {
                let Kind::Map(pairs) = &map.kind else {
                    let place = Place::new(self.source, map.span());
                    let found = map.describe();
                    self.diagnostics.push(place.mistake(format!("`<<` merges maps, but this is {found}")));
                    continue;
                };
                for (key, value) in pairs {
                    let Some(scalar) = key.scalar() else { continue };
                    if !seen.contains_key(&scalar.text) {
                        self.count(key.weight() + value.weight(), map.span())?;
                        seen.insert(scalar.text.clone(), key.clone());
                        kept.push((key.clone(), value.clone()));
                    }
                }
            }
        }
        Some(kept)
    }

    fn scalar(
        &self,
        text: String,
        style: ScalarStyle,
        tag: Option<&saphyr_parser::Tag>,
        span: std::ops::Range<usize>,
    ) -> Scalar {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        let tag = tag.and_then(|tag| match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
            (true, "str") => Some(Tag::Text),
            (true, "int" | "bool" | "null" | "float") => Some(Tag::Plain),
            (false, "") => Some(Tag::Text),
            _ => None,
        });
        let skip = usize::from(style == Style::Quoted);
        let as_it_is = style != Style::Block
            && self.source.text().get(span.start + skip..).is_some_and(|rest| rest.starts_with(text.as_str()));
        let verbatim = as_it_is.then(|| u32::try_from(span.start + skip).ok()).flatten();
        Scalar { text, style, tag, verbatim }
    }
}

/// Whether the lines before a place are comments, and the one before these opens a block.
fn comment_ends_block(before: &str) -> bool {
    let mut lines = before.lines().rev().map(str::trim).skip_while(|line| line.is_empty()).peekable();
    let is_comment = |line: &&str| line.starts_with('#');
    let mut comments = 0;
    while lines.next_if(is_comment).is_some() {
        comments += 1;
    }
    comments > 0
        && lines.next().is_some_and(|line| [": |", ": >", ": |-", ": >-"].iter().any(|end| line.ends_with(end)))
}

/// From the parser's character numbers to byte offsets.
struct Offsets<'a> {
    text: &'a str,
    /// The byte offset of every [`Offsets::STEP`]th character; empty when the text is ASCII.
    marks: Vec<u32>,
}

impl<'a> Offsets<'a> {
    const STEP: usize = 64;

    fn new(text: &'a str) -> Offsets<'a> {
        let marks = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(Self::STEP).map(|(byte, _)| byte as u32).collect()
        };
        Offsets { text, marks }
    }

    fn byte(&self, character: usize) -> usize {
        if self.marks.is_empty() {
            return character.min(self.text.len());
        }
        let Some(mark) = self.marks.get(character / Self::STEP) else { return self.text.len() };
        let rest = &self.text[*mark as usize..];
        rest.char_indices().nth(character % Self::STEP).map_or(self.text.len(), |(byte, _)| *mark as usize + byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blueprint::source::Origin;

    fn read(text: &str) -> (Option<Arc<Node>>, Vec<String>) {
        let source = Source::new("test.yml", text, Origin::Label);
        let mut diagnostics = Diagnostics::default();
        let node = parse(&source, &mut diagnostics);
        let messages = match diagnostics.finish(Some(())) {
            Ok((_, warnings)) => warnings,
            Err(error) => error.diagnostics().to_vec(),
        };
        (
            node,
            messages
                .into_iter()
                .map(|d| format!("{}:{} {}", d.line_column().0, d.line_column().1, d.message))
                .collect(),
        )
    }

    fn spans(node: &Node, text: &str, out: &mut Vec<String>) {
        out.push(text[node.span()].to_owned());
        match &node.kind {
            Kind::Scalar(_) => {}
            Kind::List(list) => list.iter().for_each(|node| spans(node, text, out)),
            Kind::Map(map) => map.iter().for_each(|(key, value)| {
                spans(key, text, out);
                spans(value, text, out);
            }),
        }
    }

    #[test]
    fn every_node_knows_its_bytes() {
        let text = "ä: [x, \"ö\"]\nb:\n  - 'c'\n  - d: e\n\nf: {g: 1}\n";
        let mut found = Vec::new();
        spans(&read(text).0.unwrap(), text, &mut found);
        assert_eq!(
            found,
            [
                "ä: [x, \"ö\"]\nb:\n  - 'c'\n  - d: e\n\nf: {g: 1}",
                "ä",
                "[x, \"ö\"]",
                "x",
                "\"ö\"",
                "b",
                "- 'c'\n  - d: e",
                "'c'",
                "d: e",
                "d",
                "e",
                "f",
                "{g: 1}",
                "g",
                "1"
            ]
        );
    }

    #[test]
    fn laughing_aliases_are_refused() {
        let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (last, next) in "abcdefgh".chars().zip("bcdefghi".chars()) {
            text +=
                &format!("{next}: &{next} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n");
        }
        assert!(read(&text).1[0].contains("more than 1000000 values"), "{:?}", read(&text).1);
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        assert!(read(&"[".repeat(100_000)).1[0].contains("64 levels"));
        assert!(read(&"- ".repeat(10_000)).1[0].contains("64 levels"));
    }

    #[test]
    fn merge_keys_merge() {
        let text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n";
        let (node, messages) = read(text);
        assert!(messages.is_empty(), "{messages:?}");
        let mut found = Vec::new();
        spans(&node.unwrap(), text, &mut found);
        assert_eq!(found[found.len() - 4..], ["y", "3", "x", "1"]);
    }

    #[test]
    fn duplicate_keys_empty_texts_and_control_characters_are_refused() {
        assert_eq!(read("a: 1\nb: 2\na: 3\n").1, ["3:1 the key `a` is there twice"]);
        assert_eq!(read("# nothing\n").1, ["1:1 the text has nothing in it"]);
        assert_eq!(read("").1, ["1:1 the text has nothing in it"]);
        assert_eq!(read("a: b\0\n").1, ["1:5 the control character U+0000 is not allowed in YAML"]);
    }

    #[test]
    fn a_second_document_is_a_warning() {
        assert_eq!(read("a: 1\n---\nb: [\n").1, ["2:1 a second document begins here and is not read"]);
    }
}
