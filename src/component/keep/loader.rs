//! Finding shared libraries as the dynamic loader of the GNU C library does (ld.so(8)).
//!
//! What decides at run time and is not in the files is left out: `LD_LIBRARY_PATH`, `LD_PRELOAD`, and subfolders for
//! newer processors (`glibc-hwcaps`), beside which Debian always has the library for all of them.

use std::collections::HashSet;
use std::rc::Rc;

use super::elf::Elf;
use crate::Arch;
use crate::rootfs::InodeId;

/// More folders than this in one search path are cut off; it is a mistake or an attack.
const FOLDER_LIMIT: usize = 64;

/// A program or library of one process.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// The path that it was found at, no slash in front.
    pub path: Vec<u8>,
    /// The inode there.
    pub id: InodeId,
    /// What it says.
    pub elf: Rc<Elf>,
    /// Which object needed it first.
    pub parent: Option<usize>,
}

/// The objects of one process, in the order of loading: the program first.
#[derive(Debug)]
pub(super) struct Process {
    pub objects: Vec<Object>,
    /// Names by which an object is loaded already: what it was needed as, and its own name.
    pub names: HashSet<Vec<u8>>,
}

impl Process {
    pub fn new(path: Vec<u8>, id: InodeId, elf: Rc<Elf>) -> Process {
        let mut process = Process { objects: Vec::new(), names: HashSet::new() };
        process.names.extend(elf.soname.clone());
        process.objects.push(Object { path, id, elf, parent: None });
        process
    }

    /// Where a library that the object at `number` needs may be, in order. The first that is for the right machine is
    /// loaded.
    pub fn candidates(&self, number: usize, name: &[u8], arch: Arch) -> Vec<Vec<u8>> {
        let Some(object) = self.objects.get(number) else { return Vec::new() };
        if name.contains(&b'/') {
            return expand(name, object, arch).filter(|path| path.starts_with(b"/")).into_iter().collect();
        }
        self.folders(number, arch).into_iter().map(|folder| [&folder, &b"/"[..], name].concat()).collect()
    }

    /// The folders that are searched for what the object at `number` needs.
    pub fn folders(&self, number: usize, arch: Arch) -> Vec<Vec<u8>> {
        let mut folders = Vec::new();
        let Some(object) = self.objects.get(number) else { return folders };
        if object.elf.runpath.is_none() {
            // Its own DT_RPATH, then those of what loaded it. The program is the last of the chain.
            let mut next = Some(object);
            while let Some(object) = next {
                if object.elf.runpath.is_none() {
                    add(&mut folders, object.elf.rpath.as_deref(), object, arch);
                }
                next = object.parent.and_then(|parent| self.objects.get(parent));
            }
        }
        add(&mut folders, object.elf.runpath.as_deref(), object, arch);
        // What `ld.so --help` says on Debian.
        let triplet = triplet(arch);
        for folder in [format!("/lib/{triplet}"), format!("/usr/lib/{triplet}"), "/lib".into(), "/usr/lib".into()] {
            folders.push(folder.into_bytes());
        }
        let mut seen = HashSet::new();
        folders.retain(|folder| seen.insert(folder.clone()));
        folders
    }
}

fn triplet(arch: Arch) -> String {
    format!("{}-linux-gnu", arch.kernel_name())
}

/// The folders of a search path. Relative ones, which depend on where the program is started, are passed over.
fn add(folders: &mut Vec<Vec<u8>>, list: Option<&[u8]>, object: &Object, arch: Arch) {
    let list = list.unwrap_or_default().split(|byte| *byte == b':');
    for folder in list.filter_map(|folder| expand(folder, object, arch)).filter(|folder| folder.starts_with(b"/")) {
        if folders.len() < FOLDER_LIMIT {
            folders.push(folder);
        }
    }
}

/// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM`, with or without braces. `None` if there is another one, as the loader
/// takes such a folder for none.
fn expand(text: &[u8], object: &Object, arch: Arch) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(rest.get(..at)?);
        let token = rest.get(at + 1..)?;
        let (name, after) = match token.strip_prefix(b"{") {
            Some(braced) => {
                let end = braced.iter().position(|byte| *byte == b'}')?;
                (braced.get(..end)?, braced.get(end + 1..)?)
            }
            None => {
                let end = token.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'));
                token.split_at(end.unwrap_or(token.len()))
            }
        };
        match name {
            b"ORIGIN" => {
                out.push(b'/');
                out.extend_from_slice(super::walk::split(&object.path).0);
            }
            b"LIB" => out.extend_from_slice(format!("lib/{}", triplet(arch)).as_bytes()),
            b"PLATFORM" => out.extend_from_slice(arch.kernel_name().as_bytes()),
            _ => return None,
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Tree;

    fn object(path: &str, rpath: Option<&str>, runpath: Option<&str>, parent: Option<usize>) -> Object {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let elf = Elf { rpath: bytes(rpath), runpath: bytes(runpath), ..Elf::default() };
        Object { path: path.into(), id: Tree::new(0).root(), elf: Rc::new(elf), parent }
    }

    fn folders(objects: Vec<Object>) -> String {
        let process = Process { names: HashSet::new(), objects };
        let folders = process.folders(process.objects.len() - 1, Arch::Arm64);
        let (defaults, own) = (folders.len() - 4, &folders[..folders.len() - 4]);
        assert_eq!(folders[defaults], b"/lib/aarch64-linux-gnu");
        String::from_utf8(own.join(&b' ')).unwrap()
    }

    #[test]
    fn search_paths_are_those_of_the_loader() {
        assert_eq!(folders(vec![object("usr/bin/a", None, None, None)]), "");
        let paths = "$ORIGIN/../x:${LIB}/y:/z/$PLATFORM:$OTHER/q:relative::/${LIB";
        assert_eq!(folders(vec![object("usr/bin/a", Some(paths), None, None)]), "/usr/bin/../x /z/aarch64");
        // A DT_RPATH is nothing beside a DT_RUNPATH.
        assert_eq!(folders(vec![object("a", Some("/r"), Some("/n"), None)]), "/n");
        // DT_RPATH is passed on to what is loaded, DT_RUNPATH is not.
        let chain = |middle_rpath, middle_runpath, last_runpath| {
            folders(vec![
                object("a", Some("/program"), None, None),
                object("m", middle_rpath, middle_runpath, Some(0)),
                object("l", Some("/own"), last_runpath, Some(1)),
            ])
        };
        assert_eq!(chain(Some("/middle"), None, None), "/own /middle /program");
        assert_eq!(chain(Some("/middle"), Some("/no"), None), "/own /program");
        assert_eq!(chain(Some("/middle"), None, Some("/run")), "/run");
    }

    #[test]
    fn names_with_a_slash_are_paths() {
        let objects = vec![object("opt/a/bin/a", None, None, None)];
        let process = Process { names: HashSet::new(), objects };
        assert_eq!(process.candidates(0, b"$ORIGIN/../b.so", Arch::Amd64), [b"/opt/a/bin/../b.so"]);
        assert!(process.candidates(0, b"./b.so", Arch::Amd64).is_empty());
        assert_eq!(process.candidates(0, b"b.so", Arch::Amd64)[3], b"/usr/lib/b.so");
        assert!(process.candidates(7, b"b.so", Arch::Amd64).is_empty());
    }
}
