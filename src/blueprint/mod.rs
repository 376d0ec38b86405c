//! Reading blueprints: YAML text in, a typed [`Blueprint`] out, every mistake shown at its place.
//!
//! | step | file | takes | gives |
//! |---|---|---|---|
//! | load | `input` | files, standard input, URLs | [`Source`]s |
//! | parse | `parse`, `node` | a text | a tree of nodes, each with its bytes |
//! | decode | `decode` and the file of each type | nodes | typed values; `template` resolves `@pkg:` on the way |
//! | merge | `merge` | several blueprints | one |
//! | check | `check` | the merged blueprint | mistakes that only the whole shows |
//!
//! No step stops at the first mistake: they are collected in [`Diagnostics`] and shown together. The keys that are known
//! are data ([`schema::Table`]), beside the types that they belong to.

mod archive;
mod capability;
mod check;
mod decode;
mod device;
mod diagnostic;
mod disk;
mod document;
mod file;
mod id;
mod image;
mod input;
mod json_schema;
mod kernel;
mod label;
mod markdown;
mod markdown_texts;
mod merge;
mod mount;
mod nearest;
mod node;
mod parse;
mod reference;
mod resources;
mod rlimit;
mod root;
mod runtime;
pub mod schema;
mod source;
mod template;
pub mod value;
mod volume;
mod write;

pub use archive::{ArchiveForm, ArchiveReference};
pub use capability::CAPABILITIES;
pub use decode::{Decoder, Fields};
pub use device::{DEVICE, Device};
pub use diagnostic::{Diagnostic, Diagnostics, Related, Severity};
pub use disk::{DATA, DISK, Data, DataFileSystem, DataSize, Disk, Encryption, Size};
pub use document::{BLUEPRINT, Blueprint, TRUST, Trust};
pub use file::{Content, FILE, File, MetadataFormat};
pub use id::{ID_MAPPING, Id, IdMapping};
pub use image::{IMAGE, Image, LABEL, Security, Settings};
pub use input::{Fetch, Input, ReadOptions, output_name, read};
pub use json_schema::{json_schema, json_schema_of};
pub use kernel::{KERNEL, Kernel, Ucode};
pub use label::{LABEL_NAME, read_document, read_label, read_label_named};
pub use markdown::{blueprint_page, component_page};
pub use mount::{Bind, MOUNT, Mount, Tmpfs};
pub use nearest::nearest;
pub use node::{Kind, Meaning, Node, Scalar, Style, Tag};
pub use parse::parse;
pub(crate) use reference::write_expanded;
pub use reference::{DEFAULT_REGISTRY, Reference, Unparseable};
pub use resources::{BlockIo, Cpu, DeviceRule, Memory, Network, RESOURCES, Resources, ThrottleDevice, WeightDevice};
pub use rlimit::{RLIMITS, Rlimit};
pub use root::{OnFailure, ROOT, Root, RootCompression, RootSignature, RootType};
pub use runtime::{BindNamespaces, Interface, RUNTIME, Runtime};
pub use source::{Origin, Place, Source, Spanned};
pub use template::{Archives, Resolver, Templates};
pub use value::Value;
pub use volume::{VOLUME, Volume, VolumeFormat};
pub use write::MapBuilder;
