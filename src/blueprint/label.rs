//! The label `org.mobyproject.config`: how a container of an image runs unless the blueprint says otherwise.

use std::sync::Arc;

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
    read_document(&source, |decoder, node| decoder.label(node))
}

/// Reads any YAML document with the means of this module: for recipes, which have tables of keys of their own. `decode`
/// notes mistakes in the decoder; all of them are in the error.
pub fn read_document<T>(
    source: &Arc<Source>,
    decode: impl FnOnce(&mut Decoder<'_, '_>, &Node) -> Option<T>,
) -> Result<(T, Vec<Diagnostic>)> {
    let mut diagnostics = Diagnostics::default();
    let mut templates = Templates::new(None);
    let value = parse(source, &mut diagnostics).and_then(|node| {
        decode(&mut Decoder { source, diagnostics: &mut diagnostics, templates: &mut templates }, &node)
    });
    diagnostics.finish(value)
}

impl Decoder<'_, '_> {
    /// A label, or the `config` of a recipe.
    pub fn label(&mut self, node: &Node) -> Option<Settings> {
        if !matches!(node.kind, Kind::Map(_)) {
            self.expected(node, "the label", "a map of keys and values");
            return None;
        }
        let fields = self.fields(node, &LABEL)?;
        Some(self.settings(&fields))
    }
}
