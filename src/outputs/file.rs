//! Output files that appear whole or not at all.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, IoContext, Result};
use crate::formats::source::Source;

/// What unfinished outputs are called, with six characters of chance between: beside their targets, so that a rename
/// puts them in place.
const UNFINISHED: (&str, &str) = (".moby-", ".unfinished");

/// Where an output goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// A folder and base name; each format adds its suffixes.
    Base(PathBuf),
    /// One file of this name, for formats that are one stream.
    File(PathBuf),
    /// Standard output, for formats that are one stream.
    Stdout,
}

impl Target {
    /// One file that somebody named. Where that is a symbolic link, it goes on to be one, and what it leads to is written:
    /// so other programs do it with a name that they are given.
    pub fn file(path: &Path) -> Result<Target> {
        // As many as Linux follows.
        const LINKS: usize = 40;
        let mut found = path.to_path_buf();
        for _ in 0..LINKS {
            // The links of /proc lead to what has no name.
            if std::fs::metadata(&found).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
                return Err(no_regular_file(path));
            }
            match std::fs::read_link(&found) {
                Ok(target) => found = found.parent().map(|folder| folder.join(&target)).unwrap_or(target),
                Err(_) => return Ok(Target::File(found)),
            }
        }
        Err(Error::usage(format!("{} is a symbolic link that leads to no end", path.display()))
            .hint("choose another name"))
    }
}

/// An output would take the place of something that is no file.
fn no_regular_file(path: &Path) -> Error {
    Error::usage(format!("{} is no regular file", path.display()))
        .hint("-o - writes to standard output; onto a disk goes a finished image, with dd")
}

/// A file being written beside its target. Dropped without [`OutputFile::commit`], it leaves nothing.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    /// `None` stands for standard output.
    file: Option<tempfile::NamedTempFile>,
    /// Bytes that were written since the last sync was started, and that sync.
    unsynced: u64,
    sync: Option<JoinHandle<io::Result<()>>>,
    /// The first of them that failed. The kernel says it once only (fsync(2)).
    failed: Option<io::Error>,
}

/// So much is written before it is synced in the background. A sync at the end alone would let the disk wait for the
/// build and then the build for the disk.
const SYNC_STEP: u64 = 32 << 20;

impl OutputFile {
    /// A file that will be `path`. Missing folders are made.
    pub fn create(path: &Path) -> Result<OutputFile> {
        let folder = folder_of(path);
        make_folder(folder)?;
        if path.is_dir() {
            return Err(Error::usage(format!("{} is a folder, not a file to write", path.display()))
                .hint("choose another name (--name, -o), or remove the folder"));
        }
        // A link that lies where an output goes is replaced; a device would be too, by its name.
        if path.symlink_metadata().is_ok_and(|found| !found.is_file() && !found.is_symlink()) {
            return Err(no_regular_file(path));
        }
        remove_unfinished(folder);
        let file = loop {
            let file = tempfile::Builder::new()
                .prefix(UNFINISHED.0)
                .suffix(UNFINISHED.1)
                // Images hold no secrets of their own; what the umask would take from a shared build folder is not
                // ours to decide, and equal modes are part of equal outputs.
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(folder)
                .map_err(|error| Error::io("writing", path, error))?;
            // Some network file systems have no locks; there nobody can take the file for one that was left.
            // Between its making and its locking another build may have taken it for one, and removed it.
            if file.as_file().lock().is_err() || file.path().exists() {
                break file;
            }
        };
        rustix::fs::fchmod(file.as_file(), rustix::fs::Mode::from_raw_mode(0o644))
            .map_err(|error| Error::io("setting the mode of", path, error.into()))?;
        Ok(OutputFile { path: path.to_path_buf(), file: Some(file), unsynced: 0, sync: None, failed: None })
    }

    /// A file that will be `path`, with what a source has.
    pub fn holding(path: &Path, source: &dyn Source) -> Result<OutputFile> {
        let mut out = OutputFile::create(path)?;
        source.write_to(&mut out)?;
        Ok(out)
    }

    /// The single stream of a target, or the one file that `suffix` makes of its base name.
    pub fn stream(target: &Target, suffix: &str) -> Result<OutputFile> {
        match target {
            Target::Base(base) => OutputFile::create(&super::with_suffix(base, suffix)),
            Target::File(path) => OutputFile::create(path),
            Target::Stdout => Ok(OutputFile {
                path: PathBuf::from("standard output"),
                file: None,
                unsynced: 0,
                sync: None,
                failed: None,
            }),
        }
    }

    /// The file's final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it is written; `None` for standard output.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref().map(tempfile::NamedTempFile::as_file)
    }

    /// Copies a part of a file to the end, by the kernel's own copying where it can.
    pub fn append_file(&mut self, mut from: &File, name: &Path) -> Result<u64> {
        let copied = match &mut self.file {
            Some(file) => io::copy(&mut from, file.as_file_mut()),
            None => io::copy(&mut from, &mut io::stdout().lock()),
        };
        let copied = copied.map_err(|error| Error::io(&format!("copying {} to", name.display()), &self.path, error))?;
        self.wrote(copied);
        Ok(copied)
    }

    /// Writes bytes at an offset.
    pub fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.file().ok_or_else(|| io::Error::other("standard output has no offsets"))?;
        let written = std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
        written.map_err(|error| io::Error::other(Error::io("writing", &self.path, error)))?;
        self.wrote(bytes.len() as u64);
        Ok(())
    }

    /// Takes back all that was written.
    pub fn empty(&mut self) -> Result<()> {
        self.file().map_or(Ok(()), |file| file.set_len(0)).at("writing", &self.path)
    }

    /// Counts what was written and starts a sync now and then.
    fn wrote(&mut self, count: u64) {
        self.unsynced += count;
        if self.unsynced >= SYNC_STEP
            && self.sync.as_ref().is_none_or(JoinHandle::is_finished)
            && let Some(Ok(file)) = self.file().map(File::try_clone)
        {
            self.unsynced = 0;
            self.end_sync();
            self.sync = Some(std::thread::spawn(move || file.sync_data()));
        }
    }

    fn end_sync(&mut self) {
        let ended =
            self.sync.take().map(|sync| sync.join().unwrap_or_else(|_| Err(io::Error::other("the sync panicked"))));
        self.failed = self.failed.take().or(ended.and_then(Result::err));
    }

    /// Waits until everything is on the disk.
    fn finish_sync(&mut self) -> Result<()> {
        self.end_sync();
        let last = self.file().map_or(Ok(()), File::sync_data);
        self.failed.take().map_or(last, Err).at("writing", &self.path)
    }

    /// Syncs the file and gives it its name. Returns the name.
    pub fn commit(mut self) -> Result<PathBuf> {
        self.finish_sync()?;
        let folders = Folders::of(std::slice::from_ref(&self));
        let path = self.name()?;
        folders.sync()?;
        Ok(path)
    }

    /// Commits several files. All are synced before the first appears; two builds that do so in one folder do it one
    /// after the other, so that what lies there belongs together. Only a crash between two names may part them.
    pub fn commit_all(mut files: Vec<OutputFile>) -> Result<Vec<PathBuf>> {
        files.iter_mut().try_for_each(OutputFile::finish_sync)?;
        let folders = Folders::of(&files);
        folders.lock();
        let paths = files.into_iter().map(OutputFile::name).collect::<Result<_>>()?;
        folders.sync()?;
        Ok(paths)
    }

    fn name(self) -> Result<PathBuf> {
        match self.file {
            Some(file) => {
                file.persist(&self.path).map_err(|error| Error::io("writing", &self.path, error.error))?;
            }
            None => io::stdout().flush().at("writing", &self.path)?,
        }
        Ok(self.path)
    }
}

/// The folders of some outputs.
struct Folders(Vec<(PathBuf, File)>);

impl Folders {
    /// Waits no longer than this for another build's names: they take milliseconds, and a lock that is held for longer is
    /// somebody else's, such as that of `flock FOLDER moby build`, which would wait for ever.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// A folder that may not be read is left out: neither lock nor sync are there for it.
    fn of(files: &[OutputFile]) -> Folders {
        let named = files.iter().filter(|out| out.file.is_some());
        let paths: BTreeSet<&Path> = named.map(|out| folder_of(&out.path)).collect();
        let opened = paths.into_iter().filter_map(|path| Some((path.to_owned(), File::open(path).ok()?)));
        Folders(opened.collect())
    }

    /// Locks them until they are dropped. In sorted order, so that two builds do not wait for each other.
    fn lock(&self) {
        let start = Instant::now();
        for (_, folder) in &self.0 {
            // Where a file system has no locks, it goes without.
            while matches!(folder.try_lock(), Err(TryLockError::WouldBlock)) && start.elapsed() < Folders::PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Names last through a loss of power only when their folder is on the disk.
    fn sync(&self) -> Result<()> {
        self.0.iter().try_for_each(|(path, folder)| match folder.sync_all() {
            // Some file systems have no such thing (fsync(2), EINVAL).
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result.at("writing", path),
        })
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether `path` is a file with exactly the bytes of the parts, one after another. Then it need not be written again.
/// Whatever cannot be read is not the same.
pub fn holds<'p>(path: &Path, parts: impl Iterator<Item = Result<Box<dyn Read + Send + 'p>>>) -> bool {
    const MODE: u32 = 0o100_644;
    let compare = || -> io::Result<bool> {
        let meta = path.symlink_metadata()?;
        if std::os::unix::fs::MetadataExt::mode(&meta) != MODE {
            return Ok(false);
        }
        let mut there = File::open(path)?;
        let (mut wanted, mut found) = (vec![0; 256 << 10], vec![0; 256 << 10]);
        for part in parts {
            let mut part = part.map_err(io::Error::other)?;
            loop {
                let count = match part.read(&mut wanted) {
                    Ok(0) => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    count => count?,
                };
                there.read_exact(&mut found[..count])?;
                if wanted[..count] != found[..count] {
                    return Ok(false);
                }
            }
        }
        if there.read(&mut found)? != 0 {
            return Ok(false);
        }
        // For make and the like it is as new as if it had been written.
        let _ = there.set_modified(std::time::SystemTime::now());
        Ok(true)
    };
    compare().unwrap_or(false)
}

/// Makes a folder for outputs and those that it is in. Exit status 2 if there is a file in the way.
fn make_folder(folder: &Path) -> Result<()> {
    let made = std::fs::create_dir_all(folder);
    let in_the_way = || folder.ancestors().find(|path| path.exists()).filter(|path| !path.is_dir());
    match in_the_way().filter(|_| made.is_err()) {
        Some(file) => Err(Error::usage(format!("{} is to be a folder, but it is a file", file.display()))
            .hint("choose another folder (--dir, -o)")),
        None => made.at("making the folder", folder),
    }
}

/// Removes what builds that were killed left in a folder: unfinished outputs that nobody holds a lock on. Failing to
/// is harmless: the next build tries again.
fn remove_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let chance = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED.0)?.strip_suffix(UNFINISHED.1));
        if chance.is_some_and(|chance| chance.len() == 6)
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.file {
            Some(file) => file.as_file_mut().write(bytes),
            None => io::stdout().write(bytes),
        };
        if let Ok(count) = written {
            self.wrote(count as u64);
        }
        // The error must name the file, and only this place knows it.
        written.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(Error::io("writing", &self.path, error)),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.as_file_mut().flush(),
            None => io::stdout().flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, content: u8) -> Vec<OutputFile> {
        let made = ["kernel", "initrd", "cmdline"].map(|name| {
            let mut out = OutputFile::create(&folder.join(name)).unwrap();
            out.write_all(&[content; 1000]).unwrap();
            out
        });
        made.into()
    }

    #[test]
    fn files_that_belong_together_appear_together() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for content in 0..4 {
                let folder = folder.path();
                scope.spawn(move || {
                    for _ in 0..5 {
                        OutputFile::commit_all(files(folder, content)).unwrap();
                        // Whoever looks under the lock sees those of one build.
                        let lock = File::open(folder).unwrap();
                        lock.lock().unwrap();
                        let there =
                            ["kernel", "initrd", "cmdline"].map(|name| std::fs::read(folder.join(name)).unwrap()[0]);
                        assert!(there.iter().all(|byte| *byte == there[0]), "{there:?}");
                    }
                });
            }
        });
    }

    #[test]
    fn names_wait_for_a_lock_but_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let lock = File::open(folder.path()).unwrap();
        lock.lock().unwrap();
        let (path, files) = (folder.path().join("kernel"), files(folder.path(), 1));
        let thread = std::thread::spawn(|| OutputFile::commit_all(files));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!path.exists());
        thread.join().unwrap().unwrap();
        assert!(path.exists());
    }
}
