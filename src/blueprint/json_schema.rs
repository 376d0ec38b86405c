//! The keys of blueprints as a JSON schema, for editors.
//!
//! It says less than reading does, never more: what excludes what, and what must be there twice or only once, is not in
//! it. `tests/schema.rs` lists the mistakes that it does not see.

use std::collections::BTreeMap;

use super::document::BLUEPRINT;
use super::schema::{IfAbsent, Shape, Table};
use super::value::Value;
use super::write::MapBuilder;

/// The schema of blueprints, JSON Schema draft 2020-12.
pub fn json_schema() -> Value {
    json_schema_of("moby blueprint", &BLUEPRINT)
}

/// The schema of a document whose top is a map with the keys of a table.
pub fn json_schema_of(title: &str, top: &'static Table) -> Value {
    let mut definitions = BTreeMap::new();
    let mut schema = MapBuilder::default();
    schema.put("$schema", Value::text("https://json-schema.org/draft/2020-12/schema"));
    schema.put("title", Value::text(title));
    let Value::Map(top) = table(top, &mut definitions) else { return Value::Null };
    for (key, value) in top {
        schema.put(&key, value);
    }
    schema.put("$defs", Value::Map(definitions.into_iter().collect()));
    schema.build()
}

/// The name of a table's definition: "a device rule" is `device-rule`.
pub(super) fn name(table: &Table) -> String {
    let bare = table.name.trim_start_matches("an ").trim_start_matches("a ");
    bare.replace('`', "").replace(' ', "-")
}

fn table(table: &'static Table, definitions: &mut BTreeMap<String, Value>) -> Value {
    let mut properties = MapBuilder::default();
    for key in table.keys {
        let Value::Map(mut pairs) = shape(&key.shape, definitions) else { continue };
        let description = match key.default {
            Some(IfAbsent::Told(words)) => format!("{} (if left out: {words})", key.doc),
            _ => key.doc.to_owned(),
        };
        pairs.push(("description".to_owned(), Value::Text(description)));
        let default = key.default.and_then(|default| match default {
            IfAbsent::Bool(value) => Some(Value::Bool(value)),
            IfAbsent::Text(text) => Some(Value::text(text)),
            IfAbsent::Integer(number) => Some(Value::Integer(number.into())),
            IfAbsent::Texts(texts) => Some(Value::texts(texts)),
            IfAbsent::Told(_) => None,
        });
        pairs.extend(default.map(|value| ("default".to_owned(), value)));
        properties.put(key.name, Value::Map(pairs));
    }
    let required: Vec<&str> = table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut map = MapBuilder::default();
    map.put("type", Value::text("object")).put("additionalProperties", Value::Bool(false));
    map.put("properties", properties.build());
    map.maybe("required", (!required.is_empty()).then(|| Value::texts(required)));
    map.build()
}

fn shape(shape_of: &'static Shape, definitions: &mut BTreeMap<String, Value>) -> Value {
    let mut map = MapBuilder::default();
    let kinds = |map: &mut MapBuilder, kinds: &[&str]| {
        map.put("type", if let [kind] = kinds { Value::text(*kind) } else { Value::texts(kinds) });
    };
    match shape_of {
        Shape::Text => kinds(&mut map, &["string"]),
        Shape::Line => {
            kinds(&mut map, &["string"]);
            pattern(&mut map, "[^\\n\\r]*");
        }
        Shape::Matching(expression) => {
            kinds(&mut map, &["string"]);
            pattern(&mut map, expression);
        }
        Shape::Image => {
            kinds(&mut map, &["string"]);
            pattern(&mut map, &image_pattern());
        }
        Shape::Capability => {
            let mut names = MapBuilder::default();
            names.put("enum", Value::texts(super::capability::CAPABILITIES));
            let mut words = MapBuilder::default();
            words.put("type", Value::text("string"));
            pattern(&mut words, "[Aa][Ll][Ll]|[Nn][Oo][Nn][Ee]");
            map.put("anyOf", Value::List(vec![names.build(), words.build()]));
        }
        Shape::Word(words) => {
            map.put("enum", Value::texts(*words));
        }
        Shape::Bool => kinds(&mut map, &["boolean"]),
        Shape::Integer(least, most) => {
            kinds(&mut map, &["integer"]);
            map.put("minimum", Value::Integer((*least).into())).put("maximum", Value::Integer((*most).into()));
        }
        Shape::IntegerOrText => kinds(&mut map, &["integer", "string"]),
        Shape::Mode => {
            // Without quotes it is octal too, but a YAML reader hands on the number that it takes it for.
            kinds(&mut map, &["integer", "string"]);
            map.put("minimum", Value::Integer(0));
            pattern(&mut map, "(0o)?[0-7]+");
        }
        Shape::List(inner) => {
            kinds(&mut map, &["array"]);
            map.put("items", shape(inner, definitions));
        }
        Shape::TextMap => {
            kinds(&mut map, &["object"]);
            map.put("additionalProperties", MapBuilder::default().put("type", Value::text("string")).build());
        }
        Shape::Map(inner) => {
            let name = name(inner);
            map.put("$ref", Value::Text(format!("#/$defs/{name}")));
            if !definitions.contains_key(&name) {
                // Entered before its members, so that a table that had itself as a member would end.
                definitions.insert(name.clone(), Value::Null);
                let definition = table(inner, definitions);
                definitions.insert(name, definition);
            }
        }
    }
    map.build()
}

fn pattern(map: &mut MapBuilder, expression: &str) {
    // Not `$` alone: some engines let it match before a line break at the end.
    map.put("pattern", Value::Text(format!("^(?:{expression})$(?![\\n])")));
}

/// An image reference, the template of a component, or nothing (which is as if the key were absent).
fn image_pattern() -> String {
    let part = "[a-z0-9]+(?:(?:\\.|__?|-+)[a-z0-9]+)*";
    let label = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
    let port = ":[0-9]{1,5}";
    let registry = format!(
        "(?:localhost(?:{port})?|{label}(?:\\.{label})+(?:{port})?|{label}{port}|\\[[0-9a-fA-F:.]+\\](?:{port})?)/"
    );
    let tag = ":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    let digest = "@sha256:[0-9a-f]{64}";
    let file = "[^:\\n\\r]";
    let archive = format!("(?:(?:docker|oci)-archive:{file}+|oci:{file}*/{file}*)(?::[^\\n\\r]+)?");
    format!("|@pkg:[^\\n]+|{archive}|(?:{registry})?{part}(?:/{part})*(?:{tag})?(?:{digest})?")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tables of one name would share a definition.
    #[test]
    fn every_reference_has_its_own_definition() {
        let schema: serde_json::Value = serde_json::from_str(&json_schema().to_json(2)).unwrap();
        let definitions = schema["$defs"].as_object().unwrap();
        assert!(definitions.values().all(serde_json::Value::is_object));
        for (reference, keys) in [("container", 37), ("kernel", 5), ("file", 10), ("volume", 5), ("runtime", 6)] {
            assert_eq!(definitions[reference]["properties"].as_object().unwrap().len(), keys, "{reference}");
        }
        assert_eq!(schema["properties"]["services"]["items"]["$ref"], "#/$defs/container");
        assert_eq!(definitions["container"]["required"], serde_json::json!(["name", "image"]));
        assert_eq!(definitions["memory"]["properties"]["swappiness"]["maximum"], 100);
    }
}
