//! Outputs that are there already: a build of nothing new looks at them and writes nothing.
//!
//! When an output is finished, the store notes what it was made from (one digest over tree, kernel, format, options,
//! name and the program itself), which loader components went in, and what the file system says of its files: device,
//! inode, size, mode, time of content and time of change. If the next build has the same digest and the files have the
//! same marks, they are as they were left. Reading them instead, as `cmp` would, takes 0.6 s for 490 MB.
//!
//! Limits: a disk that returns other bytes than were written is not seen. `moby verify` reads.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Format, Options, System, Target};
use crate::Arch;
use crate::blueprint::Blueprint;
use crate::error::{Error, IoContext, Result};
use crate::store::shared::SharedCaches;
use crate::store::{Digest, Hasher};

/// Derived data of this kind holds the notes; the number goes up when their form changes.
const KIND: &str = "output-1";

/// The loader components that outputs took, by name, with the digest of the image: they are inputs too, but which ones
/// is known only when the output was made.
#[derive(Debug, Default)]
pub struct Loaders(Mutex<BTreeMap<String, Digest>>);

impl Loaders {
    pub(super) fn took(&self, name: &str, manifest: Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), manifest);
    }

    fn take(&self) -> BTreeMap<String, Digest> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clone for Loaders {
    fn clone(&self) -> Loaders {
        Loaders(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

/// What is noted of an output.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    loaders: Vec<Loader>,
    files: Vec<Marks>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Loader {
    name: String,
    manifest: Digest,
}

/// What the file system says of a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Marks {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Marks {
    fn of(path: &Path) -> Result<Marks> {
        let meta = path.symlink_metadata().at("reading", path)?;
        Ok(Marks {
            path: path.to_owned(),
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            mode: meta.mode(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// Makes an output with `write`, or finds that its files are there already and returns their names.
pub fn write(
    format: Format,
    system: &System,
    target: &Target,
    options: &Options<'_>,
    write: impl FnOnce() -> Result<Vec<PathBuf>>,
) -> Result<Vec<PathBuf>> {
    let Some(key) = key(format, system, target, options)? else { return write() };
    // A cache that is to be filled wants to know what went in.
    let is_wanted = options.components.shared().is_some_and(SharedCaches::are_written);
    if !is_wanted && let Some((files, loaders)) = unchanged(&key, system.arch, options) {
        // For make and the like they are as new as if they had been written.
        if files.iter().all(|path| touch(path)) {
            note(&key, &files, loaders, options)?;
            options.ui.span("output", format.description().name).reused();
            return Ok(files);
        }
    }
    options.loaders.take();
    let _span = options.ui.span("output", format.description().name);
    let files = write()?;
    let loaders = options.loaders.take().into_iter();
    let loaders = loaders.map(|(name, manifest)| Loader { name, manifest }).collect();
    note(&key, &files, loaders, options)?;
    Ok(files)
}

/// The digest of everything that the output's bytes and names depend on; none if it goes to a stream, the program cannot
/// say which one it is, or signatures come from elsewhere.
fn key(format: Format, system: &System, target: &Target, options: &Options<'_>) -> Result<Option<Digest>> {
    let path = match target {
        Target::Base(path) | Target::File(path) => path,
        Target::Stdout => return Ok(None),
    };
    if options.sign.is_some_and(|signing| !signing.is_repeatable()) {
        return Ok(None);
    }
    let (Ok(path), Some(program)) = (std::path::absolute(path), program()) else { return Ok(None) };
    let mut hasher = Hasher::new();
    hasher.update(program.as_bytes());
    hasher.field(path.as_os_str().as_encoded_bytes());
    hasher.field(format.description().name.as_bytes());
    let System { tree, kernel, arch, root, disk, initramfs } = system;
    for tree in std::iter::once(tree).chain(initramfs) {
        hasher.field(tree.digest()?.as_bytes());
    }
    let layout = Blueprint { root: root.clone(), disk: disk.clone(), ..Blueprint::default() };
    hasher.field(arch.name().as_bytes());
    hasher.field(layout.to_yaml().as_bytes());
    if let Some(kernel) = kernel {
        hasher.field(kernel.cmdline.as_bytes());
        for content in [Some(&kernel.image), kernel.ucode.as_ref(), kernel.config.as_ref()] {
            hasher.field(content.map_or(&[], |content| content.digest.as_bytes()));
        }
    }
    options.add_to(&mut hasher);
    Ok(Some(hasher.finish()))
}

/// Which program this is: another version, or one that was built anew, writes its outputs anew.
fn program() -> Option<Digest> {
    let path = std::env::current_exe().ok()?;
    let marks = serde_json::to_vec(&Marks::of(&path).ok()?).ok()?;
    Some(Digest::of(&marks))
}

fn read(key: &Digest, options: &Options<'_>) -> Option<Note> {
    let path = options.store.derived(KIND, key)?;
    // One that was cut off by a crash is none.
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The output's files and loaders, if they are what the note says.
fn unchanged(key: &Digest, arch: Arch, options: &Options<'_>) -> Option<(Vec<PathBuf>, Vec<Loader>)> {
    let note = read(key, options)?;
    let files_are = note.files.iter().all(|marks| Marks::of(&marks.path).is_ok_and(|now| now == *marks));
    let loaders_are = || {
        let is = |loader: &Loader| options.loader_in_store(&loader.name, arch).ok().flatten() == Some(loader.manifest);
        note.loaders.iter().all(is)
    };
    (files_are && loaders_are()).then(|| (note.files.into_iter().map(|marks| marks.path).collect(), note.loaders))
}

fn touch(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty()).is_ok()
}

/// Notes finished files. Files have the time of the kernel's last tick, up to 10 ms ago: whoever changed one within the
/// tick would not change its marks. So the tick is waited out, 2 ms on average. Where the clock of the files is
/// another one (network file systems), nothing is noted.
fn note(key: &Digest, files: &[PathBuf], loaders: Vec<Loader>, options: &Options<'_>) -> Result<()> {
    let files: Vec<Marks> = files.iter().map(|path| Marks::of(path)).collect::<Result<_>>()?;
    let last = files.iter().map(|marks| marks.changed).max();
    for _ in 0..20 {
        let probe = options.store.temporary_file()?;
        if Some(Marks::of(probe.path())?.changed) > last {
            let bytes = serde_json::to_vec(&Note { loaders, files })
                .map_err(|error| Error::failed(format!("noting the outputs: {error}")))?;
            return options.store.put_note(KIND, key, &bytes);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    options.store.remove_derived(KIND, key)
}
