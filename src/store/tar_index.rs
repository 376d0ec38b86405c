//! Reading a layer's tar stream once: every byte is hashed and kept, every entry is indexed.
//!
//! Read: ustar, old tar, GNU long names and base-256 numbers, PAX (POSIX.1-2001) with `path`, `linkpath`, `size`,
//! `uid`, `gid`, `mtime` and `SCHILY.xattr.*`. Not read: sparse entries of any kind and multi-volume archives; they
//! are refused by name. (The tar crate hands out PAX sparse files as if they were plain ones, and reads extension
//! headers of any size into memory; so its header decoding is used, its iterator is not.)

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::layer_index::{Entry, EntryKind, LayerIndex};
use super::{Digest, Hasher};
use crate::error::{Error, Result};

/// A long name or a PAX header larger than this is no honest layer: Linux's paths end at 4096 bytes, its extended
/// attributes at 64 KiB each. Such a header is in memory whole, one at a time.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// Longest path taken, in bytes. Linux's own limit for one system call is 4096.
const PATH_LIMIT: usize = 4096;
/// Longest target of a symbolic link: Linux's `PATH_MAX` without its zero byte.
const TARGET_LIMIT: usize = 4095;
/// Longest name and value of an extended attribute (Linux's include/uapi/linux/limits.h).
const XATTR_NAME_LIMIT: usize = 255;
const XATTR_VALUE_LIMIT: usize = 64 << 10;
/// What the index of one layer may take in memory, in bytes: entries with their paths, targets and extended attributes.
/// Two million files with names of a hundred bytes; without this, a few megabytes of compressed headers would become
/// any number of gigabytes.
const INDEX_LIMIT: usize = 512 << 20;
const BLOCK: u64 = 512;

/// Reads `stream` to its end, writes every byte to `copy`, and returns the digest of the whole with its index.
pub fn index_tar(stream: impl Read, copy: impl Write) -> Result<(Digest, LayerIndex)> {
    index_within(INDEX_LIMIT, stream, copy)
}

fn index_within(limit: usize, stream: impl Read, copy: impl Write) -> Result<(Digest, LayerIndex)> {
    let mut taken = 0usize;
    let mut tar = Tar { stream, copy, hasher: Hasher::new(), position: 0, buffer: vec![0; 64 << 10] };
    let mut entries = Vec::new();
    let mut extensions = Extensions::default();
    while let Some(header) = tar.header()? {
        let size = header.entry_size().map_err(|error| tar.bad(format!("unreadable size: {error}")))?;
        match header.entry_type() {
            EntryType::GNULongName => extensions.path = Some(trim(tar.extension(size)?)),
            EntryType::GNULongLink => extensions.link = Some(trim(tar.extension(size)?)),
            EntryType::XHeader => {
                extensions.read_pax(&tar.extension(size)?).map_err(|what| tar.bad(what))?;
                // An entry may have any number of such headers.
                if taken.saturating_add(extensions.xattr_bytes) > limit {
                    return Err(tar.too_much(limit));
                }
            }
            // Global headers carry comments (git archive); nothing in them is about a file.
            EntryType::XGlobalHeader => drop(tar.extension(size)?),
            kind => {
                let extensions = std::mem::take(&mut extensions);
                if let Some(entry) = tar.entry(&header, kind, size, extensions)? {
                    taken = taken.saturating_add(entry.memory());
                    if taken > limit {
                        return Err(tar.too_much(limit));
                    }
                    entries.push(entry);
                }
            }
        }
    }
    tar.rest()?;
    Ok((tar.hasher.finish(), LayerIndex { tar_size: tar.position, entries }))
}

struct Tar<R, W> {
    stream: R,
    copy: W,
    hasher: Hasher,
    position: u64,
    buffer: Vec<u8>,
}

impl<R: Read, W: Write> Tar<R, W> {
    fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::refused(format!("the tar is not readable at byte {}: {what}", self.position))
    }

    fn too_much(&self, limit: usize) -> Error {
        self.bad(format!("its names, links and extended attributes take more than {} MiB", limit >> 20))
            .hint("divide the layer into several")
    }

    /// Reads up to `limit` bytes of the stream, keeps and hashes them. 0 at the end.
    fn read_some(&mut self, limit: usize) -> Result<usize> {
        let limit = limit.min(self.buffer.len());
        let count = loop {
            match self.stream.read(&mut self.buffer[..limit]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error(self.position, error)),
                Ok(count) => break count,
            }
        };
        let bytes = &self.buffer[..count];
        self.hasher.update(bytes);
        self.copy
            .write_all(bytes)
            .map_err(|error| Error::io("writing the inflated layer in", "the store".as_ref(), error))?;
        self.position += count as u64;
        Ok(count)
    }

    /// Reads exactly `size` bytes and hands them out in pieces.
    fn read_exact(&mut self, mut size: u64, mut each: impl FnMut(&[u8])) -> Result<()> {
        while size > 0 {
            let count = self.read_some(usize::try_from(size).unwrap_or(usize::MAX))?;
            if count == 0 {
                return Err(self.bad(format!("the stream ends {size} bytes early")));
            }
            each(&self.buffer[..count]);
            size -= count as u64;
        }
        Ok(())
    }

    fn padding(&mut self, size: u64) -> Result<()> {
        self.read_exact(size.next_multiple_of(BLOCK) - size, |_| {})
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let mut filled = 0;
        while filled < header.as_bytes().len() {
            let count = self.read_some(header.as_bytes().len() - filled)?;
            if count == 0 {
                // A tar without its closing zero blocks is met in the wild and harmless; half a header is not.
                return if filled == 0 { Ok(None) } else { Err(self.bad("the stream ends inside a header")) };
            }
            header.as_mut_bytes()[filled..filled + count].copy_from_slice(&self.buffer[..count]);
            filled += count;
        }
        if header.as_bytes().iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum = header.as_bytes().iter().enumerate();
        let sum: u32 = sum.map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
        match header.cksum() {
            Ok(expected) if expected == sum => Ok(Some(header)),
            _ => Err(self.bad("wrong header checksum")),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_LIMIT {
            return Err(self.bad(format!("an extension header of {size} bytes, more than {EXTENSION_LIMIT}")));
        }
        let mut bytes = Vec::new();
        self.read_exact(size, |part| bytes.extend_from_slice(part))?;
        self.padding(size)?;
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, kind: EntryType, size: u64, extensions: Extensions) -> Result<Option<Entry>> {
        let raw_path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let raw_link = extensions.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let path = clean_path(&raw_path).map_err(|what| self.bad(what))?;
        if extensions.sparse || kind == EntryType::GNUSparse {
            return Err(self
                .bad(format!("\"{}\" is a sparse entry", path.escape_ascii()))
                .hint("make the layer without sparse files (tar without --sparse)"));
        }
        let size = extensions.size.unwrap_or(size);
        let number = |value: io::Result<u64>, field: &[u8], given: Option<u64>, what: &str| -> Result<u32> {
            let value = match given {
                Some(value) => value,
                // Writers that have nothing to say leave the field blank.
                None if field.iter().all(|b| matches!(b, 0 | b' ')) => 0,
                None => value.map_err(|error| self.bad(format!("unreadable {what}: {error}")))?,
            };
            u32::try_from(value)
                .map_err(|_| self.bad(format!("{what} {value} of \"{}\" is too large", path.escape_ascii())))
        };
        let fields = header.as_old();
        let uid = number(header.uid(), &fields.uid, extensions.uid, "owner")?;
        let gid = number(header.gid(), &fields.gid, extensions.gid, "group")?;
        let mode = number(header.mode().map(u64::from), &fields.mode, None, "mode")? & 0o7777;
        let mtime = extensions.mtime.unwrap_or_else(|| header.mtime().map_or(0, u64::cast_signed));
        let target = || {
            let link = raw_link.clone().filter(|link| !link.is_empty());
            let link = link.ok_or_else(|| self.bad("a link without a target"))?;
            if link.len() > TARGET_LIMIT || link.contains(&0) {
                return Err(self.bad(format!(
                    "the target of the link \"{}\" has more than {TARGET_LIMIT} bytes, or a zero byte",
                    path.escape_ascii()
                )));
            }
            Ok(link)
        };
        // Old tar marks a folder by a slash at the end of a regular file's name.
        let is_folder = kind == EntryType::Directory || (kind.is_file() && raw_path.ends_with(b"/"));
        let mut carried = size;
        let kind = match kind {
            _ if is_folder => EntryKind::Folder,
            EntryType::Regular | EntryType::Continuous => {
                let offset = self.position;
                let mut hasher = Hasher::new();
                self.read_exact(size, |bytes| hasher.update(bytes))?;
                self.padding(size)?;
                carried = 0;
                EntryKind::File { offset, size, digest: hasher.finish() }
            }
            EntryType::Symlink => EntryKind::Symlink(target()?),
            EntryType::Link => {
                // POSIX lets a hard link carry content; its size then is that of the file, and no data follows in
                // what GNU tar, Go and Python write.
                carried = 0;
                EntryKind::HardLink(clean_path(&target()?).map_err(|what| self.bad(what))?)
            }
            EntryType::Char | EntryType::Block => {
                let (major, minor) = device(header)
                    .map_err(|what| self.bad(format!("the device \"{}\" has {what}", path.escape_ascii())))?;
                match kind {
                    EntryType::Char => EntryKind::CharacterDevice { major, minor },
                    _ => EntryKind::BlockDevice { major, minor },
                }
            }
            EntryType::Fifo => EntryKind::Fifo,
            other => {
                return Err(self.bad(format!(
                    "\"{}\" is of the unknown type {:?}",
                    path.escape_ascii(),
                    char::from(other.as_byte())
                )));
            }
        };
        self.read_exact(carried, |_| {})?;
        self.padding(carried)?;
        let xattrs = extensions.xattrs.into_iter().collect();
        Ok(Some(Entry { path, mode, uid, gid, mtime, xattrs, kind }))
    }

    /// What follows the end mark belongs to the layer's digest too.
    fn rest(&mut self) -> Result<()> {
        while self.read_some(usize::MAX)? > 0 {}
        self.copy.flush().map_err(|error| Error::io("writing the inflated layer in", "the store".as_ref(), error))
    }
}

impl Entry {
    /// Bytes that it takes in memory, what the allocator adds left out.
    fn memory(&self) -> usize {
        let target = match &self.kind {
            EntryKind::Symlink(target) | EntryKind::HardLink(target) => target.len(),
            _ => 0,
        };
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| xattr_memory(name, value)).sum();
        size_of::<Entry>() + self.path.len() + target + xattrs
    }
}

fn xattr_memory(name: &[u8], value: &[u8]) -> usize {
    size_of::<(Vec<u8>, Vec<u8>)>() + name.len() + value.len()
}

/// The numbers of a device. Those that cannot be read are none: 0:0 is what overlayfs takes for a removed file.
fn device(header: &Header) -> Result<(u32, u32), String> {
    let fields = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => Some((&ustar.dev_major, &ustar.dev_minor)),
        (_, Some(gnu)) => Some((&gnu.dev_major, &gnu.dev_minor)),
        // Old tar has no place for them.
        (None, None) => None,
    };
    let (major, minor) = fields.ok_or("no device numbers")?;
    let number = |field: &[u8; 8], value: io::Result<Option<u32>>, what: &str| {
        // Writers that have nothing to say leave the field blank.
        if field.iter().all(|b| matches!(b, 0 | b' ')) {
            return Ok(0);
        }
        match value {
            Ok(Some(value)) => Ok(value),
            _ => Err(format!("the unreadable {what} number \"{}\"", field.escape_ascii())),
        }
    };
    Ok((number(major, header.device_major(), "major")?, number(minor, header.device_minor(), "minor")?))
}

/// An error of the stream that the tar comes from: damaged compression is the content's fault, not the system's.
fn stream_error(position: u64, error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => match (Error::new(inner.exit(), inner.message()), inner.hint_text()) {
            (error, Some(hint)) => error.hint(hint),
            (error, None) => error,
        },
        None => Error::refused(format!("the layer's compressed data is damaged after {position} bytes: {error}")),
    }
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    sparse: bool,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What they take in memory.
    xattr_bytes: usize,
}

impl Extensions {
    /// Reads `LENGTH KEY=VALUE\n` records (POSIX.1-2001 pax, "Extended Header").
    fn read_pax(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ').ok_or("a PAX record without a length")?;
            let length = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse::<usize>().ok());
            let length =
                length.filter(|l| *l > space + 1 && *l <= bytes.len()).ok_or("a PAX record of a wrong length")?;
            let (record, rest) = bytes.split_at(length);
            bytes = rest;
            let record = record[space + 1..].strip_suffix(b"\n").ok_or("a PAX record without a line end")?;
            let equals = record.iter().position(|b| *b == b'=').ok_or("a PAX record without a value")?;
            self.set(&record[..equals], &record[equals + 1..])?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || {
            let text = std::str::from_utf8(value).ok();
            text.and_then(|t| t.parse::<u64>().ok())
                .ok_or_else(|| format!("the PAX record {} is no number", key.escape_ascii()))
        };
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => {
                let text = std::str::from_utf8(value).map_err(|_| "an unreadable mtime")?;
                let (whole, part) = text.split_once('.').unwrap_or((text, ""));
                let seconds: i64 =
                    whole.parse().map_err(|_| format!("the unreadable mtime {}", text.escape_debug()))?;
                // Towards the past, so that -0.5 s is second -1, as the kernel rounds.
                let past = whole.starts_with('-') && part.bytes().any(|b| b != b'0');
                self.mtime = Some(seconds.saturating_sub(i64::from(past)));
            }
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.").filter(|name| !name.is_empty()) {
                    if name.len() > XATTR_NAME_LIMIT || value.len() > XATTR_VALUE_LIMIT {
                        return Err(format!(
                            "an extended attribute with a name of {} and a value of {} bytes, more than Linux's \
                             {XATTR_NAME_LIMIT} and {XATTR_VALUE_LIMIT}",
                            name.len(),
                            value.len()
                        ));
                    }
                    self.xattr_bytes += xattr_memory(name, value);
                    if let Some(known) = self.xattrs.insert(name.to_vec(), value.to_vec()) {
                        self.xattr_bytes -= xattr_memory(name, &known);
                    }
                }
            }
        }
        Ok(())
    }
}

fn trim(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

/// Cleans a path as it stands in an archive: `/a//./b/` becomes `a/b`. `..` is refused, since a layer has no business
/// outside of its root, and so are zero bytes.
fn clean_path(path: &[u8]) -> Result<Vec<u8>, String> {
    if path.len() > PATH_LIMIT {
        return Err(format!("a path of {} bytes, more than {PATH_LIMIT}", path.len()));
    }
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(format!("the path \"{}\" leaves the root", path.escape_ascii())),
            _ if part.contains(&0) => return Err("a path with a zero byte".to_string()),
            _ if part.len() > 255 => {
                return Err(format!("\"{}\" has a name of more than 255 bytes", path.escape_ascii()));
            }
            _ => {}
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: EntryType, data: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o100_644);
        header.set_uid(3_000_000);
        header.set_gid(4);
        header.set_mtime(77);
        builder.append_data(&mut header, path, data).unwrap();
    }

    #[test]
    fn files_are_found_where_they_lie() {
        let long = "d/".repeat(90) + "file";
        let tar = archive(|b| {
            add(b, "a", EntryType::Regular, b"hello");
            add(b, &long, EntryType::Regular, &[7; 1000]);
            b.append_pax_extensions([("SCHILY.xattr.user.x", b"\x00\xff".as_slice()), ("mtime", b"-1.5")]).unwrap();
            add(b, "c/", EntryType::Directory, b"");
        });
        let mut copy = Vec::new();
        let (digest, index) = index_tar(tar.as_slice(), &mut copy).unwrap();
        assert_eq!(copy, tar);
        assert_eq!(digest, Digest::of(&tar));
        assert_eq!(index.tar_size, tar.len() as u64);
        for (path, data) in [("a", b"hello".to_vec()), (long.as_str(), vec![7; 1000])] {
            let entry = index.entries.iter().find(|e| e.path == path.as_bytes()).unwrap();
            let EntryKind::File { offset, size, digest } = entry.kind else { panic!("{entry:?}") };
            assert_eq!(&tar[offset as usize..(offset + size) as usize], data);
            assert_eq!(digest, Digest::of(&data));
            assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime), (0o644, 3_000_000, 4, 77));
        }
        let folder = index.entries.last().unwrap();
        assert_eq!(folder.kind, EntryKind::Folder);
        assert_eq!(folder.xattrs, [(b"user.x".to_vec(), b"\x00\xff".to_vec())]);
        assert_eq!(folder.mtime, -2);
    }

    #[test]
    fn hostile_archives_are_refused() {
        let cases: [(&str, Vec<u8>); 4] = [
            ("leaves the root", {
                let mut tar = archive(|b| add(b, "aa/etc/passwd", EntryType::Regular, b"x"));
                tar[..2].copy_from_slice(b"..");
                let sum: u32 = tar[..512]
                    .iter()
                    .enumerate()
                    .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
                    .sum();
                tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                tar
            }),
            (
                "sparse",
                archive(|b| {
                    b.append_pax_extensions([("GNU.sparse.major", b"1".as_slice())]).unwrap();
                    add(b, "s", EntryType::Regular, b"x");
                }),
            ),
            ("ends", archive(|b| add(b, "a", EntryType::Regular, &[1; 600]))[..700].to_vec()),
            ("checksum", {
                let mut tar = archive(|b| add(b, "a", EntryType::Regular, b""));
                tar[0] = b'b';
                tar
            }),
        ];
        for (expected, tar) in cases {
            let error = index_tar(tar.as_slice(), io::sink()).unwrap_err();
            assert!(error.message().contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn more_than_linux_has_is_refused() {
        let xattr = |name: usize, value: usize| {
            archive(|b| {
                let name = format!("SCHILY.xattr.{}", "n".repeat(name));
                b.append_pax_extensions([(name.as_str(), vec![1; value].as_slice())]).unwrap();
                add(b, "a", EntryType::Regular, b"");
            })
        };
        let link = |length: usize| {
            archive(|b| {
                let mut header = Header::new_gnu();
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                b.append_link(&mut header, "a", "t".repeat(length)).unwrap();
            })
        };
        let device = |major: &[u8; 8]| {
            archive(|b| {
                let mut header = Header::new_gnu();
                header.set_entry_type(EntryType::Char);
                header.set_size(0);
                header.as_gnu_mut().unwrap().dev_major = *major;
                header.set_device_minor(1).unwrap();
                b.append_data(&mut header, "a", io::empty()).unwrap();
            })
        };
        for good in [xattr(255, 64 << 10), link(4095), device(b"0000005\0")] {
            index_tar(good.as_slice(), io::sink()).unwrap();
        }
        for (bad, part) in [
            (xattr(256, 1), "a name of 256"),
            (xattr(1, (64 << 10) + 1), "a value of 65537"),
            (link(4096), "more than 4095"),
            (device(b"9999999\0"), "unreadable major number \"9999999"),
        ] {
            let error = index_tar(bad.as_slice(), io::sink()).unwrap_err();
            assert!(error.message().contains(part), "{part}: {error}");
        }
        let (_, index) = index_tar(device(b"0000005\0").as_slice(), io::sink()).unwrap();
        assert_eq!(index.entries[0].kind, EntryKind::CharacterDevice { major: 5, minor: 1 });
    }

    /// Memory is bounded by what an index takes, wherever it is: names, attributes of many entries or of one.
    #[test]
    fn an_index_has_a_limit() {
        const LIMIT: usize = 1 << 20;
        let pax = |builder: &mut tar::Builder<Vec<u8>>, number: usize| {
            let name = format!("SCHILY.xattr.user.{number}");
            builder.append_pax_extensions([(name.as_str(), [7; 10_000].as_slice())]).unwrap();
        };
        let name = "n".repeat(90);
        let many = |count: usize| {
            archive(|b| (0..count).for_each(|number| add(b, &format!("{number}{name}"), EntryType::Regular, b"")))
        };
        assert_eq!(index_within(LIMIT, many(3000).as_slice(), io::sink()).unwrap().1.entries.len(), 3000);
        for tar in [
            many(6000),
            archive(|b| {
                for number in 0..120 {
                    pax(b, 0);
                    add(b, &number.to_string(), EntryType::Regular, b"");
                }
            }),
            archive(|b| (0..120).for_each(|number| pax(b, number))),
        ] {
            let error = index_within(LIMIT, tar.as_slice(), io::sink()).unwrap_err();
            assert!(error.message().contains("take more than 1 MiB"), "{error}");
        }
        // The same attribute again and again is one.
        let again = archive(|b| {
            (0..120).for_each(|_| pax(b, 0));
            add(b, "a", EntryType::Regular, b"");
        });
        assert_eq!(index_within(LIMIT, again.as_slice(), io::sink()).unwrap().1.entries[0].xattrs.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000), at in 0usize..2048, byte: u8) {
            let _ = index_tar(bytes.as_slice(), io::sink());
            let mut tar = archive(|b| { add(b, "a", EntryType::Regular, b"hello"); add(b, &"l".repeat(200), EntryType::Symlink, b""); });
            let at = at % tar.len();
            tar[at] = byte;
            let _ = index_tar(tar.as_slice(), io::sink());
        }
    }
}
