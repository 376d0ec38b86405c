//! The initramfs of images whose root is a file system on a disk: the component `stage1` and those modules of the
//! kernel that finding a root takes.
//!
//! Only tables in kmod's text form are read and written (`modules.dep`, `modules.alias`, `modules.softdep`,
//! `modules.builtin`); modules are copied byte for byte, because a kernel under Secure Boot checks their signatures.

mod configuration;
mod drivers;
mod selection;
mod tables;

pub use configuration::check_configuration;
pub use selection::Summary;

use crate::error::{Error, Result};
use crate::rootfs::{Content, Inode, InodeId, Kind, Meta, Origin, Tree};
use selection::Selection;
use tables::Tables;

/// The file system that the root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKind {
    /// EROFS.
    Erofs,
    /// Squashfs.
    Squashfs,
    /// ISO 9660 with Rock Ridge.
    Iso9660,
    /// ext4, mounted read-only.
    Ext4,
}

/// How the files of a root are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As they are.
    Plain,
    /// LZ4.
    Lz4,
    /// zlib.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

/// The file system that holds the root as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// ISO 9660.
    Iso9660,
    /// FAT.
    Vfat,
}

/// What the initramfs must be able to do.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// Mount this.
    pub root: RootKind,
    /// Read its files.
    pub storage: Storage,
    /// Verify it with dm-verity.
    pub verity: bool,
    /// Find it as a file in another file system (`moby.root.file=`).
    pub container: Option<Container>,
}

/// The initramfs, and what went in.
#[derive(Debug)]
pub struct Initramfs {
    /// Its files; /init is the program.
    pub tree: Tree,
    /// What was taken of the kernel's modules.
    pub summary: Summary,
}

/// Puts together the initramfs: `stage1` is the component's tree, `kernel` holds the kernel's modules in
/// `lib/modules/RELEASE` or `usr/lib/modules/RELEASE`. A kernel with everything built in may have no such folder.
///
/// # Errors
///
/// A kernel that lacks what `purpose` needs, both as a module and built in, is refused with the name of its option.
pub fn initramfs(stage1: &Tree, kernel: &Tree, purpose: &Purpose, mtime: i64) -> Result<Initramfs> {
    let init = stage1.resolve(b"init").map(|id| &stage1.inode(id).kind);
    if !matches!(init, Some(Kind::File(_))) {
        return Err(Error::refused("the stage1 component has no file /init")
            .hint("it must be made by the recipe of components/stage1, or do the same work under that name"));
    }
    let mut tree = stage1.clone();
    let Some((release, folder)) = modules_folder(kernel)? else {
        return Ok(Initramfs { tree, summary: Summary::without_modules() });
    };
    let tables = Tables::read(kernel, folder)?;
    let selection = Selection::make(&release, &tables, purpose)?;
    let origin = tree.add_origin(Origin { source: format!("modules of {release}"), location: "kernel".to_owned() });
    let missing = Meta::root(0o755, mtime);
    let target = format!("lib/modules/{release}");
    let mut put = |path: &str, content: Content| {
        let inode = Inode { meta: Meta::root(0o644, mtime), kind: Kind::File(content), origin };
        tree.insert(format!("{target}/{path}").as_bytes(), inode, &missing).map(drop)
    };
    let mut bytes = 0;
    for module in &selection.modules {
        let content = module_file(kernel, folder, &module.path)?;
        bytes += content.size;
        put(&module.path, content)?;
    }
    for (name, text) in selection.tables(&tables) {
        put(name, Content::bytes(text.into_bytes()))?;
    }
    Ok(Initramfs { tree, summary: selection.summary(release, bytes) })
}

/// The release of the kernel whose modules a tree has; nothing if it has none.
pub fn release(kernel: &Tree) -> Result<Option<String>> {
    Ok(modules_folder(kernel)?.map(|(release, _)| release))
}

/// The one folder of modules and the kernel release that it is named after.
fn modules_folder(kernel: &Tree) -> Result<Option<(String, InodeId)>> {
    let folders = ["lib/modules", "usr/lib/modules"].into_iter().filter_map(|path| kernel.resolve(path.as_bytes()));
    let mut found: Vec<(String, InodeId)> = Vec::new();
    for folder in folders {
        for (name, id) in kernel.names(folder) {
            // lib may be a link to usr/lib: then both are the same.
            if matches!(kernel.inode(id).kind, Kind::Folder(_)) && !found.iter().any(|(_, known)| *known == id) {
                let name = std::str::from_utf8(name).map_err(|_| {
                    Error::refused(format!("the kernel's release \"{}\" is no UTF-8", name.escape_ascii()))
                })?;
                found.push((name.to_owned(), id));
            }
        }
    }
    if let [(one, _), (other, _), ..] = found.as_slice() {
        return Err(Error::refused(format!("the kernel has modules of more than one release: {one} and {other}"))
            .hint("build the image with one kernel"));
    }
    Ok(found.pop())
}

fn module_file(kernel: &Tree, folder: InodeId, path: &str) -> Result<Content> {
    match below(kernel, folder, path).map(|id| &kernel.inode(id).kind) {
        Some(Kind::File(content)) => Ok(content.clone()),
        _ => Err(Error::refused(format!("modules.dep names {path}, which is no file of the kernel's modules"))
            .hint("the kernel component is damaged: build it again")),
    }
}

/// The inode at a relative path below `folder`, no link followed.
fn below(tree: &Tree, folder: InodeId, path: &str) -> Option<InodeId> {
    path.split('/')
        .try_fold(folder, |at, part| tree.names(at).find_map(|(name, id)| (name == part.as_bytes()).then_some(id)))
}

#[cfg(test)]
mod tests;
