//! The keys of blueprints and recipes as pages of the book, from the tables that the reader refuses unknown keys by.
//!
//! What a page says beside the tables, its examples and what LinuxKit knows, is in `markdown_texts.rs`.

use super::document::BLUEPRINT;
use super::json_schema::name;
use super::markdown_texts::{BLUEPRINT_TEXTS, COMPONENT_TEXTS, Texts};
use super::schema::{IfAbsent, Key, Shape, Table};

/// The page of blueprints.
pub fn blueprint_page() -> String {
    page(&BLUEPRINT_TEXTS, &BLUEPRINT)
}

/// The page of recipes, whose tables stand with the reader of recipes.
pub fn component_page(recipe: &'static Table) -> String {
    page(&COMPONENT_TEXTS, recipe)
}

/// A table, and the keys that lead to it.
struct Section {
    table: &'static Table,
    stands_in: Vec<String>,
}

fn page(texts: &Texts, top: &'static Table) -> String {
    let mut sections = vec![Section { table: top, stands_in: Vec::new() }];
    let mut next = 0;
    while let Some(table) = sections.get(next).map(|section| section.table) {
        for key in table.keys {
            let Some(inner) = inner_table(&key.shape) else { continue };
            // Described on another page.
            if texts.elsewhere.iter().any(|(elsewhere, _)| *elsewhere == name(inner)) {
                continue;
            }
            let place = match next {
                0 => format!("`{}`", key.name),
                _ => format!("`{}` of {}", key.name, link(texts, table)),
            };
            match sections.iter_mut().find(|section| std::ptr::eq(section.table, inner)) {
                Some(section) => section.stands_in.push(place),
                None => sections.push(Section { table: inner, stands_in: vec![place] }),
            }
        }
        next += 1;
    }
    let mut out = format!("# {}\n\n{}\n", texts.title, texts.introduction);
    for section in &sections {
        out += &self::section(texts, section);
    }
    out
}

fn section(texts: &Texts, section: &Section) -> String {
    let table = section.table;
    let mut out = format!("\n## {}\n\n", heading(texts, table));
    if !section.stands_in.is_empty() {
        out += &format!("Stands in {}.\n\n", section.stands_in.join(", "));
    }
    out += "| key | what stands there | if left out | meaning | LinuxKit |\n|---|---|---|---|---|\n";
    for key in table.keys {
        out += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            key.name,
            cell(&shape(texts, &key.shape)),
            cell(&if_absent(key)),
            cell(key.doc),
            cell(linuxkit(texts, table, key))
        );
    }
    for example in texts.examples.iter().filter(|(of, _)| *of == name(table)).map(|(_, example)| example) {
        out += &format!("\n```yaml\n{example}```\n");
    }
    out
}

/// A heading, and with it the anchor that links lead to.
fn heading(texts: &Texts, table: &Table) -> String {
    match name(table) {
        top if top == texts.top => "the top".to_owned(),
        other => other.replace('-', " "),
    }
}

fn link(texts: &Texts, table: &Table) -> String {
    let heading = heading(texts, table);
    format!("[{heading}](#{})", heading.to_lowercase().replace(' ', "-"))
}

fn inner_table(shape: &Shape) -> Option<&'static Table> {
    match shape {
        Shape::List(inner) => inner_table(inner),
        Shape::Map(table) => Some(table),
        _ => None,
    }
}

fn shape(texts: &Texts, of: &Shape) -> String {
    match of {
        Shape::Text => "text".to_owned(),
        Shape::Line => "text, one line".to_owned(),
        Shape::Matching(expression) => format!("text: `{expression}`"),
        Shape::Capability => "`CAP_` and a name, `all` or `none`".to_owned(),
        Shape::Image => "an image reference, or `\"@pkg:DIR\"`".to_owned(),
        Shape::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{}`", quoted(word))).collect();
            words.join(", ")
        }
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Integer(i64::MIN, _) => "a whole number".to_owned(),
        Shape::Integer(least, most) if *most >= i64::MAX as u64 => format!("a whole number from {least}"),
        Shape::Integer(least, most) => format!("a whole number from {least} to {most}"),
        Shape::IntegerOrText => "a whole number, or text".to_owned(),
        Shape::Mode => "an octal number, with or without quotes".to_owned(),
        Shape::List(inner) => format!("list of {}", shape(texts, inner)),
        Shape::TextMap => "map of text to text".to_owned(),
        Shape::Map(table) => match texts.elsewhere.iter().find(|(elsewhere, _)| *elsewhere == name(table)) {
            Some((_, link)) => (*link).to_owned(),
            None => link(texts, table),
        },
    }
}

fn if_absent(key: &Key) -> String {
    match key.default {
        _ if key.required => "must be there".to_owned(),
        Some(IfAbsent::Bool(value)) => format!("`{value}`"),
        Some(IfAbsent::Text(text)) => format!("`{}`", quoted(text)),
        Some(IfAbsent::Integer(number)) => format!("`{number}`"),
        Some(IfAbsent::Texts(texts)) => format!("`[{}]`", texts.join(", ")),
        Some(IfAbsent::Told(words)) => words.to_owned(),
        None => "nothing".to_owned(),
    }
}

fn quoted(text: &str) -> &str {
    if text.is_empty() { "\"\"" } else { text }
}

fn linuxkit(texts: &Texts, table: &Table, key: &Key) -> &'static str {
    let of = name(table);
    if let Some((_, _, note)) = texts.differs.iter().find(|(table, name, _)| *table == of && *name == key.name) {
        return note;
    }
    match texts.linuxkit.iter().find(|(table, _)| *table == of) {
        Some((_, keys)) if keys.is_empty() || keys.contains(&key.name) => "the same",
        _ => "new",
    }
}

/// A cell of a table, which a bar would end.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blueprint::{Input, ReadOptions, read};
    use crate::blueprint::{Origin, Source};
    use crate::component::recipe::{RECIPE, Recipe};

    #[test]
    fn bars_and_left_out_keys_are_shown() {
        let page = blueprint_page();
        assert!(page.contains("| `net` | text: `(?:host\\|root\\|new\\|none\\|/[^\\n\\r]*)?` | host |"), "{page}");
        assert!(page.contains("Stands in `onboot`, `onshutdown`, `services`."));
        assert!(page.contains("| `security` | `linuxkit`, `strict` | `linuxkit` |"));
        assert!(page.contains("| `binary` |") && page.contains("| `kernel.tar` |"));
    }

    #[test]
    fn examples_are_read_and_show_every_key_that_linuxkit_has() {
        let resolve = |_: &std::path::Path, _: &crate::blueprint::Place| Ok("docker.io/x/y:z".to_owned());
        for (of, example) in BLUEPRINT_TEXTS.examples {
            let input = Input::Text { name: (*of).into(), text: (*example).into(), folder: ".".into() };
            let options = ReadOptions { resolve: Some(&resolve), ..ReadOptions::default() };
            let result = read(&[input], options);
            assert!(result.is_ok(), "{of}: {:?}", result.unwrap_err().diagnostics().first().map(|d| d.render(false)));
        }
        for (of, example) in COMPONENT_TEXTS.examples {
            let result = Recipe::read(&Source::new(*of, *example, Origin::Remote));
            assert!(result.is_ok(), "{of}: {:?}", result.unwrap_err().diagnostics().first().map(|d| d.render(false)));
        }
        for (texts, top) in [(&BLUEPRINT_TEXTS, &BLUEPRINT), (&COMPONENT_TEXTS, &RECIPE)] {
            let page = page(texts, top);
            for (table, keys) in texts.linuxkit {
                for key in *keys {
                    let word = |text: &str| {
                        text.lines().any(|line| {
                            line.trim_start_matches([' ', '-', '{']).starts_with(&format!("{key}:"))
                                || line.contains(&format!(" {key}: "))
                                || line.contains(&format!("{{{key}: "))
                        })
                    };
                    assert!(texts.examples.iter().any(|(_, example)| word(example)), "no example of {key} of {table}");
                    assert!(page.contains(&format!("| `{key}` |")), "{key} of {table}");
                }
            }
        }
    }
}
