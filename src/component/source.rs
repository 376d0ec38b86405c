//! The files that a component or a guest program is made from.
//!
//! That is everything in its folder but `target/` and `.git`. A program's files are copied into the store before they
//! are compiled: so what is compiled is what was hashed, what lies around the folder (workspaces, `.cargo/config.toml`,
//! `rust-toolchain.toml`) cannot change the result, and cargo writes nothing into a checkout. A path dependency outside
//! of the folder is therefore not found; cargo says so.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, IoContext, Result};
use crate::store::{Digest, Hasher};

/// A program's sources are small; more than this is a folder that was named by mistake.
const FILE_LIMIT: usize = 20_000;
const SIZE_LIMIT: u64 = 256 << 20;
const DEPTH_LIMIT: usize = 64;

/// The files of a package, sorted by path.
#[derive(Debug)]
pub(super) struct Sources {
    files: Vec<Source>,
}

#[derive(Debug, PartialEq, Eq)]
struct Source {
    /// Relative to the package's folder.
    path: Vec<u8>,
    executable: bool,
    /// Where it points, if it is a symbolic link.
    link: Option<Vec<u8>>,
}

impl Sources {
    /// Lists the files of a folder. Symbolic links are kept as they are if they lead to a place inside.
    pub fn list(folder: &Path) -> Result<Sources> {
        let mut sources = Sources { files: Vec::new() };
        let mut total = 0;
        sources.add(folder, Vec::new(), 0, &mut total)?;
        sources.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(sources)
    }

    /// Lists the files of a Cargo package.
    pub fn of_program(folder: &Path) -> Result<Sources> {
        let sources = Sources::list(folder)?;
        for needed in ["Cargo.toml", "Cargo.lock"] {
            if !sources.files.iter().any(|file| file.path == needed.as_bytes() && file.link.is_none()) {
                let error =
                    Error::usage(format!("{} has no {needed}, so it is not a program to build", folder.display()));
                return Err(match needed {
                    "Cargo.lock" => error.hint(format!(
                        "make it once, and keep it with the sources: cargo generate-lockfile --manifest-path {}",
                        folder.join("Cargo.toml").display()
                    )),
                    _ => error
                        .hint("the recipe's cargo: names a package whose Cargo.toml lies in the component's folder"),
                });
            }
        }
        Ok(sources)
    }

    fn add(&mut self, folder: &Path, prefix: Vec<u8>, depth: usize, total: &mut u64) -> Result<()> {
        for entry in fs::read_dir(folder).at("reading", folder)? {
            let entry = entry.at("reading", folder)?;
            let (name, at) = (entry.file_name(), entry.path());
            let metadata = entry.metadata().at("reading", &at)?;
            if name == ".git" || (depth == 0 && name == "target" && metadata.is_dir()) {
                continue;
            }
            let mut path = prefix.clone();
            path.extend_from_slice(name.as_bytes());
            let too_much = |what: String| {
                Error::usage(format!("{} is not the folder of a component or program: {what}", folder.display()))
                    .hint("a component's folder holds its recipe and what the recipe names, and nothing else")
            };
            if metadata.is_dir() {
                if depth == DEPTH_LIMIT {
                    return Err(too_much(format!("it is more than {DEPTH_LIMIT} folders deep")));
                }
                path.push(b'/');
                self.add(&at, path, depth + 1, total)?;
                continue;
            }
            let link = if metadata.is_symlink() {
                let target = fs::read_link(&at).at("reading", &at)?.into_os_string().into_vec();
                if !stays_inside(depth, &target) {
                    return Err(Error::usage(format!(
                        "{} points to {}, outside of its own folder",
                        at.display(),
                        String::from_utf8_lossy(&target)
                    ))
                    .hint("put a copy of the file there"));
                }
                Some(target)
            } else if metadata.is_file() {
                *total += metadata.len();
                None
            } else {
                return Err(Error::usage(format!("{} is neither file nor folder nor link", at.display())));
            };
            self.files.push(Source {
                path,
                executable: metadata.permissions().mode() & 0o111 != 0 && link.is_none(),
                link,
            });
            if self.files.len() > FILE_LIMIT || *total > SIZE_LIMIT {
                return Err(too_much(format!("it holds more than {FILE_LIMIT} files or {SIZE_LIMIT} bytes")));
            }
        }
        Ok(())
    }

    /// The digest of all paths, modes and contents.
    pub fn digest(&self, folder: &Path) -> Result<Digest> {
        self.each(folder, |_, _, _| Ok(()))
    }

    /// Makes `to` hold exactly these files, and returns the digest of what it now holds. What is the same already is
    /// not touched, so that cargo does not compile it again.
    pub fn copy(&self, folder: &Path, to: &Path) -> Result<Digest> {
        fs::create_dir_all(to).at("making", to)?;
        self.remove_others(to, &mut Vec::new())?;
        self.each(folder, |source, content, digest| {
            let path = to.join(OsStr::from_bytes(&source.path));
            if let Some(above) = path.parent() {
                fs::create_dir_all(above).at("making", above)?;
            }
            if let Some(target) = &source.link {
                if fs::read_link(&path).is_ok_and(|found| found.as_os_str().as_bytes() == target) {
                    return Ok(());
                }
                remove(&path)?;
                return std::os::unix::fs::symlink(OsStr::from_bytes(target), &path).at("linking", &path);
            }
            let same = path.symlink_metadata().is_ok_and(|m| m.is_file())
                && File::open(&path).is_ok_and(|mut file| {
                    let mut hasher = Hasher::new();
                    io::copy(&mut file, &mut hasher).is_ok() && hasher.finish() == *digest
                });
            if !same {
                remove(&path)?;
                let mut file = File::create(&path).at("writing", &path)?;
                let mut from = File::open(content).at("reading", content)?;
                io::copy(&mut from, &mut file).at("copying to", &path)?;
            }
            let mode = if source.executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at("setting the mode of", &path)
        })?;
        self.digest(to)
    }

    /// Hashes everything and shows each file with its digest to `visit`.
    fn each(&self, folder: &Path, mut visit: impl FnMut(&Source, &Path, &Digest) -> Result<()>) -> Result<Digest> {
        let mut all = Hasher::new();
        for source in &self.files {
            let path = folder.join(OsStr::from_bytes(&source.path));
            let digest = match &source.link {
                Some(target) => Digest::of(target),
                None => {
                    let mut hasher = Hasher::new();
                    let file = File::open(&path).at("reading", &path)?;
                    io::copy(&mut file.take(SIZE_LIMIT), &mut hasher).at("reading", &path)?;
                    hasher.finish()
                }
            };
            all.field(&source.path);
            all.update(&[u8::from(source.executable), u8::from(source.link.is_some())]);
            all.update(digest.as_bytes());
            visit(source, &path, &digest)?;
        }
        Ok(all.finish())
    }

    /// Removes from `folder` what is not one of these files.
    fn remove_others(&self, folder: &Path, prefix: &mut Vec<u8>) -> Result<()> {
        for entry in fs::read_dir(folder).at("reading", folder)? {
            let entry = entry.at("reading", folder)?;
            let path = entry.path();
            let length = prefix.len();
            prefix.extend_from_slice(entry.file_name().as_bytes());
            if entry.file_type().at("reading", &path)?.is_dir() {
                prefix.push(b'/');
                // A folder may stand where a file shall be, and the other way round.
                if self.files.iter().any(|file| file.path.starts_with(prefix)) {
                    self.remove_others(&path, prefix)?;
                } else {
                    fs::remove_dir_all(&path).at("removing", &path)?;
                }
            } else if self.files.binary_search_by(|file| file.path.as_slice().cmp(prefix)).is_err() {
                remove(&path)?;
            }
            prefix.truncate(length);
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path, error)),
        _ => Ok(()),
    }
}

/// Whether a link `depth` folders below the package's own leads to a place inside, whatever other links there are.
fn stays_inside(depth: usize, target: &[u8]) -> bool {
    let mut level = depth;
    let mut named = false;
    !target.starts_with(b"/")
        && target.split(|byte| *byte == b'/').all(|name| match name {
            b"" | b"." => true,
            b".." if named || level == 0 => false,
            b".." => {
                level -= 1;
                true
            }
            _ => {
                named = true;
                true
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn package() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("src/bin")).unwrap();
        fs::create_dir_all(at("target/release")).unwrap();
        fs::create_dir_all(at(".git")).unwrap();
        for name in ["Cargo.toml", "Cargo.lock", "src/main.rs", "src/bin/other.rs", "target/release/x", ".git/HEAD"] {
            fs::write(at(name), name).unwrap();
        }
        symlink("../main.rs", at("src/bin/link.rs")).unwrap();
        folder
    }

    fn digest(folder: &Path) -> Digest {
        Sources::list(folder).unwrap().digest(folder).unwrap()
    }

    #[test]
    fn the_digest_is_of_names_modes_and_contents_only() {
        let (one, two) = (package(), package());
        let same = digest(one.path());
        fs::write(two.path().join("target/release/x"), "other").unwrap();
        fs::set_permissions(two.path().join("Cargo.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(digest(two.path()), same);
        let main = two.path().join("src/main.rs");
        fs::set_permissions(&main, fs::Permissions::from_mode(0o755)).unwrap();
        let mode = digest(two.path());
        fs::write(&main, "changed").unwrap();
        let content = digest(two.path());
        fs::rename(&main, two.path().join("src/main2.rs")).unwrap();
        let name = digest(two.path());
        let all = [same, mode, content, name];
        assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])), "{all:?}");
    }

    #[test]
    fn a_copy_follows_its_source() {
        let (from, to) = (package(), tempfile::tempdir().unwrap());
        let copy = || {
            let sources = Sources::list(from.path()).unwrap();
            assert_eq!(sources.copy(from.path(), to.path()).unwrap(), digest(from.path()));
            assert_eq!(digest(to.path()), digest(from.path()));
        };
        copy();
        assert!(!to.path().join("target").exists() && !to.path().join(".git").exists());
        let made = |name: &str| to.path().join(name).metadata().unwrap().modified().unwrap();
        let before = made("src/main.rs");
        fs::write(from.path().join("src/bin/other.rs"), "x").unwrap();
        fs::remove_file(from.path().join("src/bin/link.rs")).unwrap();
        copy();
        assert_eq!(made("src/main.rs"), before, "what is the same must not be written again");
        // A file becomes a folder and a folder a file.
        fs::remove_dir_all(from.path().join("src/bin")).unwrap();
        fs::write(from.path().join("src/bin"), "file").unwrap();
        fs::remove_file(from.path().join("src/main.rs")).unwrap();
        fs::create_dir(from.path().join("src/main.rs")).unwrap();
        fs::write(from.path().join("src/main.rs/inner"), "file").unwrap();
        copy();
        // A link in the copy is not written through.
        let outside = tempfile::NamedTempFile::new().unwrap();
        remove(&to.path().join("Cargo.toml")).unwrap();
        symlink(outside.path(), to.path().join("Cargo.toml")).unwrap();
        copy();
        assert_eq!(fs::read(outside.path()).unwrap(), b"");
    }

    #[test]
    fn what_is_not_a_program_is_refused() {
        let folder = package();
        symlink("../../x", folder.path().join("src/out")).unwrap();
        assert!(Sources::list(folder.path()).unwrap_err().message().contains("outside"));
        fs::remove_file(folder.path().join("src/out")).unwrap();
        fs::remove_file(folder.path().join("Cargo.lock")).unwrap();
        let error = Sources::of_program(folder.path()).unwrap_err();
        assert!(error.message().contains("no Cargo.lock") && error.hint_text().unwrap().contains("generate-lockfile"));
        assert!(Sources::of_program(&folder.path().join("nowhere")).is_err());
    }
}
