//! An earlier output of the format `tar` as a source of bytes (`moby build --input-tar`).
//!
//! What an image consists of is never taken from it: names, owners, whiteouts and digests come from the store, whose
//! manifests and indexes of layers are known to be what they say. Only the bytes of files are, where a layer itself is
//! not in the store any more, and only those whose digest the layer's index has. So the output is the same, byte for
//! byte, with the flag and without. LinuxKit trusts the names of images in the earlier output instead, and thereby loses
//! volumes and changes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;

use super::{Content, Place, Tree};
use crate::error::{Error, IoContext, Result};
use crate::store::{Descriptor, Digest, EntryKind, Layer, Store};

/// Where the content of layers is said to lie that are not there.
const ABSENT: &str = "a layer that is not in the store";
/// The record that every entry of such an output has.
const SOURCE: &str = "LINUXKIT.source";
/// Entries that are looked at for it: an output begins with folders of its own.
const FIRST_ENTRIES: usize = 100;

/// An earlier output, with the places of its files' contents.
#[derive(Debug)]
pub struct InputTar {
    file: Arc<Path>,
    contents: HashMap<(Digest, u64), u64>,
}

impl InputTar {
    /// Reads an output from front to back.
    ///
    /// # Errors
    /// Exit status 3 for what is no tar, or none that this program or LinuxKit wrote.
    pub fn open(path: &Path, store: &Store) -> Result<InputTar> {
        InputTar::read(path, store).map_err(|error| error.context(format_args!("--input-tar {}", path.display())))
    }

    fn read(path: &Path, store: &Store) -> Result<InputTar> {
        let opened = File::open(path).at("opening", path)?;
        // What the reader says of something else is that something's own bytes, control characters and all.
        let not_a_tar = |error: std::io::Error| match error.raw_os_error() {
            Some(_) => Error::io("reading", path, error),
            None => Error::refused("it is not readable as a tar")
                .hint("it takes what moby build --format tar wrote, not compressed"),
        };
        if !is_output(opened).map_err(not_a_tar)? {
            return Err(Error::refused("it is no root file system that was built: no entry says which image it is of")
                .hint("it takes what moby build --format tar wrote, not compressed"));
        }
        let whole = Content::host_file(path)?;
        let file: Arc<Path> = path.into();
        let tar = store.archive_in_file(&file, 0, whole.size, &whole.digest)?;
        let contents = tar.index.entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::File { offset, size, digest } => Some(((*digest, *size), *offset)),
            _ => None,
        });
        Ok(InputTar { contents: contents.collect(), file })
    }

    /// A layer whose index is in the store, and nothing else of it. Its contents are to be found by [`InputTar::fill`].
    pub fn layer(&self, store: &Store, descriptor: &Descriptor, diff_id: &Digest) -> Option<Layer> {
        if store.has_blob(descriptor) || store.inflated(diff_id).is_some() {
            return None;
        }
        let index = store.layer_index(diff_id)?;
        Some(Layer { diff_id: *diff_id, file: Path::new(ABSENT).into(), index: Arc::new(index) })
    }

    /// Finds contents of absent layers by their digests. Those that are not in the earlier output stay absent.
    pub fn fill(&self, tree: &mut Tree) {
        for content in tree.contents_mut().filter(|content| is_absent(content)) {
            if let Some(offset) = self.contents.get(&(content.digest, content.size)) {
                content.place = Place::File { file: self.file.clone(), offset: *offset };
            } else if content.size == 0 {
                *content = Content::bytes(Vec::new());
            }
        }
    }

    /// Brings a blob back into the store that a volume of the earlier output has. Returns whether it was there.
    pub fn restore(&self, store: &Store, descriptor: &Descriptor) -> Result<bool> {
        let Some(offset) = self.contents.get(&(descriptor.digest, descriptor.size)) else { return Ok(false) };
        let content = Content::part(self.file.clone(), *offset, descriptor.size, descriptor.digest);
        let mut writer = store.blob_writer()?;
        content.copy_to(&mut writer)?;
        writer.commit(Some(&descriptor.digest)).map(|_| true)
    }
}

/// Whether content lies in a layer that is not there.
pub fn is_absent(content: &Content) -> bool {
    matches!(&content.place, Place::File { file, .. } if file.as_os_str() == ABSENT)
}

/// Whether an entry says which image it is of.
fn is_output(file: File) -> io::Result<bool> {
    let mut archive = tar::Archive::new(BufReader::new(file));
    for entry in archive.entries()?.take(FIRST_ENTRIES) {
        let mut entry = entry?;
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                if extension?.key_bytes() == SOURCE.as_bytes() {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

impl InputTar {
    /// An error if something of a tree is still absent.
    pub fn check(tree: &Tree) -> Result<()> {
        tree.walk_all(|path, id| match &tree.inode(id).kind {
            super::Kind::File(content) if is_absent(content) => {
                Err(Error::failed(format!("the content of \"{}\" is not in the earlier output", path.escape_ascii())))
            }
            _ => Ok(()),
        })
    }
}

/// Whether two names are of one file.
pub fn same_file(one: &Path, other: &Path) -> Result<bool> {
    if !one.exists() || !other.exists() {
        return Ok(false);
    }
    let [one, other] = [one, other].map(|path| path.canonicalize().at("reading", path));
    Ok(one? == other?)
}
