//! The label `org.mobyproject.config`: how a container of an image runs unless the blueprint says otherwise.

use super::decode::Decoder;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::image::{LABEL, Settings};
use super::node::{Kind, Node};
use super::parse::parse;
use super::reference::Reference;
use super::source::{Origin, Source};
use super::template::Templates;
use crate::Result;

/// The name of the label.
pub const LABEL_NAME: &str = "org.mobyproject.config";

/// Reads the label of the image `reference`: a JSON or YAML map with the keys of a container but `name` and `image`.
pub fn read_label(text: &str, reference: &Reference) -> Result<(Settings, Vec<Diagnostic>)> {
    read_label_named(text, &format!("label {LABEL_NAME} of {reference}"))
}

/// The same with a name for messages, for a label that is not in an image yet (`config` of a recipe).
pub fn read_label_named(text: &str, name: &str) -> Result<(Settings, Vec<Diagnostic>)> {
    let source = Source::new(name, text, Origin::Label);
    let mut diagnostics = Diagnostics::default();
    let mut templates = Templates::new(None);
    let settings = parse(&source, &mut diagnostics).and_then(|node| {
        let mut decoder = Decoder { source: &source, diagnostics: &mut diagnostics, templates: &mut templates };
        decoder.label(&node)
    });
    diagnostics.finish(settings)
}

impl Decoder<'_, '_> {
    fn label(&mut self, node: &Node) -> Option<Settings> {
        let Kind::Map(pairs) = &node.kind else {
            self.expected(node, "the label", "a map of keys and values");
            return None;
        };
        for (key, _) in pairs {
            if let Some(scalar) = key.scalar()
                && matches!(&*scalar.text, "name" | "image")
            {
                self.mistake(key, format!("`{}` cannot be set in a label: the blueprint says it", scalar.text));
                return None;
            }
        }
        let fields = self.fields(node, &LABEL)?;
        Some(self.settings(&fields))
    }
}
