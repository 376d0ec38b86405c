//! The initrd: a run of cpio archives, each compressed on its own.
//!
//! Linux unpacks such a run in order (init/initramfs.c: when an archive has ended, the next one is recognised by its
//! own magic). So each component's files are archives of their own, kept in the store under the digest of what went
//! in, and a build in which one component changed compresses that one only.
//!
//! The order is: microcode (uncompressed, the kernel looks for it before it can inflate), one archive with every
//! folder, then the components' files in the order of the blueprint. With the folders in front, a component's
//! archive depends on nothing but its own files. A component of more than [`CHUNK`] bytes is cut into several
//! archives, which are compressed in parallel; the cut depends on the content only, never on the number of threads.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::file::holds;
use super::{Options, OutputFile, System, segments};
use crate::error::{Error, IoContext, Result};
use crate::formats::compress::Compressor;
use crate::formats::cpio::{self, FileType, Header};
use crate::formats::source::{Joined, Source};
use crate::rootfs::write_error;
use crate::rootfs::{Content, InodeId, Kind, Tree};
use crate::store::{Checked, Digest, Hasher};
use crate::ui::{Task, Ui};

/// Content of one archive in bytes, more only where a single file is larger. At 8 MiB a component's last, smaller
/// archive costs less than 1 % of size against a single one.
const CHUNK: u64 = 8 << 20;
/// Derived data of this kind holds compressed archives; the number goes up when their bytes would change.
const KIND: &str = "cpio-3";
/// The attribute of file capabilities, which a newc archive cannot hold.
const CAPABILITY: &[u8] = b"security.capability";

/// One name in an archive.
pub(super) struct Name {
    pub(super) path: Vec<u8>,
    pub(super) inode: InodeId,
    pub(super) header: Header,
    /// Of several names of a file, only the last carries the content; of a symbolic link, every one.
    pub(super) with_content: bool,
}

/// Names that are compressed together.
pub(super) type Chunk = Vec<Name>;

/// An initrd whose archives are all in the store.
#[derive(Debug)]
pub struct Initrd<'s> {
    microcode: Option<&'s Content>,
    segments: Vec<Checked>,
}

impl<'s> Initrd<'s> {
    /// Compresses what is neither in the store nor in a cache that is shared with others.
    pub fn make(system: &'s System, options: &Options<'_>) -> Result<Initrd<'s>> {
        let tree = system.initramfs.as_ref().unwrap_or(&system.tree);
        let chunks = chunks(tree, options.ui)?;
        let threads = options.compression.threads(rayon::current_num_threads());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Error::failed(format!("starting {threads} threads: {error}")))?;
        let keys: Vec<Digest> = chunks.iter().map(|chunk| key(tree, chunk, options)).collect();
        let damaged = |path: &Path| options.ui.warn(format!("{} is damaged; it is made again", path.display()));
        let looked = || keys.par_iter().map(|key| options.store.checked(KIND, key, damaged)).collect::<Result<_>>();
        let mut there: Vec<Option<Checked>> = pool.install(looked)?;
        segments::bring(tree, (KIND, &chunks, &keys), options, &mut there)?;
        let lacking = || chunks.iter().zip(&there).filter(|(_, there)| there.is_none()).map(|(chunk, _)| chunk);
        let total: u64 = lacking().map(size).sum();
        let task = lacking().next().map(|_| options.ui.task("compress", "initrd", Some(total)));
        let segments = pool.install(|| {
            let chunks = chunks.par_iter().zip(&keys).zip(there);
            let made = chunks.map(|((chunk, key), there)| {
                let span = options.ui.span("compress", chunk_name(tree, chunk));
                span.advance(size(chunk));
                match there {
                    Some(there) => {
                        span.reused();
                        Ok(there)
                    }
                    None => segment(tree, chunk, key, options, task.as_ref()),
                }
            });
            made.collect::<Result<_>>()
        })?;
        Ok(Initrd { microcode: system.kernel.as_ref().and_then(|kernel| kernel.ucode.as_ref()), segments })
    }

    /// The kernel skips zeros between archives; the one behind the microcode starts at a multiple of four.
    fn padding(&self) -> &'static [u8] {
        let size = self.microcode.map_or(0, |microcode| microcode.size);
        &[0; 4][..(size.next_multiple_of(4) - size) as usize]
    }

    /// Writes it all to `out`.
    pub fn write(&self, out: &mut OutputFile) -> Result<()> {
        if let Some(microcode) = self.microcode {
            microcode.copy_to(out)?;
            out.write_all(self.padding()).map_err(write_error)?;
        }
        for Checked { path, .. } in &self.segments {
            let file = File::open(path).at("opening", path)?;
            out.append_file(&file, path)?;
        }
        Ok(())
    }

    /// Whether a file has all of it already.
    pub fn is_in(&self, path: &Path) -> bool {
        let microcode = self.microcode.into_iter().map(Content::open);
        let padding = std::iter::once_with(|| Ok(Box::new(self.padding()) as Box<dyn Read + Send>));
        let segments = self.segments.iter().map(|Checked { path, .. }| {
            let file = File::open(path).at("opening", path)?;
            Ok(Box::new(file) as Box<dyn Read + Send>)
        });
        holds(path, microcode.chain(padding).chain(segments))
    }

    /// The same bytes as a source: for formats that have the initrd inside, where its size stands in front of it.
    pub fn source(&self) -> Result<Joined> {
        let mut parts: Vec<Arc<dyn Source>> = Vec::new();
        if let Some(microcode) = self.microcode {
            parts.push(Arc::new(microcode.clone()));
            parts.push(Arc::new(self.padding().to_vec()));
        }
        parts.extend(self.segments.iter().map(|segment| {
            let Checked { path, size, digest } = segment;
            Arc::new(Content::part(path.as_path().into(), 0, *size, *digest)) as Arc<dyn Source>
        }));
        Ok(Joined(parts))
    }
}

/// What a name carries.
pub(super) fn content(tree: &Tree, name: &Name) -> Option<Content> {
    match &tree.inode(name.inode).kind {
        Kind::File(content) if name.with_content => Some(content.clone()),
        Kind::Symlink(target) if name.with_content => Some(Content::bytes(target.as_ref())),
        _ => None,
    }
}

/// Bytes of content in a chunk.
pub(super) fn size(chunk: &Chunk) -> u64 {
    chunk.iter().filter(|n| n.with_content).map(|n| u64::from(n.header.size)).sum()
}

/// Compresses a chunk into the store.
fn segment(tree: &Tree, chunk: &Chunk, key: &Digest, options: &Options<'_>, task: Option<&Task>) -> Result<Checked> {
    let file = options.store.temporary_file()?;
    let compressor = Compressor::new(io::BufWriter::with_capacity(128 << 10, file.as_file()), options.compression);
    let mut archive = cpio::Writer::new(compressor.map_err(write_error)?);
    for name in chunk {
        archive.start(&name.path, name.header).map_err(write_error)?;
        if let Some(content) = content(tree, name) {
            content.copy_to(&mut archive)?;
            task.inspect(|task| task.advance(content.size));
        }
        archive.pad().map_err(write_error)?;
    }
    let done = archive.finish().and_then(Compressor::finish).and_then(|mut out| out.flush());
    done.map_err(write_error)?;
    options.store.put_checked(KIND, key, file)
}

/// What people know a chunk by.
pub(super) fn chunk_name(tree: &Tree, chunk: &Chunk) -> String {
    let first = chunk.first().map(|name| tree.inode(name.inode));
    match first {
        Some(inode) if matches!(inode.kind, Kind::Folder(_)) => "folders".to_owned(),
        Some(inode) => tree.origin(inode.origin).source.clone(),
        None => String::new(),
    }
}

/// The digest of everything that a chunk's bytes depend on.
fn key(tree: &Tree, chunk: &Chunk, options: &Options<'_>) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(options.compression.to_string().as_bytes());
    // Another version of a compressor gives other bytes, and the cache may be that of another machine.
    hasher.field(options.compression.version().as_bytes());
    for name in chunk {
        hasher.field(&name.path);
        hasher.update(&name.header.encode());
        if let Some(content) = content(tree, name) {
            hasher.update(content.digest.as_bytes());
        }
    }
    hasher.finish()
}

/// All names of the tree but `boot/`, in archives.
fn chunks(tree: &Tree, ui: &Ui) -> Result<Vec<Chunk>> {
    let mut folders = Chunk::new();
    // By component, in the order in which the components came.
    let mut groups: Vec<(String, Vec<Chunk>, u64)> = Vec::new();
    let mut links: Vec<Vec<Vec<u8>>> = vec![Vec::new(); tree.inode_bound()];
    let mut order = Vec::new();
    tree.walk_all(|path, id| {
        if path == b"boot" || path.starts_with(b"boot/") {
            return Ok(());
        }
        check(tree, path, id, ui)?;
        let names = &mut links[tree.number(id)];
        if names.is_empty() {
            order.push(id);
        }
        names.push(path.to_vec());
        Ok(())
    })?;
    for id in order {
        let inode = tree.inode(id);
        let paths = std::mem::take(&mut links[tree.number(id)]);
        if matches!(inode.kind, Kind::Folder(_)) {
            let number = folders.len() as u32 + 1;
            // The root is "." as `find . | cpio` has it, so that its mode and owner travel too.
            let path = paths.into_iter().next().filter(|path| !path.is_empty()).unwrap_or_else(|| b".".to_vec());
            folders.push(Name { path, inode: id, header: header(tree, id, number, 2, 0), with_content: false });
            continue;
        }
        let origin = tree.origin(inode.origin);
        let component = component(&origin.location);
        let at = groups.iter().rposition(|(known, ..)| known == component).unwrap_or_else(|| {
            groups.push((component.to_string(), vec![Chunk::new()], 0));
            groups.len() - 1
        });
        let (_, chunks, filled) = &mut groups[at];
        let size = match &inode.kind {
            Kind::File(content) => content.size,
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        if *filled > 0 && *filled + size > CHUNK {
            chunks.push(Chunk::new());
            *filled = 0;
        }
        *filled += size;
        let Some(chunk) = chunks.last_mut() else { continue };
        let number = chunk.len() as u32 + 1;
        let count = paths.len();
        for (at, path) in paths.into_iter().enumerate() {
            // Linux makes every name of a symbolic link a link of its own, and none of one without content.
            let with_content = at + 1 == count || matches!(inode.kind, Kind::Symlink(_));
            // Checked above to be below 4 GiB.
            let size = if with_content { size as u32 } else { 0 };
            chunk.push(Name { path, inode: id, header: header(tree, id, number, count as u32, size), with_content });
        }
    }
    let files = groups.into_iter().flat_map(|(_, chunks, _)| chunks);
    Ok(std::iter::once(folders).chain(files).filter(|chunk| !chunk.is_empty()).collect())
}

/// What is compressed together: a component, and all entries of the `files` section.
pub(super) fn component(location: &str) -> &str {
    if location.starts_with("files[") { "files" } else { location }
}

fn header(tree: &Tree, id: InodeId, ino: u32, nlink: u32, size: u32) -> Header {
    let inode = tree.inode(id);
    let (kind, (rdev_major, rdev_minor)) = match &inode.kind {
        Kind::Folder(_) => (FileType::Folder, (0, 0)),
        Kind::File(_) => (FileType::Regular, (0, 0)),
        Kind::Symlink(_) => (FileType::Symlink, (0, 0)),
        Kind::CharacterDevice { major, minor } => (FileType::CharacterDevice, (*major, *minor)),
        Kind::BlockDevice { major, minor } => (FileType::BlockDevice, (*major, *minor)),
        Kind::Fifo => (FileType::Fifo, (0, 0)),
    };
    let mode = if kind == FileType::Symlink { 0o777 } else { inode.meta.mode };
    Header {
        ino,
        mode: kind.bits() | mode,
        uid: inode.meta.uid,
        gid: inode.meta.gid,
        nlink,
        mtime: u32::try_from(inode.meta.mtime.clamp(0, i64::from(u32::MAX))).unwrap_or(0),
        size,
        rdev_major,
        rdev_minor,
        name_size: 0,
    }
}

/// A file that the format cannot hold.
pub fn too_large(tree: &Tree) -> Result<Option<(Vec<u8>, u64)>> {
    let mut found = None;
    tree.walk_all(|path, id| {
        if let Kind::File(content) = &tree.inode(id).kind
            && content.size > cpio::FILE_LIMIT
            && !path.starts_with(b"boot/")
        {
            found.get_or_insert((path.to_vec(), content.size));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Refuses, before any work, what the format cannot hold; warns of what it loses.
fn check(tree: &Tree, path: &[u8], id: InodeId, ui: &Ui) -> Result<()> {
    let inode = tree.inode(id);
    if let Kind::File(content) = &inode.kind
        && content.size > cpio::FILE_LIMIT
    {
        return Err(Error::usage(format!(
            "/{} has {} bytes, and an initrd (newc cpio) holds files of at most {} bytes",
            path.escape_ascii(),
            content.size,
            cpio::FILE_LIMIT
        ))
        .hint("use an output that keeps the root as a file system, or tar"));
    }
    let target = match &inode.kind {
        Kind::Symlink(target) => Some(target.len() as u64),
        _ => None,
    };
    // The root is written as ".".
    let name = if path.is_empty() { b"." } else { path };
    if let Some(why) = cpio::refusal(name, target) {
        return Err(Error::usage(format!("an initrd cannot hold /{}: it {why}", path.escape_ascii()))
            .hint("use an output that keeps the root as a file system, or tar"));
    }
    if inode.meta.xattrs.iter().any(|(name, _)| name == CAPABILITY) {
        ui.warn(format!(
            "/{} loses its file capabilities: an initrd (newc cpio) has no extended attributes",
            path.escape_ascii()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::{Inode, Meta, Origin};
    use crate::ui::Mode;

    fn tree(path: &[u8], kind: Kind) -> Tree {
        let mut tree = Tree::new(0);
        let origin = tree.add_origin(Origin { source: "s".into(), location: "l".into() });
        let inode = Inode { meta: Meta::root(0o644, 0), kind, origin };
        tree.insert(path, inode, &Meta::root(0o755, 0)).unwrap();
        tree.link(b"z/other", path, &Meta::root(0o755, 0), origin).unwrap();
        tree
    }

    /// Linux makes no hard links of symbolic links, and passes over a symbolic link without content.
    #[test]
    fn names_of_a_symbolic_link_all_have_its_target() {
        let names = |kind| {
            let chunks = chunks(&tree(b"a", kind), &Ui::new(Mode::Quiet)).unwrap();
            let names = chunks.into_iter().flatten().filter(|name| !name.path.starts_with(b".") && name.path != b"z");
            names.map(|name| (name.path, name.header.size, name.with_content)).collect::<Vec<_>>()
        };
        let (first, second) = (b"a".to_vec(), b"z/other".to_vec());
        let link = Kind::Symlink(b"target".as_slice().into());
        assert_eq!(names(link), [(first.clone(), 6, true), (second.clone(), 6, true)]);
        let file = Kind::File(Content::bytes(b"target".as_slice()));
        assert_eq!(names(file), [(first, 0, false), (second, 6, true)]);
    }

    #[test]
    fn what_linux_would_not_unpack_is_refused_before_any_work() {
        let file = || Kind::File(Content::bytes(b"x".as_slice()));
        let deep = [[b'd'; 200].as_slice(); 21].join(b"/".as_slice());
        for (path, kind, part) in [
            (b"TRAILER!!!".as_slice(), file(), "ends an archive"),
            (&deep, file(), "a path of 4220 bytes"),
            (b"a", Kind::Symlink(vec![b't'; 4096].into()), "a target of 4096 bytes"),
        ] {
            let error = chunks(&tree(path, kind), &Ui::new(Mode::Quiet)).err().unwrap();
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }
}
