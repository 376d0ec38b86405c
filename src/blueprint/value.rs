//! A document to be written: ordered, so that the keys come out in the order of the types.

use std::fmt::Write as _;

/// A value of a YAML or JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map in the order in which it is written.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// A list of texts.
    pub fn texts<T: ToString>(texts: impl IntoIterator<Item = T>) -> Value {
        Value::List(texts.into_iter().map(|text| Value::Text(text.to_string())).collect())
    }

    /// An empty list, an empty map, or nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Null => true,
            Value::List(list) => list.is_empty(),
            Value::Map(map) => map.is_empty(),
            Value::Bool(_) | Value::Integer(_) | Value::Text(_) => false,
        }
    }

    /// JSON with `indent` spaces a level, without a newline at the end.
    pub fn to_json(&self, indent: usize) -> String {
        let mut out = String::new();
        self.write_json(&mut out, indent, 0);
        out
    }

    fn write_json(&self, out: &mut String, indent: usize, level: usize) {
        let line = |out: &mut String, level: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        };
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Integer(value) => {
                let _ = write!(out, "{value}");
            }
            Value::Text(text) => out.push_str(&quoted(text)),
            Value::List(list) if list.is_empty() => out.push_str("[]"),
            Value::Map(map) if map.is_empty() => out.push_str("{}"),
            Value::List(list) => {
                out.push('[');
                for (index, value) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    line(out, level + 1);
                    value.write_json(out, indent, level + 1);
                }
                line(out, level);
                out.push(']');
            }
            Value::Map(map) => {
                out.push('{');
                for (index, (key, value)) in map.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    line(out, level + 1);
                    out.push_str(&quoted(key));
                    out.push_str(": ");
                    value.write_json(out, indent, level + 1);
                }
                line(out, level);
                out.push('}');
            }
        }
    }

    /// YAML with a newline at the end. With `indent` 4, lists stand deeper than their keys, with 2 they do not: the two
    /// ways in which LinuxKit writes YAML.
    pub fn to_yaml(&self, indent: usize) -> String {
        let mut out = String::new();
        let style = Style { indent, deeper_lists: indent != 2 };
        match self {
            Value::List(_) | Value::Map(_) if !self.is_empty() => style.block(self, &mut out, 0),
            _ => {
                style.scalar(self, &mut out, 0);
                out.push('\n');
            }
        }
        out
    }
}

struct Style {
    indent: usize,
    deeper_lists: bool,
}

impl Style {
    /// A list or map that is not empty, at `column`; the first line is not indented.
    fn block(&self, value: &Value, out: &mut String, column: usize) {
        let mut first = true;
        let mut begin = |out: &mut String| {
            if !std::mem::take(&mut first) {
                out.extend(std::iter::repeat_n(' ', column));
            }
        };
        match value {
            Value::Map(map) => {
                for (key, value) in map {
                    begin(out);
                    out.push_str(&plain_or_quoted(key));
                    out.push(':');
                    self.after_key(value, out, column);
                }
            }
            Value::List(list) => {
                for value in list {
                    begin(out);
                    out.push_str("- ");
                    match value {
                        Value::List(_) | Value::Map(_) if !value.is_empty() => self.block(value, out, column + 2),
                        _ => {
                            self.scalar(value, out, column + 2);
                            out.push('\n');
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn after_key(&self, value: &Value, out: &mut String, column: usize) {
        let nested = !value.is_empty() && matches!(value, Value::List(_) | Value::Map(_));
        if !nested {
            out.push(' ');
            self.scalar(value, out, self.next(column));
            out.push('\n');
            return;
        }
        let inner = match value {
            Value::List(_) if !self.deeper_lists => column,
            _ => self.next(column),
        };
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', inner));
        self.block(value, out, inner);
    }

    /// The next column that is a whole number of indents.
    fn next(&self, column: usize) -> usize {
        (column / self.indent + 1) * self.indent
    }

    fn scalar(&self, value: &Value, out: &mut String, column: usize) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(_) | Value::Integer(_) => value.write_json(out, 0, 0),
            Value::List(_) => out.push_str("[]"),
            Value::Map(_) => out.push_str("{}"),
            Value::Text(text) if literal(text) => {
                let ending = match (text.ends_with('\n'), text.ends_with("\n\n")) {
                    (_, true) => "|+",
                    (true, false) => "|",
                    (false, false) => "|-",
                };
                out.push_str(ending);
                for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                    out.push('\n');
                    if !line.is_empty() {
                        out.extend(std::iter::repeat_n(' ', column));
                        out.push_str(line);
                    }
                }
            }
            Value::Text(text) => out.push_str(&plain_or_quoted(text)),
        }
    }
}

/// Whether a text of several lines can be written as a block: nothing but printable characters, and a first line that
/// shows the indentation.
fn literal(text: &str) -> bool {
    let printable = |c: char| c == '\n' || c == '\t' || (!c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}'));
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.chars().all(printable)
        && !text.contains('\u{feff}')
        && text.split('\n').all(|line| line.trim_matches([' ', '\t']) == line || !line.trim().is_empty())
}

/// JSON text, which is YAML too.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // YAML needs these escaped too, and takes JSON's form.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn plain_or_quoted(text: &str) -> String {
    if plain(text) { text.to_owned() } else { quoted(text) }
}

/// Whether a text stays what it is without quotes, read by YAML 1.1 and 1.2.
fn plain(text: &str) -> bool {
    let word = text.to_ascii_lowercase();
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "~", ".inf", ".nan", "<<"];
    let first = text.chars().next();
    let starts = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '/' || c == '_' || c == '$');
    let inner = |c: char| c.is_ascii_alphanumeric() || " ./_-+=,@:#$()%~^;!?*&<>|'\"\\".contains(c);
    // A flow list or map never surrounds these, so that commas and brackets would be fine; brackets are quoted anyway.
    starts
        && !reserved.contains(&word.as_str())
        && text.chars().all(inner)
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Value {
        Value::Map(vec![
            ("init".into(), Value::texts(["linuxkit/init:v1", "0640", "yes", "a: b"])),
            (
                "services".into(),
                Value::List(vec![Value::Map(vec![
                    ("name".into(), Value::text("web")),
                    ("binds".into(), Value::texts(["/a:/b:ro"])),
                    ("runtime".into(), Value::Map(vec![("mkdir".into(), Value::texts(["x"]))])),
                    ("contents".into(), Value::text("one\n\ntwo\n")),
                    ("none".into(), Value::List(vec![])),
                ])]),
            ),
        ])
    }

    #[test]
    fn yaml_is_laid_out_as_linuxkit_does() {
        let four = "init:\n    - linuxkit/init:v1\n    - \"0640\"\n    - \"yes\"\n    - \"a: b\"\nservices:\n    - name: web\n      binds:\n        - /a:/b:ro\n      runtime:\n        mkdir:\n            - x\n      contents: |\n        one\n\n        two\n      none: []\n";
        assert_eq!(sample().to_yaml(4), four);
        let two = "init:\n- linuxkit/init:v1\n- \"0640\"\n- \"yes\"\n- \"a: b\"\nservices:\n- name: web\n  binds:\n  - /a:/b:ro\n  runtime:\n    mkdir:\n    - x\n  contents: |\n    one\n\n    two\n  none: []\n";
        assert_eq!(sample().to_yaml(2), two);
    }

    #[test]
    fn json_is_indented() {
        let value = Value::Map(vec![("a".into(), Value::List(vec![])), ("b".into(), Value::texts(["\"\n"]))]);
        assert_eq!(value.to_json(4), "{\n    \"a\": [],\n    \"b\": [\n        \"\\\"\\n\"\n    ]\n}");
    }
}
