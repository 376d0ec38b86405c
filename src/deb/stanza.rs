//! Control stanzas: `Field: value` lines with folded continuations (deb822(5)).

/// One stanza as text, its fields looked up when they are needed. Field names compare without case.
#[derive(Clone, Copy, Debug)]
pub struct Stanza<'a>(&'a str);

impl<'a> Stanza<'a> {
    /// Takes the text of one stanza: the lines between two empty ones.
    pub fn new(text: &'a str) -> Stanza<'a> {
        Stanza(text)
    }

    /// The value of a field, its continuation lines as they are, without white space around the whole.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        let mut at = 0;
        while at < self.0.len() {
            let line_end = end_of_line(self.0, at);
            let mut end = line_end;
            // Lines that start with white space belong to the field above.
            while self.0[end..].starts_with([' ', '\t']) {
                end = end_of_line(self.0, end);
            }
            if let Some((found, _)) = self.0[at..line_end].split_once(':')
                && found.eq_ignore_ascii_case(name)
            {
                return Some(self.0[at + found.len() + 1..end].trim());
            }
            at = end;
        }
        None
    }
}

/// Where the line after the one at `from` starts.
fn end_of_line(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |at| from + at + 1)
}

/// Splits text into stanzas. Lines that start with `#` are dropped, as in apt's own sources files.
pub fn stanzas(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut current = String::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.starts_with('#')) {
        if line.is_empty() {
            all.extend(Some(std::mem::take(&mut current)).filter(|stanza| !stanza.is_empty()));
        } else {
            current.push_str(line);
            current.push('\n');
        }
    }
    all.extend(Some(current).filter(|stanza| !stanza.is_empty()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let stanza = Stanza::new("Package: a\nDescription: one\n two: 2\n .\n three\nDEPENDS:b,\n c\nEmpty:\n");
        assert_eq!(stanza.field("package"), Some("a"));
        assert_eq!(stanza.field("Depends"), Some("b,\n c"));
        assert_eq!(stanza.field("Description"), Some("one\n two: 2\n .\n three"));
        assert_eq!(stanza.field("two"), None);
        assert_eq!(stanza.field("Empty"), Some(""));
        assert_eq!(Stanza::new("no field at all").field("no"), None);
    }

    #[test]
    fn stanzas_are_split_and_comments_dropped() {
        assert_eq!(stanzas("\n\na: 1\n# x: 2\n b\n\n \n\nc: 3"), ["a: 1\n b\n", "c: 3\n"]);
    }
}
