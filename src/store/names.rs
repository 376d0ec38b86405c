//! Names of images: `index.json` of the layout.

use std::fs::{self, File};

use super::manifest::{REF_NAME, media_type};
use super::{Descriptor, Index, Store};
use crate::error::{Error, IoContext, Result};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The annotation of names that came with an image from a registry; its value is "true".
pub(super) const PULLED: &str = "org.mobyproject.pulled";

impl Descriptor {
    /// Whether this is a name's descriptor, and the name came with an image from a registry. What was built or imported
    /// here has it not.
    pub fn is_pulled(&self) -> bool {
        self.annotations.contains_key(PULLED)
    }
}

impl Store {
    pub(super) fn write_layout_file(&self) -> Result<()> {
        let path = self.root.join("oci-layout");
        if path.exists() { Ok(()) } else { self.write_whole("oci-layout", LAYOUT.as_bytes()) }
    }

    /// The descriptor that a name stands for.
    pub fn named(&self, name: &str) -> Result<Option<Descriptor>> {
        Ok(self.read_index()?.manifests.into_iter().find(|d| d.annotations.get(REF_NAME).is_some_and(|n| n == name)))
    }

    /// All names with what they stand for, sorted.
    pub fn names(&self) -> Result<Vec<(String, Descriptor)>> {
        let named = |d: Descriptor| d.annotations.get(REF_NAME).cloned().map(|name| (name, d));
        let mut names: Vec<_> = self.read_index()?.manifests.into_iter().filter_map(named).collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// Gives a descriptor a name; what had the name before loses it.
    pub fn set_name(&self, name: &str, mut descriptor: Descriptor) -> Result<()> {
        descriptor.annotations.remove(PULLED);
        self.put_name(name, descriptor)
    }

    /// The same for an image that a registry has under this name. It is never taken for something that was built here.
    pub(super) fn set_pulled_name(&self, name: &str, mut descriptor: Descriptor) -> Result<()> {
        descriptor.annotations.insert(PULLED.to_string(), "true".to_string());
        self.put_name(name, descriptor)
    }

    fn put_name(&self, name: &str, mut descriptor: Descriptor) -> Result<()> {
        descriptor.annotations.insert(REF_NAME.to_string(), name.to_string());
        self.update_index(|index| {
            index.manifests.retain(|d| d.annotations.get(REF_NAME).is_none_or(|n| n != name));
            index.manifests.push(descriptor);
            index.manifests.sort_by(|a, b| a.annotations.get(REF_NAME).cmp(&b.annotations.get(REF_NAME)));
        })
    }

    /// Takes a name away. Returns whether it was there.
    pub fn remove_name(&self, name: &str) -> Result<bool> {
        let mut found = false;
        self.update_index(|index| {
            let before = index.manifests.len();
            index.manifests.retain(|d| d.annotations.get(REF_NAME).is_none_or(|n| n != name));
            found = index.manifests.len() != before;
        })?;
        Ok(found)
    }

    pub(super) fn read_index(&self) -> Result<Index> {
        let path = self.root.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Error::failed(format!("{} is damaged: {error}", path.display()))
                    .hint("delete it; names come back as images are pulled or built again, blobs are kept")
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(Error::io("reading", &path, error)),
        }
    }

    pub(super) fn update_index(&self, change: impl FnOnce(&mut Index)) -> Result<()> {
        let path = self.root.join("lock");
        let lock = File::create(&path).at("opening the lock", &path)?;
        lock.lock().at("taking the lock", &path)?;
        let mut index = self.read_index()?;
        index.schema_version = 2;
        index.media_type = media_type::INDEX.to_string();
        change(&mut index);
        let bytes =
            serde_json::to_vec(&index).map_err(|error| Error::failed(format!("writing index.json: {error}")))?;
        self.write_whole("index.json", &bytes)
    }

    fn write_whole(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        let file = self.temporary_file()?;
        fs::write(file.path(), bytes).at("writing", &path)?;
        file.as_file().sync_all().at("writing", &path)?;
        file.persist(&path).map(drop).map_err(|error| Error::io("writing", &path, error.error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Digest;
    use super::*;

    #[test]
    fn what_was_pulled_is_told_from_what_was_built() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let descriptor = Descriptor::new(media_type::MANIFEST, Digest::of(b"x"), 1);
        store.set_pulled_name("app:1-amd64", descriptor).unwrap();
        let pulled = store.named("app:1-amd64").unwrap().unwrap();
        assert!(pulled.is_pulled());
        // Building or importing it makes it one's own, even from the pulled name's descriptor.
        store.set_name("app:1-amd64", pulled).unwrap();
        assert!(!store.named("app:1-amd64").unwrap().unwrap().is_pulled());
        assert_eq!(store.names().unwrap().len(), 1);
    }

    #[test]
    fn concurrent_names_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = store.clone();
                scope.spawn(move || {
                    for n in 0..10 {
                        let name = format!("example/{thread}:{n}");
                        store
                            .set_name(&name, Descriptor::new(media_type::MANIFEST, Digest::of(name.as_bytes()), 1))
                            .unwrap();
                    }
                });
            }
        });
        let names = store.names().unwrap();
        assert_eq!(names.len(), 40);
        assert_eq!(store.named("example/3:9").unwrap().unwrap().digest, Digest::of(b"example/3:9"));
        assert!(store.remove_name("example/3:9").unwrap());
        assert!(store.named("example/3:9").unwrap().is_none());
    }
}
