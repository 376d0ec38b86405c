//! Roots on disks: the hash tree, the file system under it, its init.

use std::sync::Arc;

use sha2::Digest as _;

use super::boot::Words;
use super::disk::Disk;
use super::{Finding, Step, Walk, window};
use crate::error::{Error, Result};
use crate::formats::disk::{Cursor, DiskImage, is_zero};
use crate::formats::gpt::Guid;
use crate::formats::verity::{self, Superblock, format as tree};
use crate::formats::{erofs, squashfs};
use crate::inspect::files::Files;
use crate::inspect::{Image, Kind, bytes_text, count, detect};
use crate::store::Digest;

/// Squashfs images are filled up to this.
const SQUASHFS_PADDING: u64 = 4096;
/// Bytes at a program's start that say what it is for.
const PROGRAM_HEAD: usize = 20;

impl Walk<'_> {
    /// The root that a hash names: its partitions, the tree, the file system, its init.
    pub(super) fn verified_root(
        &mut self,
        name: &dyn Fn(&str) -> String,
        hash: Digest,
        words: &Words,
        disk: &Disk,
    ) -> Step {
        let (first, last) = halves(hash);
        if !self.verified.insert(*hash.as_bytes()) {
            return self.link(&name("root"), |_| Ok(((), Finding::Good("that of the root hash above".into()))));
        }
        let (number, data, superblock, mismatch) = self.link(&name("hash tree"), |_| {
            let (number, hashes) = find(disk, words.tree.as_deref(), last, "the root's hash tree")?;
            let (data_number, data) = find(disk, words.root.as_deref(), first, "the root")?;
            let (superblock, mismatch) = check_tree(&data, &hashes, hash, last, words.lenient)?;
            let evidence = format!(
                "partition {number}; superblock as it should be, {} of {}, salt of {}, its {} lead to the root hash",
                count(superblock.data_blocks, "block"),
                tree::BLOCK,
                count(superblock.salt.len() as u64, "byte"),
                count(tree::levels(superblock.data_blocks).len() as u64, "level")
            );
            Ok(((data_number, data, superblock, mismatch), Finding::Good(evidence)))
        })?;
        let kind = self.link(&name("root"), |_| {
            if let Some(wrong) = mismatch {
                return Err(Error::refused(format!("{wrong}")));
            }
            let kind = detect(&data)?;
            let size = match kind {
                Kind::Erofs | Kind::Squashfs => file_system_size(kind, &data)?,
                other => {
                    return Err(Error::refused(format!("it is no file system that is known here: {}", other.name())));
                }
            };
            let covered = superblock.data_blocks * tree::BLOCK;
            if size != covered && !words.lenient {
                return Err(Error::refused(format!(
                    "the {} has {size} bytes and the hash tree covers {covered}",
                    kind.name()
                )));
            }
            let evidence = format!(
                "partition {number}; {}, {}: every block is as the hash tree says",
                kind.name(),
                bytes_text(covered)
            );
            Ok((kind, Finding::Good(evidence)))
        })?;
        self.file_system(&name("file system"), &name("init"), kind, &data, words.init.as_deref())
    }

    /// A root file system by itself, or one that nothing verifies.
    pub(super) fn root(&mut self, kind: Kind, image: &Image) -> Step {
        let end = file_system_size(kind, image)
            .or_else(|error| self.link("file system", |_| Err::<(u64, Finding), _>(error)))?;
        let mut data = Arc::clone(image);
        if end < image.size() && end.is_multiple_of(tree::BLOCK) {
            let behind = self.part(image, end, image.size() - end)?;
            if detect(&behind).is_ok_and(|kind| kind == Kind::Verity) {
                data = self.part(image, 0, end)?;
                self.link("hash tree", |_| own_tree(&data, &behind))?;
            }
        }
        let files = self.link("file system", |_| read(kind, &data))?;
        self.link("init", |_| {
            // A file system that is no root is right too.
            let text = files.init(None).or_else(|_| files.initramfs_init(None));
            Ok(((), Finding::Good(text.unwrap_or_else(|what| format!("{what}: it is no root that boots")))))
        })
    }

    fn part(&mut self, image: &Image, start: u64, size: u64) -> Step<Image> {
        window(image, start, size).or_else(|error| self.link("file system", |_| Err::<(Image, Finding), _>(error)))
    }

    fn file_system(&mut self, name: &str, init_name: &str, kind: Kind, image: &Image, init: Option<&str>) -> Step {
        let files = self.link(name, |_| read(kind, image))?;
        self.link(init_name, |_| match files.init(init) {
            Ok(path) => Ok(((), Finding::Good(path))),
            Err(what) => Err(Error::refused(format!("the root does not boot: {what}"))),
        })
    }
}

/// The GUIDs that a root hash gives its two partitions (UAPI "Discoverable Partitions").
pub(super) fn halves(hash: Digest) -> (Guid, Guid) {
    let half = |at: usize| Guid(std::array::from_fn(|index| hash.as_bytes()[at + index]));
    (half(0), half(16))
}

/// A partition: the one that a word of the command line names, or the one of a GUID.
fn find(disk: &Disk, named: Option<&str>, guid: Guid, what: &str) -> Result<(u32, Image)> {
    let uuid = match named.map(|named| named.strip_prefix("PARTUUID=").ok_or(named)) {
        None => guid.to_string(),
        Some(Ok(text)) => text.to_owned(),
        Some(Err(other)) => {
            return Err(Error::refused(format!(
                "{what} is said to be {}, and only PARTUUID= is looked for here",
                other.escape_debug()
            )));
        }
    };
    disk.partition(&uuid).ok_or_else(|| {
        Error::refused(format!("{what} is not there: no partition has the PARTUUID {}", uuid.escape_debug()))
    })
}

/// A tree behind its data, without a root hash: whether they fit each other, and which hash they have.
fn own_tree(data: &Image, hashes: &Image) -> Result<((), Finding)> {
    let superblock = read_superblock(hashes)?;
    let place = if superblock.data_blocks > 1 { (hashes, tree::BLOCK) } else { (data, 0) };
    let mut top = vec![0; tree::BLOCK as usize];
    if place.0.size() < place.1 + tree::BLOCK {
        return Err(Error::refused("the hash tree is cut off"));
    }
    place.0.read_at(&mut top, place.1)?;
    let hash = sha2::Sha256::new().chain_update(&superblock.salt).chain_update(&top).finalize();
    let hash = Digest::from_bytes(hash.into());
    let (superblock, mismatch) = check_tree(data, hashes, hash, halves(hash).1, false)?;
    if let Some(wrong) = mismatch {
        return Err(Error::refused(wrong.to_string()));
    }
    let evidence = format!(
        "behind the file system; {} of {}, in order for the root hash {}",
        count(superblock.data_blocks, "block"),
        tree::BLOCK,
        hash.hex()
    );
    Ok(((), Finding::Open(evidence, "the root hash stands on a command line that is not here".to_owned())))
}

/// The superblock of a tree that has no root hash, in words.
pub(super) fn superblock(hashes: &Image) -> Result<String> {
    let superblock = read_superblock(hashes)?;
    Ok(format!("{} of {}, UUID {}", count(superblock.data_blocks, "block"), tree::BLOCK, Guid(superblock.uuid)))
}

fn read_superblock(hashes: &Image) -> Result<Superblock> {
    let mut bytes = [0; tree::SUPERBLOCK_SIZE];
    if hashes.size() < tree::BLOCK {
        return Err(Error::refused("the hash tree's superblock is cut off"));
    }
    hashes.read_at(&mut bytes, 0)?;
    Superblock::decode(&bytes).map_err(|what| Error::refused(format!("the hash tree's superblock: {what}")))
}

/// Checks the superblock as stage1 demands it, then the whole tree and every block of data. A wrong block of data is
/// returned, one of the tree is an error.
fn check_tree(
    data: &Image,
    hashes: &Image,
    hash: Digest,
    uuid: Guid,
    lenient: bool,
) -> Result<(Superblock, Option<verity::Mismatch>)> {
    let superblock = read_superblock(hashes)?;
    let refused = |what: String| Error::refused(format!("the hash tree's superblock: {what}"));
    if Guid(superblock.uuid) != uuid && !lenient {
        return Err(refused(format!(
            "its UUID is {}, and the last half of the root hash is {uuid}",
            Guid(superblock.uuid)
        )));
    }
    let mut block = vec![0; tree::BLOCK as usize];
    hashes.read_at(&mut block, 0)?;
    let expected = superblock.encode();
    if !lenient && let Some(at) = (0..block.len()).find(|at| block[*at] != expected.get(*at).copied().unwrap_or(0)) {
        return Err(refused(format!(
            "byte {at} is {:#04x} where moby writes {:#04x}",
            block[at],
            expected.get(at).copied().unwrap_or(0)
        )));
    }
    for (what, size, needed) in [
        ("root", data.size(), superblock.data_blocks.checked_mul(tree::BLOCK)),
        ("hash tree", hashes.size(), Some(tree::size(superblock.data_blocks))),
    ] {
        if needed.is_none_or(|needed| needed > size) {
            return Err(refused(format!(
                "it says {} blocks of data, and the {what}'s partition has only {size} bytes",
                superblock.data_blocks
            )));
        }
    }
    zeros_behind(hashes, tree::size(superblock.data_blocks))?;
    let (mut data, mut tree) = (Cursor::new(Arc::clone(data)), Cursor::new(Arc::clone(hashes)));
    let (superblock, mismatch) = verity::verify(&mut data, &mut tree, *hash.as_bytes())?;
    match mismatch {
        Some(wrong) if wrong.level.is_some() => Err(Error::refused(wrong.to_string())),
        other => Ok((superblock, other)),
    }
}

/// Bytes of a file system with its padding.
fn file_system_size(kind: Kind, image: &Image) -> Result<u64> {
    let input = Cursor::new(Arc::clone(image));
    Ok(match kind {
        Kind::Erofs => u64::from(erofs::Reader::open(input)?.superblock().blocks) * erofs::format::BLOCK,
        _ => squashfs::Reader::open(input)?.superblock().bytes_used.next_multiple_of(SQUASHFS_PADDING),
    })
}

/// Reads every name and all contents of a file system.
fn read(kind: Kind, image: &Image) -> Result<(Files, Finding)> {
    let mut files = Files::default();
    let mut total = 0u64;
    let input = Cursor::new(Arc::clone(image));
    let mut sink = Head::default();
    let end = file_system_size(kind, image)?;
    let detail = if kind == Kind::Erofs {
        let mut reader = erofs::Reader::open(input)?;
        let superblock = reader.superblock().clone();
        reader.walk(|reader, path, found| {
            let mode = u32::from(found.inode.mode);
            let target = (found.kind == erofs::format::FileType::Symlink).then(|| reader.link(found)).transpose()?;
            files.add(path, mode, target.as_deref());
            reader.xattrs(found)?;
            if found.kind == erofs::format::FileType::Regular {
                sink.start();
                reader.read(found, &mut sink)?;
                total += sink.size;
                if mode & 0o111 != 0 {
                    files.note_program(&sink.head);
                }
            }
            Ok(())
        })?;
        format!("erofs, UUID {}, superblock's checksum right", Guid(superblock.uuid))
    } else {
        let mut reader = squashfs::Reader::open(input)?;
        let inodes = reader.superblock().inode_count;
        reader.walk(|reader, path, inode| {
            let (kind, target) = match &inode.kind {
                squashfs::Kind::Folder(_) => (0o040_000, None),
                squashfs::Kind::File(file) => {
                    sink.start();
                    reader.content(file, &mut sink)?;
                    total += sink.size;
                    if inode.mode & 0o111 != 0 {
                        files.note_program(&sink.head);
                    }
                    (0o100_000, None)
                }
                squashfs::Kind::Symlink(target) => (0o120_000, Some(target.clone())),
                _ => (0o010_000, None),
            };
            files.add(path, kind | inode.mode, target.as_deref());
            Ok(())
        })?;
        format!("squashfs, {inodes} inodes")
    };
    zeros_behind(image, end)?;
    let evidence = format!(
        "{detail}; {}, {} of content, all of which can be read",
        count(files.len() as u64, "name"),
        bytes_text(total)
    );
    Ok((files, Finding::Good(evidence)))
}

/// Behind the file system there is nothing.
fn zeros_behind(image: &Image, end: u64) -> Result<()> {
    let mut position = end;
    let mut buffer = vec![0; 64 << 10];
    while let Some(range) = image.next_data(position.min(image.size()))? {
        let length = (range.end - range.start).min(buffer.len() as u64) as usize;
        image.read_at(&mut buffer[..length], range.start)?;
        if !is_zero(&buffer[..length]) {
            return Err(Error::refused(format!("behind its end at byte {end} there is data, at {}", range.start)));
        }
        position = range.start + length as u64;
    }
    Ok(())
}

/// Keeps the first bytes of what is written and counts all.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) head: Vec<u8>,
    pub(super) size: u64,
}

impl Head {
    pub(super) fn start(&mut self) {
        self.head.clear();
        self.size = 0;
    }
}

impl std::io::Write for Head {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = PROGRAM_HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
