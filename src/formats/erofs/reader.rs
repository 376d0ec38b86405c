//! Reading images: inodes, names, extended attributes and contents, of what [`super::write`] writes and of what
//! mkfs.erofs writes without options that it has not. Nothing is taken on trust: a damaged or hostile image is an
//! error with its place, costs no more memory than a folder's block and a cluster, and no more time than its size
//! explains.
//!
//! Not read: blocks of other sizes than 4096, chunk-based files, large physical clusters, other algorithms than LZ4,
//! several devices.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::format::{
    BLOCK, DIRENT_SIZE, FileType, Inode, Layout, NAME_LIMIT, SLOT, Superblock, XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE,
    incompatible, u16_at, u32_at, u64_at, xattr_size,
};
use super::index::{self, Start};
use super::{lz4, xattrs};
use crate::error::{Error, IoContext, Result};
use crate::rootfs::write_error;
use crate::store::Xattrs;

/// The deepest folder that is walked into. Linux's paths end at 4096 bytes.
const DEPTH_LIMIT: usize = 2048;
/// LZ4 makes at most 255 bytes of one.
const CLUSTER_LIMIT: u64 = BLOCK * 255;

/// An image that is read.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    base: u64,
    size: u64,
    superblock: Superblock,
}

/// An inode and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub nid: u64,
    /// Its type.
    pub kind: FileType,
    /// Its fields.
    pub inode: Inode,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name, `.` and `..` among them.
    pub name: Vec<u8>,
    /// The number of its inode.
    pub nid: u64,
    /// The type that the folder says it has.
    pub kind: u8,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens an image that starts at the present position of `input`.
    pub fn open(mut input: R) -> Result<Reader<R>> {
        let image = Path::new("the erofs image");
        let base = input.stream_position().at("reading", image)?;
        let end = input.seek(SeekFrom::End(0)).at("reading", image)?;
        let mut reader = Reader { input, base, size: end.saturating_sub(base), superblock: Superblock::default() };
        let mut block = [0; BLOCK as usize];
        reader.read_at(0, &mut block)?;
        reader.superblock = Superblock::decode(&block).map_err(Error::refused)?;
        let unknown = reader.superblock.incompatible & !(incompatible::ZERO_PADDING | incompatible::INLINE_TAIL);
        if unknown != 0 {
            return Err(Error::refused(format!(
                "the erofs image has the features {unknown:#x}, which are not read here"
            )));
        }
        let stated = u64::from(reader.superblock.blocks) * BLOCK;
        if stated > reader.size {
            return Err(Error::refused(format!(
                "the erofs image is cut off: it has {} bytes, and its superblock says {stated}",
                reader.size
            )));
        }
        reader.size = stated;
        Ok(reader)
    }

    /// What the superblock says.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.size) {
            let length = out.len();
            return Err(Error::refused(format!(
                "the erofs image refers to {length} bytes at {offset}, and has {} bytes",
                self.size
            )));
        }
        let image = Path::new("the erofs image");
        self.input.seek(SeekFrom::Start(self.base + offset)).at("reading", image)?;
        self.input.read_exact(out).at("reading", image)
    }

    /// Where an inode is. What is too large to be true is refused when it is read.
    fn offset(&self, nid: u64) -> u64 {
        nid.saturating_mul(SLOT).saturating_add(u64::from(self.superblock.metadata) * BLOCK)
    }

    /// The root.
    pub fn root(&mut self) -> Result<Found> {
        let root = self.inode(u64::from(self.superblock.root))?;
        if root.kind != FileType::Folder {
            return Err(wrong(root.nid, "the root is no folder"));
        }
        Ok(root)
    }

    /// The inode with a number.
    pub fn inode(&mut self, nid: u64) -> Result<Found> {
        let offset = self.offset(nid);
        let mut bytes = [0; 64];
        self.read_at(offset, &mut bytes[..32])?;
        if bytes[0] & 1 == 1 {
            self.read_at(offset, &mut bytes)?;
        }
        let inode = Inode::decode(&bytes, self.superblock.time).map_err(|what| wrong(nid, &what))?;
        let kind = FileType::of_mode(inode.mode)
            .ok_or_else(|| wrong(nid, &format!("the mode {:o} names no type", inode.mode)))?;
        Ok(Found { nid, kind, inode })
    }

    /// The extended attributes of an inode, sorted by name.
    pub fn xattrs(&mut self, found: &Found) -> Result<Xattrs> {
        let size = xattr_size(found.inode.xattr_count) as usize;
        let mut bytes = vec![0; size];
        self.read_at(self.offset(found.nid).saturating_add(Inode::length(found.inode.extended) as u64), &mut bytes)?;
        let mut list = Xattrs::new();
        if size == 0 {
            return Ok(list);
        }
        let cut = || wrong(found.nid, "its extended attributes are cut off");
        let shared = usize::from(bytes[4]);
        let words = bytes.get(XATTR_HEADER_SIZE..XATTR_HEADER_SIZE + 4 * shared).ok_or_else(cut)?;
        for word in words.chunks_exact(4) {
            let at = u64::from(self.superblock.xattrs) * BLOCK + u64::from(u32_at(word, 0)) * 4;
            let mut header = [0; XATTR_ENTRY_SIZE];
            self.read_at(at, &mut header)?;
            let mut entry = vec![0; XATTR_ENTRY_SIZE + usize::from(header[0]) + usize::from(u16_at(&header, 2))];
            self.read_at(at, &mut entry)?;
            list.push(xattr(found.nid, &entry)?.0);
        }
        let mut rest = &bytes[XATTR_HEADER_SIZE + 4 * shared..];
        while rest.len() >= XATTR_ENTRY_SIZE {
            let (xattr, length) = xattr(found.nid, rest)?;
            list.push(xattr);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        list.sort_unstable();
        Ok(list)
    }

    /// Bytes of an inode with its extended attributes.
    fn fixed(found: &Found) -> u64 {
        Inode::length(found.inode.extended) as u64 + u64::from(xattr_size(found.inode.xattr_count))
    }

    /// Reads a block of data, or what is left of it, of what is not compressed.
    fn flat_block(&mut self, found: &Found, block: u64) -> Result<Vec<u8>> {
        let left = found.inode.size.saturating_sub(block.saturating_mul(BLOCK));
        let mut bytes = vec![0; left.min(BLOCK) as usize];
        let inline = found.inode.layout == Layout::Inline && left <= BLOCK;
        let offset = if inline {
            self.offset(found.nid).saturating_add(Self::fixed(found))
        } else {
            u64::from(found.inode.place).saturating_add(block).saturating_mul(BLOCK)
        };
        if inline && offset % BLOCK + bytes.len() as u64 > BLOCK {
            return Err(wrong(found.nid, "the end of its data crosses a block"));
        }
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The names in a folder, `.` and `..` among them, in their order, which the kernel relies on. `each` gets one
    /// after the other.
    pub fn names(&mut self, folder: &Found, mut each: impl FnMut(Name) -> Result<()>) -> Result<()> {
        if folder.kind != FileType::Folder || folder.inode.layout == Layout::Compressed {
            return Err(wrong(folder.nid, "it is no folder"));
        }
        let mut last: Vec<u8> = Vec::new();
        for block in 0..folder.inode.size.div_ceil(BLOCK) {
            let bytes = self.flat_block(folder, block)?;
            let bad = |what: &str| wrong(folder.nid, &format!("block {block} of the folder has {what}"));
            let start = |entry: usize| bytes.get(entry * DIRENT_SIZE..(entry + 1) * DIRENT_SIZE);
            let names_at = start(0).map_or(0, |entry| usize::from(u16_at(entry, 8)));
            if names_at == 0 || !names_at.is_multiple_of(DIRENT_SIZE) || names_at > bytes.len() {
                return Err(bad("no entries"));
            }
            let count = names_at / DIRENT_SIZE;
            for number in 0..count {
                let entry = start(number).ok_or_else(|| bad("entries that are cut off"))?;
                let from = usize::from(u16_at(entry, 8));
                let next = (number + 1 < count).then(|| start(number + 1)).flatten();
                let name = bytes.get(from..next.map_or(bytes.len(), |next| usize::from(u16_at(next, 8))));
                let name = name.filter(|_| from >= names_at).ok_or_else(|| bad("a name outside of it"))?;
                // The last name of a block may be followed by zeros.
                let name = if next.is_some() { name } else { name.split(|b| *b == 0).next().unwrap_or_default() };
                if name.is_empty() || name.len() > NAME_LIMIT || name.contains(&b'/') || name.contains(&0) {
                    return Err(bad(&format!("the name \"{}\"", name.escape_ascii())));
                }
                if name <= last.as_slice() {
                    return Err(bad(&format!("the name \"{}\" out of order", name.escape_ascii())));
                }
                last = name.to_vec();
                each(Name { name: last.clone(), nid: u64_at(entry, 0), kind: entry[10] })?;
            }
        }
        Ok(())
    }

    /// Where a symbolic link points.
    pub fn link(&mut self, found: &Found) -> Result<Vec<u8>> {
        if found.kind != FileType::Symlink || found.inode.size >= BLOCK {
            return Err(wrong(found.nid, "it is no symbolic link of less than 4096 bytes"));
        }
        let mut target = Vec::new();
        self.read(found, &mut target)?;
        Ok(target)
    }

    /// Writes the data of a file to `out`.
    pub fn read(&mut self, found: &Found, out: &mut dyn Write) -> Result<()> {
        if found.inode.layout != Layout::Compressed {
            for block in 0..found.inode.size.div_ceil(BLOCK) {
                out.write_all(&self.flat_block(found, block)?).map_err(write_error)?;
            }
            return Ok(());
        }
        let (fixed, size, at) = (Self::fixed(found), found.inode.size, self.offset(found.nid));
        let nid = found.nid;
        let mut header = [0; 8];
        self.read_at(at.saturating_add(index::header_at(fixed)), &mut header)?;
        let tail = index::decode_header(&header).map_err(|what| wrong(nid, &what))?;
        if size == 0 || size > self.size.saturating_mul(CLUSTER_LIMIT) {
            return Err(wrong(nid, &format!("compressed data of {size} bytes")));
        }
        let mut current: Option<Start> = None;
        let this = std::cell::RefCell::new(self);
        let read = |offset: u64, bytes: &mut [u8]| {
            let mut this = this.borrow_mut();
            this.read_at(at.saturating_add(offset), bytes).map_err(Failure)
        };
        let each = |start: Start| {
            let Some(last) = current else {
                current = Some(start);
                let at = start.at;
                return if at == 0 {
                    Ok(())
                } else {
                    Err(Failure(wrong(nid, "its first cluster is not at its start")))
                };
            };
            if last.at == size && start.at == size {
                return Ok(());
            }
            let length = start.at.checked_sub(last.at).filter(|length| *length > 0 && start.at <= size);
            let length = length.filter(|length| *length <= if last.plain { BLOCK } else { CLUSTER_LIMIT });
            let length = length.ok_or_else(|| Failure(wrong(nid, "its clusters are out of order or too long")))?;
            let (offset, stored) = if start.at == size && tail > 0 {
                (at.saturating_add(index::end(fixed, size)), tail as u64)
            } else {
                (u64::from(last.block) * BLOCK, BLOCK)
            };
            current = Some(start);
            let mut bytes = vec![0; stored as usize];
            this.borrow_mut().read_at(offset, &mut bytes).map_err(Failure)?;
            let data = if last.plain {
                bytes.get(..length as usize).map(<[u8]>::to_vec)
            } else {
                let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
                lz4::decompress(&bytes[first..], length as usize).filter(|data| data.len() as u64 == length)
            };
            let data = data.ok_or_else(|| Failure(wrong(nid, &format!("its cluster at {} is damaged", last.at))))?;
            out.write_all(&data).map_err(|error| Failure(write_error(error)))
        };
        index::decode(fixed, size, read, each).map_err(|failure: Failure| failure.0)
    }

    /// Every name with its inode, folders before what is in them, in the order of the image; the root first with an
    /// empty path. A folder with two names, which a walk would not end with, is an error.
    pub fn walk(&mut self, mut each: impl FnMut(&mut Self, &[u8], &Found) -> Result<()>) -> Result<()> {
        let root = self.root()?;
        let mut seen = HashSet::from([root.nid]);
        let mut bytes_left = self.size;
        let mut path = Vec::new();
        each(self, &path, &root)?;
        let mut stack = vec![(0, self.entries(&root, &mut bytes_left)?.into_iter())];
        while let Some((length, names)) = stack.last_mut() {
            path.truncate(*length);
            let Some(name) = names.next() else {
                stack.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name.name);
            let found = self.inode(name.nid)?;
            if name.kind != found.kind as u8 {
                return Err(wrong(name.nid, &format!("/{} has another type in its folder", path.escape_ascii())));
            }
            each(self, &path, &found)?;
            if found.kind == FileType::Folder {
                if !seen.insert(found.nid) || stack.len() >= DEPTH_LIMIT {
                    return Err(wrong(
                        found.nid,
                        &format!("/{} is a folder in itself or too deep", path.escape_ascii()),
                    ));
                }
                stack.push((path.len(), self.entries(&found, &mut bytes_left)?.into_iter()));
            }
        }
        Ok(())
    }

    /// A folder's names without `.` and `..`. Folders do not share blocks, so all together are no larger than the image.
    fn entries(&mut self, folder: &Found, bytes_left: &mut u64) -> Result<Vec<Name>> {
        let left = bytes_left.checked_sub(folder.inode.size);
        *bytes_left = left.ok_or_else(|| wrong(folder.nid, "its folders are larger than the image"))?;
        let mut list = Vec::new();
        self.names(folder, |name| {
            if name.name != b"." && name.name != b".." {
                list.push(name);
            }
            Ok(())
        })?;
        Ok(list)
    }
}

/// An error of this program where a reader of the index expects what a text can become.
struct Failure(Error);

impl From<String> for Failure {
    fn from(what: String) -> Failure {
        Failure(Error::refused(format!("the erofs image has {what}")))
    }
}

fn wrong(nid: u64, what: &str) -> Error {
    Error::refused(format!("inode {nid} of the erofs image: {what}"))
}

/// Name and value.
type Xattr = (Vec<u8>, Vec<u8>);

/// An extended attribute from its entry, and the bytes that it takes.
fn xattr(nid: u64, entry: &[u8]) -> Result<(Xattr, usize)> {
    let name_end = XATTR_ENTRY_SIZE + usize::from(entry[0]);
    let end = name_end + usize::from(u16_at(entry, 2));
    let prefix = xattrs::prefix(entry[1]).ok_or_else(|| wrong(nid, "an extended attribute of an unknown kind"))?;
    match (entry.get(XATTR_ENTRY_SIZE..name_end), entry.get(name_end..end)) {
        (Some(name), Some(value)) => Ok((([prefix, name].concat(), value.to_vec()), end)),
        _ => Err(wrong(nid, "an extended attribute is cut off")),
    }
}
