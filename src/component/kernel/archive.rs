//! `kernel.tar`: a kernel's modules and their tables as one archive, kept in the store under the digest of what went
//! in.

use std::io::{BufWriter, Read, Write};

use rayon::prelude::*;

use super::module;
use super::tables::{self, Module, Modules, Symbols, is_module};
use super::trie;
use crate::Arch;
use crate::error::{Context, Error, IoContext, Result};
use crate::formats::tar::{Member, MemberKind, Writer};
use crate::rootfs::{Content, Inode, InodeId, Kind, Meta, Tree, write_error};
use crate::store::{Digest, Hasher, Store, decompress};
use crate::ui::{Task, Ui};

/// Derived data of this kind holds archives of modules; the number goes up when their bytes would change.
const KIND: &str = "kernel-tar-2";
/// Beside each its digest and size, as text.
const DIGEST_KIND: &str = "kernel-tar-digest-1";

/// The largest module that is read, inflated. The largest of Debian (amdgpu) has 25 MiB.
const MODULE_LIMIT: u64 = 128 << 20;
/// Modules that are read at a time have at most this many bytes together, a larger one is read alone.
const BATCH: u64 = 8 << 20;
/// How much larger a compressed module is taken to be when it is inflated. Debian's are 4 times as large.
const INFLATION: u64 = 5;
/// `modules.order`, `modules.builtin` and the like; the largest of Debian has 300 KiB.
const TABLE_LIMIT: u64 = 32 << 20;

/// The links to where a kernel was compiled, which depmod passes over as well.
const BUILD_LINKS: [&[u8]; 2] = [b"build", b"source"];

/// The device trees that are taken: those of 64-bit Raspberry Pis. Debian's other 570 (20 MB) are for boards whose
/// firmware has its own or that start with UEFI.
const BOARDS: [&[u8]; 3] = [b"bcm2711-rpi-", b"bcm2712-rpi-", b"bcm2837-rpi-"];
/// Where they go.
const DEVICE_TREES: &[u8] = b"boot/dtb/broadcom";

/// The archive of the modules of `version`, from the store or made now.
pub fn kernel_tar(tree: &Tree, version: &[u8], store: &Store, arch: Arch, ui: &Ui, time: i64) -> Result<Content> {
    let modules = modules_folder(tree, version)?;
    let key = key(&modules, arch, time)?;
    if let Some(known) = stored(store, &key) {
        return Ok(known);
    }
    let task = ui.task("index", format!("modules of {}", version.escape_ascii()), Some(size(&modules)?));
    let with_tables = add_tables(modules, version, arch, time, &task)?;
    let file = store.temporary_file()?;
    let (digest, size) = {
        let out = BufWriter::with_capacity(256 << 10, file.as_file());
        let mut out = Counting { out, hasher: Hasher::new(), size: 0 };
        write(&with_tables, &mut out)?;
        out.flush().at("writing", file.path())?;
        (out.hasher.finish(), out.size)
    };
    let record = store.temporary_file()?;
    std::fs::write(record.path(), format!("{digest} {size}\n")).at("writing", record.path())?;
    let path = store.put_derived(KIND, &key, file)?;
    store.put_derived(DIGEST_KIND, &key, record)?;
    Ok(Content::part(path.into(), 0, size, digest))
}

/// An archive that was made before. Its content is checked against the digest when it is copied.
fn stored(store: &Store, key: &Digest) -> Option<Content> {
    let record = std::fs::read_to_string(store.derived(DIGEST_KIND, key)?).ok()?;
    let (digest, size) = record.trim_end().split_once(' ')?;
    let (digest, size): (Digest, u64) = (digest.parse().ok()?, size.parse().ok()?);
    let path = store.derived(KIND, key).filter(|path| path.metadata().is_ok_and(|m| m.len() == size))?;
    Some(Content::part(path.into(), 0, size, digest))
}

/// A tree of nothing but `lib/modules/VERSION`, as the packages have it, and device trees.
fn modules_folder(tree: &Tree, version: &[u8]) -> Result<Tree> {
    let folder = [&b"lib/modules/"[..], b"usr/lib/modules/"].iter().find_map(|above| {
        tree.resolve(&[above, version].concat()).filter(|id| matches!(tree.inode(*id).kind, Kind::Folder(_)))
    });
    let folder = folder.ok_or_else(|| {
        Error::refused(format!(
            "the packages have the kernel {} without its folder of modules, lib/modules/{0} or usr/lib/modules/{0}",
            version.escape_ascii()
        ))
    })?;
    let meta = tree.inode(folder).meta.clone();
    let mut out = Tree::new(meta.mtime);
    let above = Meta::root(0o755, meta.mtime);
    let origin = out.inode(out.root()).origin;
    let base = [b"lib/modules/", version].concat();
    out.insert(&base, Inode { meta, kind: Kind::folder(), origin }, &above)?;
    let mut stack = vec![(folder, base)];
    while let Some((from, path)) = stack.pop() {
        for (name, id) in tree.names(from) {
            let inode = tree.inode(id);
            if from == folder && BUILD_LINKS.contains(&name) && matches!(inode.kind, Kind::Symlink(_)) {
                continue;
            }
            let path = [&path, b"/".as_slice(), name].concat();
            let kind = match &inode.kind {
                Kind::Folder(_) => {
                    stack.push((id, path.clone()));
                    Kind::folder()
                }
                kind @ (Kind::File(_) | Kind::Symlink(_)) => kind.clone(),
                Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => {
                    return Err(Error::refused(format!("/{} is a device among modules", path.escape_ascii())));
                }
            };
            out.insert(&path, Inode { meta: inode.meta.clone(), kind, origin }, &above)?;
        }
    }
    // Debian has them outside of boot/, LinuxKit's kernels below it.
    let device_trees = tree.resolve(&[b"usr/lib/linux-image-", version, b"/broadcom"].concat());
    for (name, id) in device_trees.into_iter().flat_map(|folder| tree.names(folder)) {
        let inode = tree.inode(id);
        let wanted = BOARDS.iter().any(|board| name.starts_with(board)) && name.ends_with(b".dtb");
        if wanted && let kind @ Kind::File(_) = &inode.kind {
            let inode = Inode { meta: inode.meta.clone(), kind: kind.clone(), origin };
            out.insert(&[DEVICE_TREES, b"/", name].concat(), inode, &above)?;
        }
    }
    Ok(out)
}

/// The digest of everything that the archive's bytes depend on.
fn key(modules: &Tree, arch: Arch, time: i64) -> Result<Digest> {
    let mut hasher = Hasher::new();
    hasher.field(arch.name().as_bytes());
    hasher.update(&time.to_le_bytes());
    modules.walk_all(|path, id| {
        let Inode { meta, kind, .. } = modules.inode(id);
        hasher.field(path);
        for number in [meta.mode, meta.uid, meta.gid, meta.xattrs.len() as u32] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&meta.mtime.to_le_bytes());
        for (name, value) in &meta.xattrs {
            hasher.field(name);
            hasher.field(value);
        }
        match kind {
            Kind::File(content) => hasher.field(content.digest.as_bytes()),
            Kind::Symlink(target) => hasher.field(&[b"->", target.as_ref()].concat()),
            _ => hasher.field(b""),
        }
        Ok(())
    })?;
    Ok(hasher.finish())
}

fn size(modules: &Tree) -> Result<u64> {
    let mut total = 0;
    modules.walk_all(|_, id| {
        if let Kind::File(content) = &modules.inode(id).kind {
            total += content.size;
        }
        Ok(())
    })?;
    Ok(total)
}

/// Puts depmod's tables beside the modules.
fn add_tables(mut modules: Tree, version: &[u8], arch: Arch, time: i64, task: &Task) -> Result<Tree> {
    let base = [b"lib/modules/", version, b"/"].concat();
    let mut files = Vec::new();
    modules.walk_all(|path, id| {
        if let (Kind::File(content), Some(path)) = (&modules.inode(id).kind, path.strip_prefix(base.as_slice()))
            && is_module(path)
        {
            files.push((path.to_vec(), content.clone()));
        }
        Ok(())
    })?;
    let mut symbols = Symbols::default();
    let mut read = Vec::with_capacity(files.len());
    for batch in batches(&files) {
        let facts: Vec<Result<module::Facts>> = batch
            .par_iter()
            .map(|(path, content)| {
                task.advance(content.size);
                facts(content, arch).context(path.escape_ascii())
            })
            .collect();
        for ((path, _), facts) in batch.iter().zip(facts) {
            read.push(Module::new(path, facts?, &mut symbols));
        }
    }
    let order = table(&modules, &base, "modules.order")?;
    let built_in = table(&modules, &base, "modules.builtin")?;
    let built_in_info = table(&modules, &base, "modules.builtin.modinfo")?;
    let all = Modules::new(read, symbols, &order)?;
    // One after the other: a trie is larger than what it becomes.
    let encoded = |(text, trie): (Vec<u8>, trie::Trie)| trie.encode().map(|trie| (text, trie));
    let (aliases, alias_trie) = encoded(all.aliases())?;
    let (dependencies, dependency_trie) = encoded(all.dependencies()?)?;
    let (symbols, symbol_trie) = encoded(all.symbols())?;
    let origin = modules.inode(modules.root()).origin;
    for (name, bytes) in [
        ("modules.alias", aliases),
        ("modules.alias.bin", alias_trie),
        ("modules.builtin.alias.bin", tables::built_in_aliases(&built_in_info).encode()?),
        ("modules.builtin.bin", tables::built_in(&built_in).encode()?),
        ("modules.dep", dependencies),
        ("modules.dep.bin", dependency_trie),
        ("modules.devname", all.device_nodes()),
        ("modules.softdep", all.soft_dependencies()),
        ("modules.symbols", symbols),
        ("modules.symbols.bin", symbol_trie),
    ] {
        let kind = Kind::File(Content::bytes(bytes));
        let inode = Inode { meta: Meta::root(0o644, time), kind, origin };
        modules.insert(&[base.as_slice(), name.as_bytes()].concat(), inode, &Meta::root(0o755, time))?;
    }
    Ok(modules)
}

/// A table that the kernel's build made; empty if it is not there.
fn table(modules: &Tree, base: &[u8], name: &str) -> Result<Vec<u8>> {
    let found = modules.lookup(&[base, name.as_bytes()].concat()).map(|id| &modules.inode(id).kind);
    match found {
        Some(Kind::File(content)) => content.read(TABLE_LIMIT).context(name),
        _ => Ok(Vec::new()),
    }
}

/// Runs of modules that are small enough to be in memory together.
fn batches(files: &[(Vec<u8>, Content)]) -> Vec<&[(Vec<u8>, Content)]> {
    let mut batches = Vec::new();
    let (mut start, mut filled) = (0, 0);
    for (at, (path, content)) in files.iter().enumerate() {
        let size = if path.ends_with(b".ko") { content.size } else { content.size.saturating_mul(INFLATION) };
        if at > start && filled + size > BATCH {
            batches.push(&files[start..at]);
            (start, filled) = (at, 0);
        }
        filled += size;
    }
    batches.push(&files[start..]);
    batches
}

/// Reads a module, compressed or not.
fn facts(content: &Content, arch: Arch) -> Result<module::Facts> {
    let shipped = content.read(MODULE_LIMIT)?;
    let unreadable = |error: std::io::Error| Error::refused(format!("cannot be inflated: {error}"));
    let bytes = if shipped.starts_with(b"\x7fELF") {
        shipped
    } else {
        let mut bytes = Vec::new();
        let mut inflated = decompress(shipped.as_slice()).map_err(unreadable)?.take(MODULE_LIMIT + 1);
        inflated.read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MODULE_LIMIT {
            return Err(Error::refused(format!("has more than {MODULE_LIMIT} bytes when it is inflated")));
        }
        bytes
    };
    module::read(&bytes, arch).map_err(Error::refused)
}

/// Writes a tree of folders, files and links as an archive, folders before what is in them, names sorted.
fn write(tree: &Tree, out: &mut impl Write) -> Result<()> {
    let mut tar = Writer::new(out);
    tree.walk_all(|path, id: InodeId| {
        let Inode { meta, kind, .. } = tree.inode(id);
        let kind = match kind {
            _ if path.is_empty() => return Ok(()),
            Kind::Folder(_) => MemberKind::Folder,
            Kind::File(content) => MemberKind::File(content.size),
            Kind::Symlink(target) => MemberKind::Symlink(target),
            _ => return Ok(()),
        };
        let (mode, uid, gid, mtime) = (meta.mode, meta.uid, meta.gid, meta.mtime);
        tar.member(&Member { path, mode, uid, gid, mtime, xattrs: &meta.xattrs, records: &[], kind })
            .map_err(write_error)?;
        match &tree.inode(id).kind {
            Kind::File(content) => content.copy_to(&mut tar),
            _ => Ok(()),
        }
    })?;
    tar.finish().map(drop).map_err(write_error)
}

/// Counts and hashes what goes through.
struct Counting<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
