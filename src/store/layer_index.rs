//! The table of contents of a layer: header fields, place and digest of every file in an uncompressed tar.
//!
//! On disk (`derived/index-1/DIFF_ID`), all integers little-endian: a magic of 8 bytes, the size of the tar (u64), the
//! number of entries (u64), the entries, and the SHA-256 of everything before it. Byte strings are a u32 length and
//! the bytes. An index that does not check is made anew from the layer, never used.

use super::Digest;

/// Extended attributes, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Changing anything about the encoding needs a new magic and a new kind (see `layer.rs`), or old indexes are misread.
const MAGIC: &[u8; 8] = b"mobyidx1";

/// One entry of a layer, in the layer's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Components joined with `/`: no leading or trailing slash, no `.` or `..`, no empty component. Empty for the root.
    pub path: Vec<u8>,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch. Parts of a second are dropped: no format written here can hold them all.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A regular file: `size` bytes at `offset` of the layer's file.
    File {
        /// Where the content starts.
        offset: u64,
        /// Bytes.
        size: u64,
        /// Digest of the content.
        digest: Digest,
    },
    /// A symbolic link and where it points, as it is.
    Symlink(Vec<u8>),
    /// Another name of the file at this path of the root (cleaned as `Entry::path` is).
    HardLink(Vec<u8>),
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// The table of contents of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerIndex {
    /// The size of the uncompressed tar in bytes.
    pub tar_size: u64,
    /// The entries in the layer's order.
    pub entries: Vec<Entry>,
}

impl LayerIndex {
    /// The index as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder(Vec::with_capacity(64 + self.entries.len() * 96));
        out.0.extend_from_slice(MAGIC);
        out.u64(self.tar_size);
        out.u64(self.entries.len() as u64);
        for entry in &self.entries {
            out.bytes(&entry.path);
            out.u32(entry.mode);
            out.u32(entry.uid);
            out.u32(entry.gid);
            out.u64(entry.mtime.cast_unsigned());
            out.u32(entry.xattrs.len() as u32);
            for (name, value) in &entry.xattrs {
                out.bytes(name);
                out.bytes(value);
            }
            match &entry.kind {
                EntryKind::Folder => out.0.push(0),
                EntryKind::File { offset, size, digest } => {
                    out.0.push(1);
                    out.u64(*offset);
                    out.u64(*size);
                    out.0.extend_from_slice(digest.as_bytes());
                }
                EntryKind::Symlink(target) => {
                    out.0.push(2);
                    out.bytes(target);
                }
                EntryKind::HardLink(target) => {
                    out.0.push(3);
                    out.bytes(target);
                }
                EntryKind::CharacterDevice { major, minor } => {
                    out.0.push(4);
                    out.u32(*major);
                    out.u32(*minor);
                }
                EntryKind::BlockDevice { major, minor } => {
                    out.0.push(5);
                    out.u32(*major);
                    out.u32(*minor);
                }
                EntryKind::Fifo => out.0.push(6),
            }
        }
        let digest = Digest::of(&out.0);
        out.0.extend_from_slice(digest.as_bytes());
        out.0
    }

    /// Reads an index back. `None` if it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Option<LayerIndex> {
        let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if Digest::of(content).as_bytes() != digest {
            return None;
        }
        let mut input = Decoder(content.strip_prefix(MAGIC)?);
        let tar_size = input.u64()?;
        let count = input.u64()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let path = input.bytes()?;
            let (mode, uid, gid) = (input.u32()?, input.u32()?, input.u32()?);
            let mtime = input.u64()?.cast_signed();
            let xattrs =
                (0..input.u32()?).map(|_| Some((input.bytes()?, input.bytes()?))).collect::<Option<Xattrs>>()?;
            let kind = match input.take(1)?[0] {
                0 => EntryKind::Folder,
                1 => {
                    let (offset, size) = (input.u64()?, input.u64()?);
                    EntryKind::File { offset, size, digest: Digest::from_bytes(input.take(32)?.try_into().ok()?) }
                }
                2 => EntryKind::Symlink(input.bytes()?),
                3 => EntryKind::HardLink(input.bytes()?),
                4 => EntryKind::CharacterDevice { major: input.u32()?, minor: input.u32()? },
                5 => EntryKind::BlockDevice { major: input.u32()?, minor: input.u32()? },
                6 => EntryKind::Fifo,
                _ => return None,
            };
            entries.push(Entry { path, mode, uid, gid, mtime, xattrs, kind });
        }
        input.0.is_empty().then_some(LayerIndex { tar_size, entries })
    }
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        // Names and attributes are bounded to far less than 4 GiB when the tar is read.
        self.u32(value.len() as u32);
        self.0.extend_from_slice(value);
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let count = self.u32()?;
        Some(self.take(usize::try_from(count).ok()?)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let entry = |path: &[u8], kind| Entry {
            path: path.to_vec(),
            mode: 0o4755,
            uid: 7,
            gid: 4_000_000_000,
            mtime: -1,
            xattrs: vec![(b"security.capability".to_vec(), vec![0, 255])],
            kind,
        };
        let index = LayerIndex {
            tar_size: 5 << 32,
            entries: vec![
                entry(b"", EntryKind::Folder),
                entry(b"a\xff", EntryKind::File { offset: 512, size: 1 << 40, digest: Digest::of(b"x") }),
                entry(b"b", EntryKind::Symlink(b"../c".to_vec())),
                entry(b"c", EntryKind::HardLink(b"a".to_vec())),
                entry(b"d", EntryKind::CharacterDevice { major: 5, minor: 1 }),
                entry(b"e", EntryKind::BlockDevice { major: 8, minor: 1 << 20 }),
                entry(b"f", EntryKind::Fifo),
            ],
        };
        let bytes = index.encode();
        assert_eq!(LayerIndex::decode(&bytes).as_ref(), Some(&index));
        for at in [0, 9, 20, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(LayerIndex::decode(&damaged), None, "flipped byte {at}");
        }
        assert_eq!(LayerIndex::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(LayerIndex::decode(b""), None);
    }
}
