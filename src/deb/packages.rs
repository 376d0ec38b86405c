//! A suite's list of packages on disk, with an index, so that a stanza is found without reading 46 MiB.
//!
//! `derived/deb-packages-1/DIGEST` is the inflated `Packages` file under its own digest. `derived/deb-index-1/DIGEST` is
//! made from it; all integers little-endian: a magic of 8 bytes, the size of the `Packages` file (u64), records of 24
//! bytes, and the SHA-256 of everything before it. A record is
//!
//! ```text
//! u64  first 8 bytes of the SHA-256 of a name (big-endian, so that they sort alike)
//! u64  first 8 bytes of the SHA-256 of the stanza: checked whenever it is read
//! u32  where the stanza starts
//! u32  its length; the highest bit is set if the stanza provides the name and clear if it has it
//! ```
//!
//! sorted by name hash, then own before provided, then place. Names that hash alike are told apart by the stanza.
//! bookworm's main has 63,000 packages: 2 MiB of records, the only part that is held in memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use super::relation;
use super::release::Listed;
use super::stanza::Stanza;
use crate::arch::Arch;
use crate::error::{Error, IoContext, Result};
use crate::store::{Digest, Hasher, Store, decompress};

const PACKAGES_KIND: &str = "deb-packages-1";
const INDEX_KIND: &str = "deb-index-1";
const MAGIC: &[u8; 8] = b"mobydeb1";
const RECORD: usize = 24;
const PROVIDED: u32 = 1 << 31;

/// The largest `Packages` file that is read; sid's has 60 MiB.
const SIZE_LIMIT: u64 = 1 << 30;

/// The largest stanza. The longest of Debian has 40 KiB.
const STANZA_LIMIT: usize = 1 << 20;

/// One `Packages` file, opened.
#[derive(Debug)]
pub struct PackageList {
    file: File,
    records: Vec<u8>,
    /// For messages.
    digest: Digest,
}

/// One entry of the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    name: u64,
    provided: bool,
    offset: u32,
    length: u32,
    check: u64,
}

impl PackageList {
    /// Opens the list with the digest and size of `plain` if it is in the store, whole, with its index.
    pub fn open(store: &Store, plain: &Listed) -> Option<PackageList> {
        let file = File::open(store.derived(PACKAGES_KIND, &plain.digest)?).ok()?;
        if file.metadata().ok()?.len() != plain.size {
            return None;
        }
        let records = decode(std::fs::read(store.derived(INDEX_KIND, &plain.digest)?).ok()?, plain.size)?;
        store.took(&store.derived_path(PACKAGES_KIND, &plain.digest), &plain.digest);
        Some(PackageList { file, records, digest: plain.digest })
    }

    /// Inflates a list into the store, checks it, and makes its index.
    pub fn build(store: &Store, stream: impl Read + Send, plain: &Listed, what: &str) -> Result<PackageList> {
        let refused = |problem: String| Error::refused(format!("{what} {problem}"));
        if plain.size > SIZE_LIMIT {
            return Err(refused(format!("has {} bytes, more than {SIZE_LIMIT}", plain.size)));
        }
        let file = store.temporary_file()?;
        let stream = decompress(stream).map_err(|error| refused(format!("is not readable: {error}")))?;
        let mut reader = BufReader::with_capacity(128 << 10, stream.take(plain.size + 1));
        let mut writer = BufWriter::with_capacity(256 << 10, file.as_file());
        let mut hasher = Hasher::new();
        let mut records = Vec::new();
        let (mut stanza, mut start, mut position) = (Vec::new(), 0u64, 0u64);
        loop {
            let line = stanza.len();
            let mut limited = (&mut reader).take((STANZA_LIMIT + 1) as u64);
            limited.read_until(b'\n', &mut stanza).map_err(|error| refused(format!("is damaged: {error}")))?;
            let bytes = &stanza[line..];
            let ends = bytes.is_empty() || bytes == b"\n";
            hasher.update(bytes);
            writer.write_all(bytes).at("writing the list of packages in", store.root())?;
            position += bytes.len() as u64;
            let at_end = bytes.is_empty();
            if stanza.len() > STANZA_LIMIT {
                return Err(refused(format!("has an entry of more than {STANZA_LIMIT} bytes")));
            }
            if ends {
                stanza.truncate(line);
                index_stanza(&stanza, start, &mut records).map_err(refused)?;
                stanza.clear();
                start = position;
            }
            if at_end {
                break;
            }
        }
        writer.flush().at("writing the list of packages in", store.root())?;
        drop(writer);
        let found = hasher.finish();
        if position != plain.size || found != plain.digest {
            return Err(refused(format!(
                "is not what the Release file says: it has {position} bytes and the digest {found} when inflated, expected {} and {}",
                plain.size, plain.digest
            )));
        }
        records.sort_unstable();
        let index = encode(&records, plain.size);
        let packages = store.put_derived(PACKAGES_KIND, &plain.digest, file)?;
        let mut index_file = store.temporary_file()?;
        index_file.write_all(&index).at("writing the index of packages in", store.root())?;
        store.put_derived(INDEX_KIND, &plain.digest, index_file)?;
        let records = decode(index, plain.size).unwrap_or_default();
        Ok(PackageList { file: File::open(&packages).at("opening", &packages)?, records, digest: plain.digest })
    }

    /// The stanzas of the packages of this name.
    pub fn named(&self, name: &str) -> Result<Vec<String>> {
        let stanzas = self.find(name, false)?;
        Ok(stanzas.into_iter().filter(|text| Stanza::new(text).field("Package") == Some(name)).collect())
    }

    /// The stanzas of the packages that may provide this name; the reader of the stanza has to look whether they do.
    pub fn providing(&self, name: &str) -> Result<Vec<String>> {
        self.find(name, true)
    }

    /// Every name that is a package's or is provided, read from the whole list: for messages only.
    pub fn names(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for record in (0..self.records.len() / RECORD).map(|at| self.record(at)).filter(|record| !record.provided) {
            let mut start = [0; 300];
            let count = start.len().min(record.length as usize);
            self.file
                .read_exact_at(&mut start[..count], u64::from(record.offset))
                .map_err(|error| self.damaged(&error))?;
            let line = start[..count].split(|b| *b == b'\n').next().unwrap_or(&[]);
            if let Some(name) = line.strip_prefix(b"Package: ") {
                names.insert(String::from_utf8_lossy(name).into_owned());
            }
        }
        Ok(names)
    }

    fn find(&self, name: &str, provided: bool) -> Result<Vec<String>> {
        let hash = short_hash(name.as_bytes());
        let (mut low, mut high) = (0, self.records.len() / RECORD);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = self.record(middle);
            if (record.name, record.provided) < (hash, provided) { low = middle + 1 } else { high = middle }
        }
        let mut found = Vec::new();
        for at in low..self.records.len() / RECORD {
            let record = self.record(at);
            if (record.name, record.provided) != (hash, provided) {
                break;
            }
            found.push(self.stanza(record)?);
        }
        Ok(found)
    }

    fn stanza(&self, record: Record) -> Result<String> {
        let mut bytes = vec![0; record.length as usize];
        self.file.read_exact_at(&mut bytes, u64::from(record.offset)).map_err(|error| self.damaged(&error))?;
        if short_hash(&bytes) != record.check {
            return Err(self.damaged(&"an entry has changed"));
        }
        String::from_utf8(bytes).map_err(|error| self.damaged(&error))
    }

    fn damaged(&self, what: &dyn std::fmt::Display) -> Error {
        Error::failed(format!("the list of Debian packages {} in the store is damaged: {what}", self.digest))
            .hint("do the same again: what is damaged was removed, and is fetched anew")
    }

    fn record(&self, at: usize) -> Record {
        let bytes = self.records.get(at * RECORD..(at + 1) * RECORD).unwrap_or(&[0; RECORD]);
        let u64_at = |at: usize| bytes[at..at + 8].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let u32_at = |at: usize| bytes[at..at + 4].iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let length = u32_at(20);
        Record {
            name: u64_at(0),
            check: u64_at(8),
            offset: u32_at(16),
            length: (length & !PROVIDED).min(STANZA_LIMIT as u32),
            provided: length & PROVIDED != 0,
        }
    }
}

/// Adds the records of one stanza: one for its name, one for every name that it provides.
fn index_stanza(bytes: &[u8], start: u64, records: &mut Vec<Record>) -> Result<(), String> {
    if bytes.iter().all(|b| b.is_ascii_whitespace()) {
        return Ok(());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("has an entry at byte {start} that is no UTF-8: {error}"))?;
    let stanza = Stanza::new(text);
    let name = stanza.field("Package").ok_or_else(|| format!("has an entry at byte {start} without a name"))?;
    let offset = u32::try_from(start).map_err(|error| error.to_string())?;
    let length = bytes.len() as u32;
    let check = short_hash(bytes);
    let mut record = |name: &str, provided| {
        records.push(Record { name: short_hash(name.as_bytes()), provided, offset, length, check });
    };
    record(name, false);
    // Restrictions to architectures do not occur in binary packages: any of the two reads the same names.
    let provides = relation::parse(stanza.field("Provides").unwrap_or(""), Arch::Amd64);
    let provides = provides.map_err(|what| format!("has an entry of \"{name}\" with a wrong Provides: {what}"))?;
    for name in provides.iter().flatten().map(|relation| &*relation.name).collect::<BTreeSet<_>>() {
        record(name, true);
    }
    Ok(())
}

fn short_hash(bytes: &[u8]) -> u64 {
    Digest::of(bytes).as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn encode(records: &[Record], size: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48 + records.len() * RECORD);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&size.to_le_bytes());
    for record in records {
        bytes.extend_from_slice(&record.name.to_le_bytes());
        bytes.extend_from_slice(&record.check.to_le_bytes());
        bytes.extend_from_slice(&record.offset.to_le_bytes());
        bytes.extend_from_slice(&(record.length | if record.provided { PROVIDED } else { 0 }).to_le_bytes());
    }
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// The records of an index, if it is whole and of a list of this size.
fn decode(mut bytes: Vec<u8>, size: u64) -> Option<Vec<u8>> {
    let content = bytes.len().checked_sub(32)?;
    let head = content.checked_sub(16)?;
    let whole = bytes.starts_with(MAGIC)
        && bytes[8..16] == size.to_le_bytes()
        && head % RECORD == 0
        && Digest::of(&bytes[..content]).as_bytes() == &bytes[content..];
    if !whole {
        return None;
    }
    bytes.truncate(content);
    bytes.drain(..16);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "Package: a\nVersion: 1\nProvides: v (= 2), w\n\nPackage: b\nVersion: 1\n\n\nPackage: a\nVersion: 2\nDescription: x\n  Package: c\n";

    fn list(text: &str) -> (tempfile::TempDir, Store, Result<PackageList>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let plain = Listed { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
        let packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
        let list = PackageList::build(&store, packed.as_slice(), &plain, "it");
        (folder, store, list)
    }

    #[test]
    fn stanzas_are_found_by_name_and_by_what_they_provide() {
        let (_folder, store, built) = list(LIST);
        let plain = Listed { digest: Digest::of(LIST.as_bytes()), size: LIST.len() as u64 };
        for list in [built.unwrap(), PackageList::open(&store, &plain).unwrap()] {
            let named = list.named("a").unwrap();
            assert_eq!(named.len(), 2);
            assert!(named[0].contains("Provides") && named[1].ends_with("Package: c\n"));
            assert_eq!(list.named("b").unwrap(), ["Package: b\nVersion: 1\n"]);
            assert_eq!(list.providing("w").unwrap(), [named[0].clone()]);
            assert!(list.named("v").unwrap().is_empty() && list.providing("a").unwrap().is_empty());
            assert!(list.named("c").unwrap().is_empty());
            assert_eq!(list.names().unwrap().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        }
    }

    #[test]
    fn damage_is_found() {
        let (_folder, store, built) = list(LIST);
        built.unwrap();
        let plain = Listed { digest: Digest::of(LIST.as_bytes()), size: LIST.len() as u64 };
        let path = store.derived_path(PACKAGES_KIND, &plain.digest);
        std::fs::write(&path, LIST.replace("Version: 2", "Version: 3")).unwrap();
        let opened = PackageList::open(&store, &plain).unwrap();
        assert!(opened.named("b").is_ok() && opened.named("a").is_err());
        std::fs::write(&path, "short").unwrap();
        assert!(PackageList::open(&store, &plain).is_none());
        std::fs::write(&path, LIST).unwrap();
        let index = store.derived_path(INDEX_KIND, &plain.digest);
        let mut bytes = std::fs::read(&index).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&index, bytes).unwrap();
        assert!(PackageList::open(&store, &plain).is_none());
    }

    #[test]
    fn other_content_than_the_release_says_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (digest, size) in [(b"x".as_slice(), LIST.len()), (LIST.as_bytes(), 10), (LIST.as_bytes(), LIST.len() + 9)]
        {
            let plain = Listed { digest: Digest::of(digest), size: size as u64 };
            let error = PackageList::build(&store, LIST.as_bytes(), &plain, "it").unwrap_err();
            assert_eq!(error.exit(), crate::error::Exit::Refused, "{error}");
            assert!(PackageList::open(&store, &plain).is_none());
        }
        let (_folder, _store, refused) = list("Version: 1\n");
        assert!(refused.unwrap_err().message().contains("without a name"));
    }
}
