//! Images that lie in archives and in foreign image layouts, brought into the store under their digests.
//!
//! A name in an archive says nothing about what a registry has under it, so that none of them becomes a name of the
//! store: an image is named by its digest alone. An archive is read once for each of its digests; after that, it is
//! only hashed.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use super::digest::Hashing;
use super::import::{Canonical, Found, Seen};
use super::layout::INDEX_DEPTH;
use super::manifest::media_type;
use super::{Descriptor, Digest, Index, Manifest, Store};
use crate::blueprint::{ArchiveForm, ArchiveReference, nearest};
use crate::error::{Error, IoContext, Result};

/// Where it is noted which images an archive has, under the archive's digest.
const ARCHIVE_KIND: &str = "archive-1";
/// Manifests, indexes and `index.json` have at most this many bytes.
const DOCUMENT_LIMIT: u64 = 4 << 20;
/// Where images without a whole name come from, in their references.
const NAMELESS: &str = "localhost/archive";

impl Store {
    /// Brings an image of an archive or layout into the store, every digest and layer checked. Gives its reference,
    /// which ends in its digest, and what that stands for.
    ///
    /// # Errors
    /// Exit status 2 if the image that is named is not there, or none is named and there are several; 3 for what is no
    /// archive, or damaged.
    pub fn import_archive(
        &self,
        archive: &ArchiveReference,
        canonical: &Canonical<'_>,
    ) -> Result<(String, Descriptor)> {
        let said = |error: Error| error.context(archive.path.display());
        let folder = archive.path.is_dir();
        if !folder && !archive.path.exists() {
            return Err(Error::usage(format!("{} is not there", archive.path.display()))
                .hint("paths are relative to the blueprint"));
        }
        let image = match (archive.form, folder) {
            (ArchiveForm::Oci, true) => {
                let found = layout_index(&archive.path).map_err(said)?;
                let image = choose(found, archive, canonical)?;
                self.copy_layout(&archive.path, &image.descriptor, 0, &mut HashSet::new()).map_err(said)?;
                let descriptor = self.describe(&image.descriptor.digest).map_err(said)?;
                self.check_image(&descriptor, &mut Seen::default()).map_err(said)?;
                Found { descriptor, ..image }
            }
            (ArchiveForm::Oci, false) => {
                let path = archive.path.display();
                return Err(Error::usage(format!("{path} is no folder")).hint(format!(
                    "an image layout in a tar is oci-archive:{path}, and what docker save writes docker-archive:{path}"
                )));
            }
            (_, true) => {
                let path = archive.path.display();
                return Err(Error::usage(format!("{path} is a folder"))
                    .hint(format!("an image layout in a folder is oci:{path}")));
            }
            (_, false) => choose(self.archive_images(&archive.path).map_err(said)?, archive, canonical)?,
        };
        let whole = image.names.iter().find_map(|name| canonical(name)).filter(|name| !name.contains('@'));
        let name = whole.unwrap_or_else(|| format!("{NAMELESS}/{}", repository(&archive.path)));
        let reference = format!("{name}@{}", image.descriptor.digest);
        self.set_name(&reference, image.descriptor.clone())?;
        Ok((reference, image.descriptor))
    }

    /// The images of an archive, all of them in the store.
    fn archive_images(&self, path: &Path) -> Result<Vec<Found>> {
        self.images_in(File::open(path).at("opening", path)?, path)
    }

    fn images_in(&self, mut file: impl Read + Seek + Send, path: &Path) -> Result<Vec<Found>> {
        let digest = Hashing::new(&mut file).finish().at("reading", path)?;
        let known = self.derived(ARCHIVE_KIND, &digest).and_then(|path| std::fs::read(path).ok());
        let known = known.and_then(|bytes| serde_json::from_slice::<Vec<Found>>(&bytes).ok());
        let mut seen = Seen::default();
        if let Some(known) = known
            && known.iter().all(|image| self.check_image(&image.descriptor, &mut seen).is_ok())
        {
            return Ok(known);
        }
        // The same file again, and hashed again: it may be written over meanwhile, and what is noted here counts for ever.
        file.rewind().at("reading", path)?;
        let mut again = Hashing::new(file);
        let images = self.read_archive(&mut again);
        if again.finish().at("reading", path)? != digest {
            return Err(Error::failed("it changed while it was read").hint("build again"));
        }
        let images = images?;
        let file = self.temporary_file()?;
        let bytes =
            serde_json::to_vec(&images).map_err(|error| Error::failed(format!("writing what is there: {error}")))?;
        std::fs::write(file.path(), bytes).at("writing", file.path())?;
        self.put_derived(ARCHIVE_KIND, &digest, file)?;
        Ok(images)
    }

    /// Copies what a descriptor of a layout leads to. Of an index, images that are not there are passed over: a layout
    /// may have some platforms only. `copied` has the documents that are done.
    fn copy_layout(
        &self,
        layout: &Path,
        descriptor: &Descriptor,
        depth: usize,
        copied: &mut HashSet<(Digest, bool)>,
    ) -> Result<()> {
        if depth > INDEX_DEPTH {
            return Err(Error::refused(format!("indexes within indexes, more than {INDEX_DEPTH} deep")));
        }
        // What failed as an attestation, whose errors do not count, fails again where it is an image.
        if !copied.insert((descriptor.digest, is_attestation(descriptor))) {
            return Ok(());
        }
        self.copy_blob(layout, descriptor, true)?;
        let described = self.describe(&descriptor.digest)?;
        if !media_type::is_index(&described.media_type) {
            let manifest: Manifest = self.read_json(&descriptor.digest)?;
            self.copy_blob(layout, &manifest.config, true)?;
            return manifest.layers.iter().try_for_each(|layer| self.copy_blob(layout, layer, false));
        }
        let index: Index = self.read_json(&descriptor.digest)?;
        let there = |child: &&Descriptor| self.has_blob(child) || blob(layout, &child.digest).is_file();
        let known =
            |child: &&Descriptor| media_type::is_index(&child.media_type) || media_type::is_manifest(&child.media_type);
        index.manifests.iter().filter(there).filter(known).try_for_each(|child| {
            // An attestation may be of a kind that is no image; it is not needed.
            match self.copy_layout(layout, child, depth + 1, copied) {
                Err(_) if is_attestation(child) => Ok(()),
                result => result,
            }
        })
    }

    fn copy_blob(&self, layout: &Path, descriptor: &Descriptor, document: bool) -> Result<()> {
        if self.has_blob(descriptor) {
            return Ok(());
        }
        let path = blob(layout, &descriptor.digest);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::refused(format!("the layout has no blob {}", descriptor.digest)),
            _ => Error::io("opening", &path, error),
        })?;
        let limit = if document { DOCUMENT_LIMIT } else { descriptor.size };
        let mut writer = self.blob_writer()?;
        io::copy(&mut file.take(limit.saturating_add(1)), &mut writer).at("copying", &path)?;
        if writer.size() > limit {
            return Err(Error::refused(format!("{} has more than {limit} bytes", path.display())));
        }
        writer.commit(Some(&descriptor.digest)).map(drop)
    }
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

fn blob(layout: &Path, digest: &Digest) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

/// `index.json` of a layout in a folder.
fn layout_index(layout: &Path) -> Result<Vec<Found>> {
    let path = layout.join("index.json");
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::refused("it has no index.json, and so is no image layout"),
        _ => Error::io("opening", &path, error),
    })?;
    file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).at("reading", &path)?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Error::refused(format!("index.json has more than {DOCUMENT_LIMIT} bytes")));
    }
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|error| Error::refused(format!("index.json: {error}")))?;
    Ok(index.manifests.into_iter().map(Found::annotated).collect())
}

/// The image that is named or, if none is, the only one.
fn choose(mut found: Vec<Found>, archive: &ArchiveReference, canonical: &Canonical<'_>) -> Result<Found> {
    let path = archive.path.display();
    let names: Vec<String> = found.iter().flat_map(|image| image.names.iter().chain(&image.tag).cloned()).collect();
    let listed = || {
        let shown: Vec<_> = names.iter().take(40).map(|name| name.escape_debug().to_string()).collect();
        if shown.is_empty() { "none of them has a name".to_string() } else { format!("it has {}", shown.join(", ")) }
    };
    if let Some(wanted) = &archive.image {
        let full = canonical(wanted);
        found.retain(|image| {
            let means = |name: &String| name == wanted || full.is_some() && canonical(name) == full;
            image.names.iter().any(means) || image.tag.as_ref() == Some(wanted)
        });
        if found.is_empty() {
            let error = Error::usage(format!("{path} has no image \"{}\"", wanted.escape_debug()));
            return Err(match nearest(wanted, names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint(listed()),
            });
        }
    }
    let Some(first) = found.first().cloned() else {
        return Err(Error::refused(format!("{path} has no image")));
    };
    let count = found.iter().map(|image| image.descriptor.digest).collect::<std::collections::BTreeSet<_>>().len();
    match count {
        1 => Ok(first),
        _ => Err(Error::usage(format!("{path} has {count} images")).hint(format!(
            "say which: {}:{path}:NAME; {}",
            archive.form.name(),
            listed()
        ))),
    }
}

/// A file's name as the last part of a repository's.
fn repository(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let name: String = parts.join("-").chars().take(100).collect();
    let name = name.trim_end_matches('-');
    if name.is_empty() { "image".to_string() } else { name.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, SeekFrom};

    use super::*;

    /// An archive that somebody writes over while it is read.
    struct Changing {
        now: Cursor<Vec<u8>>,
        later: Vec<u8>,
    }

    impl Read for Changing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.now.read(buffer)
        }
    }

    impl Seek for Changing {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.now = Cursor::new(std::mem::take(&mut self.later));
            self.now.seek(to)
        }
    }

    /// A Docker archive with one image of one empty layer.
    fn archive(name: &str) -> Vec<u8> {
        let layer = tar::Builder::new(Vec::new()).into_inner().unwrap();
        let diff_id = Digest::of(&layer);
        let config =
            format!("{{\"architecture\":\"amd64\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{diff_id}\"]}}}}");
        let list = format!("[{{\"Config\":\"c.json\",\"RepoTags\":[\"{name}\"],\"Layers\":[\"l.tar\"]}}]");
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in
            [("l.tar", layer.as_slice()), ("c.json", config.as_bytes()), ("manifest.json", list.as_bytes())]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_that_changes_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (old, new) = (archive("old:1"), archive("new:1"));
        let read = |now: &[u8], later: &[u8]| {
            store.images_in(Changing { now: Cursor::new(now.to_vec()), later: later.to_vec() }, Path::new("x.tar"))
        };
        let error = read(&old, &new).unwrap_err();
        assert!(error.message().contains("changed while it was read"), "{error}");
        assert_eq!(read(&old, &old).unwrap()[0].names, ["old:1"]);
        // Known now, and so not read a second time.
        assert_eq!(read(&old, b"").unwrap()[0].names, ["old:1"]);
    }
}
