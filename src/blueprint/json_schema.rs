//! The keys of blueprints as a JSON schema, for editors.
//!
//! It says less than reading does: what stands inside texts, and what excludes what, is not in it.

use std::collections::BTreeMap;

use super::document::BLUEPRINT;
use super::schema::{Shape, Table};
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
fn name(table: &Table) -> String {
    let bare = table.name.trim_start_matches("an ").trim_start_matches("a ").trim_matches('`');
    bare.replace(' ', "-")
}

fn table(table: &'static Table, definitions: &mut BTreeMap<String, Value>) -> Value {
    let mut properties = MapBuilder::default();
    for key in table.keys {
        let Value::Map(mut pairs) = shape(&key.shape, definitions) else { continue };
        pairs.push(("description".to_owned(), Value::text(key.doc)));
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
        Shape::Text | Shape::Image => kinds(&mut map, &["string"]),
        Shape::Word(words) => {
            map.put("enum", Value::texts(*words));
        }
        Shape::Bool => kinds(&mut map, &["boolean"]),
        Shape::Integer(least, most) => {
            kinds(&mut map, &["integer"]);
            map.put("minimum", Value::Integer((*least).into())).put("maximum", Value::Integer((*most).into()));
        }
        Shape::IntegerOrText | Shape::Mode => kinds(&mut map, &["integer", "string"]),
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
