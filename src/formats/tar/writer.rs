//! Writing PAX archives with fixed bytes: no time, user name, process number or sequence number reaches a header.

use std::io::{self, Write};

use crate::error::Error;
use crate::store::Xattrs;

const BLOCK: u64 = 512;
/// Largest size that the ustar field holds: 11 octal digits.
const SIZE_LIMIT: u64 = 0o77_777_777_777;
/// Largest owner that the ustar field holds: 7 octal digits.
const OWNER_LIMIT: u32 = 0o7_777_777;

/// Largest number of a device that the ustar field holds, and PAX has no record for more: 7 octal digits. Linux's own end
/// at 12 bits (major) and 20 (minor).
const DEVICE_LIMIT: u32 = 0o7_777_777;

/// A member's metadata.
#[derive(Debug)]
pub struct Member<'a> {
    /// Path without a leading slash; folders get their closing slash here.
    pub path: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes, written as `SCHILY.xattr.` records.
    pub xattrs: &'a Xattrs,
    /// Further PAX records, in this order.
    pub records: &'a [(&'a str, &'a str)],
    /// What it is.
    pub kind: MemberKind<'a>,
}

/// What a member is.
#[derive(Clone, Copy, Debug)]
pub enum MemberKind<'a> {
    /// A regular file of this many bytes, written next with [`Writer::content`].
    File(u64),
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink(&'a [u8]),
    /// Another name of a member that stands earlier in the archive.
    HardLink(&'a [u8]),
    /// A character device.
    CharacterDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Writes one archive to `out`.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// Content of the current member that is still to come, and the padding after it.
    left: u64,
    padding: u64,
}

impl<W: Write> Writer<W> {
    /// An archive that starts here.
    pub fn new(out: W) -> Writer<W> {
        Writer { out, left: 0, padding: 0 }
    }

    /// Writes a member's headers. The content of a file follows through `Write`, exactly as many bytes as announced.
    pub fn member(&mut self, member: &Member<'_>) -> io::Result<()> {
        if let MemberKind::CharacterDevice(major, minor) | MemberKind::BlockDevice(major, minor) = member.kind
            && major.max(minor) > DEVICE_LIMIT
        {
            let path = member.path.escape_ascii();
            return Err(io::Error::other(Error::usage(format!(
                "a tar cannot hold /{path}: the device {major}:{minor} has a number above {DEVICE_LIMIT}"
            ))));
        }
        self.end_content()?;
        let folder = matches!(member.kind, MemberKind::Folder);
        let path = if folder { [member.path, b"/"].concat() } else { member.path.to_vec() };
        let (flag, size, link, device) = match member.kind {
            MemberKind::File(size) => (b'0', size, &b""[..], None),
            MemberKind::HardLink(target) => (b'1', 0, target, None),
            MemberKind::Symlink(target) => (b'2', 0, target, None),
            MemberKind::CharacterDevice(major, minor) => (b'3', 0, &b""[..], Some((major, minor))),
            MemberKind::BlockDevice(major, minor) => (b'4', 0, &b""[..], Some((major, minor))),
            MemberKind::Folder => (b'5', 0, &b""[..], None),
            MemberKind::Fifo => (b'6', 0, &b""[..], None),
        };
        let mut records = Vec::new();
        let split = split_path(&path);
        if split.is_none() {
            record(&mut records, b"path", &path);
        }
        if link.len() > 100 {
            record(&mut records, b"linkpath", link);
        }
        if size > SIZE_LIMIT {
            record(&mut records, b"size", size.to_string().as_bytes());
        }
        for (key, value) in [("uid", member.uid), ("gid", member.gid)] {
            if value > OWNER_LIMIT {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        if !(0..=SIZE_LIMIT.cast_signed()).contains(&member.mtime) {
            record(&mut records, b"mtime", member.mtime.to_string().as_bytes());
        }
        for (name, value) in member.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        for (key, value) in member.records {
            record(&mut records, key.as_bytes(), value.as_bytes());
        }
        if !records.is_empty() {
            let header = Fields {
                prefix: b"",
                name: b"pax_header",
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: records.len() as u64,
                mtime: 0,
                flag: b'x',
                link: b"",
                device: None,
            };
            self.out.write_all(&header.encode())?;
            self.out.write_all(&records)?;
            self.zeros(padding(records.len() as u64))?;
        }
        let (prefix, name) = split.unwrap_or((b"", &path[..path.len().min(100)]));
        let header = Fields {
            prefix,
            name,
            mode: member.mode & 0o7777,
            uid: member.uid.min(OWNER_LIMIT),
            gid: member.gid.min(OWNER_LIMIT),
            size: size.min(SIZE_LIMIT),
            mtime: member.mtime.clamp(0, SIZE_LIMIT.cast_signed()).cast_unsigned(),
            flag,
            link: &link[..link.len().min(100)],
            device,
        };
        self.out.write_all(&header.encode())?;
        self.left = size;
        self.padding = padding(size);
        Ok(())
    }

    /// Writes the end mark and hands the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_content()?;
        self.zeros(2 * BLOCK)?;
        Ok(self.out)
    }

    fn end_content(&mut self) -> io::Result<()> {
        if self.left != 0 {
            return Err(io::Error::other(format!("{} bytes of a member's content were not written", self.left)));
        }
        let padding = std::mem::take(&mut self.padding);
        self.zeros(padding)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        const ZEROS: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];
        self.out.write_all(&ZEROS[..count as usize])
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("more content than the member's header announced"));
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// A path as ustar's prefix (155 bytes) and name (100 bytes), split at a slash.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The name must not be empty: a folder's closing slash is no place to split.
    let first = path.len() - 101;
    let at = (first..path.len() - 1).find(|at| path[*at] == b'/')?;
    (at <= 155 && at > 0).then(|| (&path[..at], &path[at + 1..]))
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

struct Fields<'a> {
    prefix: &'a [u8],
    name: &'a [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    flag: u8,
    link: &'a [u8],
    device: Option<(u32, u32)>,
}

impl Fields<'_> {
    /// A ustar header (POSIX.1-1988).
    fn encode(&self) -> [u8; BLOCK as usize] {
        let mut out = [0; BLOCK as usize];
        out[..self.name.len()].copy_from_slice(self.name);
        octal(&mut out[100..108], u64::from(self.mode));
        octal(&mut out[108..116], u64::from(self.uid));
        octal(&mut out[116..124], u64::from(self.gid));
        octal(&mut out[124..136], self.size);
        octal(&mut out[136..148], self.mtime);
        out[156] = self.flag;
        out[157..157 + self.link.len()].copy_from_slice(self.link);
        out[257..265].copy_from_slice(b"ustar\x0000");
        if let Some((major, minor)) = self.device {
            octal(&mut out[329..337], u64::from(major));
            octal(&mut out[337..345], u64::from(minor));
        }
        out[345..345 + self.prefix.len()].copy_from_slice(self.prefix);
        out[148..156].fill(b' ');
        let sum: u64 = out.iter().map(|b| u64::from(*b)).sum();
        octal(&mut out[148..155], sum);
        out
    }
}

/// Octal digits, zero-padded, with a closing zero byte. Callers clamp or refuse what does not fit.
fn octal(place: &mut [u8], value: u64) {
    let digits = place.len() - 1;
    let mut value = value;
    for byte in place[..digits].iter_mut().rev() {
        *byte = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    place[digits] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Digest, EntryKind, Store};

    /// What is written is read back by the reader of layers, field by field.
    #[test]
    fn round_trip() {
        let long = [b"p/".repeat(100).as_slice(), b"name\xff"].concat();
        let deep = b"q".repeat(180);
        let xattrs = vec![(b"security.capability".to_vec(), b"\x01\x00\n=".to_vec())];
        let none = Xattrs::new();
        let mut tar = Writer::new(Vec::new());
        let base = Member {
            path: b"d",
            mode: 0o1777,
            uid: 0,
            gid: 0,
            mtime: 5,
            xattrs: &none,
            records: &[("LINUXKIT.source", "x")],
            kind: MemberKind::Folder,
        };
        tar.member(&base).unwrap();
        tar.member(&Member {
            path: &long,
            uid: 3_000_000,
            mtime: -7,
            xattrs: &xattrs,
            kind: MemberKind::File(3),
            ..base
        })
        .unwrap();
        tar.write_all(b"abc").unwrap();
        assert!(tar.write_all(b"d").is_err());
        tar.member(&Member { path: &deep, kind: MemberKind::Symlink(&long), ..base }).unwrap();
        tar.member(&Member { path: b"h", kind: MemberKind::HardLink(&long), ..base }).unwrap();
        tar.member(&Member { path: b"c", kind: MemberKind::CharacterDevice(5, 300), ..base }).unwrap();
        for kind in [MemberKind::CharacterDevice(1 << 21, 0), MemberKind::BlockDevice(0, 1 << 21)] {
            let error = tar.member(&Member { path: b"c", kind, ..base }).unwrap_err();
            assert!(error.to_string().contains("a number above 2097151"), "{error}");
        }
        tar.member(&Member { path: b"f", kind: MemberKind::Fifo, ..base }).unwrap();
        let bytes = tar.finish().unwrap();
        assert_eq!(Digest::of(&bytes).hex()[..16], *"7a1bcf1822640ea7", "the bytes of every tar output changed");

        let folder = tempfile::tempdir().unwrap();
        let layer = Store::open(folder.path()).unwrap().inflate(bytes.as_slice()).unwrap().commit(None).unwrap();
        let entries = &layer.index.entries;
        assert_eq!(entries.len(), 6);
        assert_eq!((entries[0].path.as_slice(), entries[0].mode), (&b"d"[..], 0o1777));
        assert_eq!(
            (&entries[1].path, entries[1].uid, entries[1].mtime, &entries[1].xattrs),
            (&long, 3_000_000, -7, &xattrs)
        );
        assert!(matches!(entries[1].kind, EntryKind::File { size: 3, .. }));
        assert_eq!((&entries[2].path, &entries[2].kind), (&deep, &EntryKind::Symlink(long.clone())));
        assert_eq!(entries[3].kind, EntryKind::HardLink(long));
        assert_eq!(entries[4].kind, EntryKind::CharacterDevice { major: 5, minor: 300 });
        assert_eq!(entries[5].kind, EntryKind::Fifo);
    }
}
