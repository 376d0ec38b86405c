//! `moby schema`: JSON Schemas of what people write, for editors.

use clap::{Args, ValueEnum};

use crate::blueprint::{LABEL, blueprint_page, component_page, json_schema, json_schema_of};
use crate::component::recipe;
use crate::error::{Error, Result};
use crate::lock::LOCK;

/// Prints the JSON Schema (draft 2020-12) of a kind of document.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby schema blueprint > blueprint.schema.json
  # and as the first line of a blueprint, for editors with a YAML language server:
  # yaml-language-server: $schema=blueprint.schema.json")]
pub struct SchemaArguments {
    /// The kind of document
    #[arg(value_enum)]
    kind: SchemaKind,
    /// The same as a page of the book
    #[arg(long)]
    markdown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SchemaKind {
    /// Blueprints
    Blueprint,
    /// Recipes of components, build.yml
    Component,
    /// The label org.mobyproject.config of an image, and `config` of a recipe
    Label,
    /// Lock files
    Lock,
}

/// Runs the verb.
pub fn run(arguments: &SchemaArguments) -> Result<i32> {
    if arguments.markdown {
        let page = match arguments.kind {
            SchemaKind::Blueprint => blueprint_page(),
            SchemaKind::Component => component_page(&recipe::RECIPE),
            SchemaKind::Label | SchemaKind::Lock => {
                return Err(Error::usage("the book has pages of `blueprint` and `component` only")
                    .hint("the keys of the label are those of a container"));
            }
        };
        super::print_line(page.trim_end())?;
        return Ok(0);
    }
    let schema = match arguments.kind {
        SchemaKind::Blueprint => json_schema(),
        SchemaKind::Component => recipe::json_schema(),
        SchemaKind::Label => json_schema_of("label org.mobyproject.config", &LABEL),
        SchemaKind::Lock => json_schema_of("moby lock file", &LOCK),
    };
    super::print_line(&schema.to_json(2))?;
    Ok(0)
}
