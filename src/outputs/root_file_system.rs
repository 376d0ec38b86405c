//! `squashfs` and `erofs`: the root file system as an image, `NAME.squashfs`, `NAME.erofs`; and as a disk beside a kernel
//! and an initramfs that finds it (`kernel+squashfs`, `kernel+erofs`).

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::initrd::Initrd;
use super::pieces::Stored;
use super::shared_pieces::{Kinds, SharedPieces};
use super::verified_root::DiskRoot;
use super::{Format, Options, OutputFile, System, Target, finder, uki};
use crate::blueprint::{Root, RootCompression, RootType};
use crate::error::{Error, IoContext, Result};
use crate::formats::source::Joined;
use crate::formats::verity::Hashes;
use crate::formats::{erofs, squashfs};
use crate::rootfs::stage1::{Purpose, RootKind, Storage};
use crate::rootfs::{Tree, write_error};

/// Squashfs has no identifier, so the disk goes by the name that the first virtio disk has.
const FIRST_DISK: &str = "/dev/vda";
/// Derived data of these kinds holds compressed pieces of file systems; the numbers go up when their bytes would change.
const SQUASHFS: Kinds = Kinds { pieces: "squashfs-1", packs: "squashfs-pack-1" };
const EROFS: Kinds = Kinds { pieces: "erofs-1", packs: "erofs-pack-1" };
/// This kind tells contents that were checked before by the hashes of their blocks.
const EROFS_SEEN: &str = "erofs-seen-1";
/// The name of an erofs root.
const LABEL: &str = "root";

/// Which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// Squashfs.
    Squashfs,
    /// EROFS.
    Erofs,
}

impl FileSystem {
    /// How its files are stored: as the blueprint says for a root of this type, or as usual.
    pub fn storage(self, root: Option<&Root>) -> Storage {
        let (kind, usual) = match self {
            FileSystem::Squashfs => (RootType::Squashfs, Storage::Zstd),
            FileSystem::Erofs => (RootType::Erofs, Storage::Lz4),
        };
        match root.map_or(RootCompression::Default, |root| root.compression_of(kind)) {
            RootCompression::Default => usual,
            RootCompression::None => Storage::Plain,
            RootCompression::Lz4 => Storage::Lz4,
            RootCompression::Gzip => Storage::Gzip,
            RootCompression::Xz => Storage::Xz,
            RootCompression::Zstd => Storage::Zstd,
        }
    }

    /// What the initramfs must be able to do for it.
    pub fn purpose(self, root: Option<&Root>) -> Purpose {
        let kind = match self {
            FileSystem::Squashfs => RootKind::Squashfs,
            FileSystem::Erofs => RootKind::Erofs,
        };
        let verity = root.is_some_and(Root::verity);
        Purpose { root: kind, storage: self.storage(root), verity, container: None }
    }
}

/// Writes the image of the whole root, `boot/` included as in `tar`.
pub fn write(file_system: FileSystem, system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let (name, suffix) = match file_system {
        FileSystem::Squashfs => ("squashfs", ".squashfs"),
        FileSystem::Erofs => ("erofs", ".erofs"),
    };
    if matches!(target, Target::Stdout) {
        return Err(Error::usage(format!("{name} cannot go to standard output")).hint("use -o with a file's name"));
    }
    let out = OutputFile::stream(target, suffix)?;
    image(file_system, system.root.as_ref(), &system.tree, &out, options)?;
    Ok(vec![out.commit()?])
}

/// Writes kernel, initramfs, command line and the root without `boot/`.
pub fn write_with_kernel(
    file_system: FileSystem,
    format: Format,
    system: &System,
    target: &Target,
    options: &Options<'_>,
) -> Result<Vec<PathBuf>> {
    let Target::Base(base) = target else {
        return Err(
            Error::usage(format!("{} makes several files", format.description().name)).hint("use --dir and --name")
        );
    };
    let kernel = uki::kernel(system)?;
    let [kernel_name, initrd_name, cmdline_name, root_name] =
        format.files(base).try_into().map_err(|_| Error::failed("a format with a kernel and a root has four files"))?;
    if let Some(root) = &system.root {
        let names = [&kernel_name, &initrd_name, &cmdline_name, &root_name];
        return write_with_hash_tree(file_system, root, names, system, options);
    }
    let initramfs = System { tree: finder::initramfs(system, &file_system.purpose(None), options)?, ..system.clone() };

    let mut tree = system.tree.clone();
    tree.remove(b"boot");
    let root_file = OutputFile::create(&root_name)?;
    let uuid = image(file_system, None, &tree, &root_file, options)?;
    let place = uuid.map_or_else(|| FIRST_DISK.to_owned(), |uuid| format!("UUID={uuid}"));
    let cmdline = cmdline(&kernel.cmdline, &place);

    let mut initrd_file = OutputFile::create(&initrd_name)?;
    Initrd::make(&initramfs, options)?.write(&mut initrd_file)?;
    OutputFile::commit_all(vec![
        OutputFile::holding(&kernel_name, &kernel.image)?,
        initrd_file,
        OutputFile::holding(&cmdline_name, &cmdline.into_bytes())?,
        root_file,
    ])
}

/// The same as the blueprint's `root:` says: with the hash tree behind the root in the same file.
fn write_with_hash_tree(
    file_system: FileSystem,
    root: &Root,
    [kernel_name, initrd_name, cmdline_name, root_name]: [&PathBuf; 4],
    system: &System,
    options: &Options<'_>,
) -> Result<Vec<PathBuf>> {
    let made = DiskRoot::make_as(file_system, root, system, options)?;
    let place = made.uuid.map_or_else(|| FIRST_DISK.to_owned(), |uuid| format!("UUID={}", uuid_text(uuid)));
    let mut places = vec![format!("root={place}")];
    places.extend(made.tree.iter().map(|_| format!("moby.root.hash.offset={}", made.image.size())));
    let starter = made.starter(system, &places)?;
    let kernel = uki::kernel(&starter)?;
    let parts = std::iter::once(made.image).chain(made.tree.map(|tree| tree.content)).collect();
    let mut initrd_file = OutputFile::create(initrd_name)?;
    Initrd::make(&starter, options)?.write(&mut initrd_file)?;
    OutputFile::commit_all(vec![
        OutputFile::holding(kernel_name, &kernel.image)?,
        initrd_file,
        OutputFile::holding(cmdline_name, &kernel.cmdline.clone().into_bytes())?,
        OutputFile::holding(root_name, &Joined(parts))?,
    ])
}

/// The blueprint's words, and where the root is unless they say so.
pub fn cmdline(words: &str, place: &str) -> String {
    if words.split_ascii_whitespace().any(|word| word.trim_start_matches('"').starts_with("root=")) {
        words.to_owned()
    } else {
        format!("{words} root={place}").trim_start().to_owned()
    }
}

/// Writes the file system. Returns its identifier, if it has one.
fn image(
    file_system: FileSystem,
    root: Option<&Root>,
    tree: &Tree,
    out: &OutputFile,
    options: &Options<'_>,
) -> Result<Option<String>> {
    let file = out.file().ok_or_else(|| Error::failed("a file system cannot go to standard output"))?;
    let file = Named { file: file.try_clone().at("writing", out.path())?, path: out.path() };
    let mut writer = BufWriter::with_capacity(256 << 10, file);
    let storage = file_system.storage(root);
    Ok(write_image(file_system, storage, tree, &mut writer, None, options)?.1.map(uuid_text))
}

/// A file whose errors have its final name, which writers of file systems do not know.
struct Named<'p> {
    file: File,
    path: &'p Path,
}

impl Named<'_> {
    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(Error::io("writing", self.path, error)),
        })
    }
}

impl Write for Named<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.named(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.named(flushed)
    }
}

impl Seek for Named<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let sought = self.file.seek(to);
        self.named(sought)
    }
}

/// Writes the file system, and takes the hashes of its blocks; squashfs cannot give them. Returns its size in bytes, a
/// multiple of 4096, and its identifier, if it has one.
pub fn write_image(
    file_system: FileSystem,
    storage: Storage,
    tree: &Tree,
    writer: &mut (impl Write + Seek),
    hashes: Option<&mut Hashes>,
    options: &Options<'_>,
) -> Result<(u64, Option<[u8; 16]>)> {
    let task = options.ui.task("write", "root file system", None);
    let compressed = storage != Storage::Plain;
    let (size, uuid) = match file_system {
        FileSystem::Squashfs if hashes.is_some() => {
            return Err(Error::failed("squashfs is hashed when it is written"));
        }
        FileSystem::Squashfs => {
            let compression = match storage {
                Storage::Plain => squashfs::Compression::None,
                Storage::Gzip => squashfs::Compression::GZIP,
                Storage::Xz => squashfs::Compression::Xz,
                Storage::Zstd => squashfs::Compression::default(),
                Storage::Lz4 => return Err(Error::failed("no squashfs is written with LZ4")),
            };
            let made = squashfs::Options { compression, time: options.time, ..squashfs::Options::default() };
            let how = format!("{} {}", compression, made.block_size);
            let pieces = compressed.then(|| SharedPieces::new(SQUASHFS, &how, tree, options)).transpose()?;
            let kept = pieces.as_ref().map(|pieces| pieces as _);
            let summary = squashfs::write_with_pieces(tree, writer, &made, kept)?;
            pieces.map_or(Ok(()), |pieces| pieces.finish())?;
            for (path, name) in &summary.lost_xattrs {
                options.ui.warn(format!(
                    "/{} loses its extended attribute {}: squashfs has no place for it",
                    path.escape_ascii(),
                    name.escape_ascii()
                ));
            }
            (summary.size, None)
        }
        FileSystem::Erofs => {
            let compression = match storage {
                Storage::Plain => erofs::Compression::None,
                _ => erofs::Compression::Lz4,
            };
            let made = erofs::Options { compression, uuid: None, label: LABEL, time: options.time };
            let pieces = compressed.then(|| SharedPieces::new(EROFS, "lz4", tree, options)).transpose()?;
            let kept = pieces.as_ref().map(|pieces| pieces as _);
            let seen = Stored { store: options.store, kind: EROFS_SEEN };
            let beside = erofs::Beside { pieces: kept, hashes, seen: Some(&seen) };
            let summary = erofs::write_with_pieces(tree, writer, &made, beside)?;
            pieces.map_or(Ok(()), |pieces| pieces.finish())?;
            (summary.size, Some(summary.uuid))
        }
    };
    writer.flush().map_err(write_error)?;
    task.advance(size);
    Ok((size, uuid))
}

/// As blkid and stage1 write it.
fn uuid_text(uuid: [u8; 16]) -> String {
    crate::formats::gpt::Guid(uuid).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_named_unless_the_blueprint_does() {
        assert_eq!(cmdline("console=ttyS0 quiet", "/dev/vda"), "console=ttyS0 quiet root=/dev/vda");
        assert_eq!(cmdline("", "UUID=1"), "root=UUID=1");
        assert_eq!(cmdline("root=LABEL=x a", "UUID=1"), "root=LABEL=x a");
        assert_eq!(cmdline("\"root=LABEL=a b\"", "UUID=1"), "\"root=LABEL=a b\"");
    }
}
