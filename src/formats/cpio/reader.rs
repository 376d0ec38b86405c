//! Reading newc archives, for dumps and tests: one archive or several in a row, uncompressed.

use std::io::{self, BufRead, BufReader, Read};

use super::format::{ALIGNMENT, HEADER_SIZE, Header, TRAILER};

/// Zeros between two archives that are read at most. Tools fill up to a block; a few bytes of zstd would give any number.
const ZEROS_LIMIT: u64 = 64 << 20;
/// Longest name that is read; Linux's limit is 4096 with the zero byte.
const NAME_LIMIT: u32 = 4096;

/// A member that was read.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: Vec<u8>,
    /// Its header.
    pub header: Header,
}

/// Reads the members of an archive one after another.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    position: u64,
    /// Content of the last member that was not read yet.
    left: u64,
    zeros: u64,
}

impl<R: BufRead> Reader<R> {
    /// A reader of what `input` holds.
    pub fn new(input: R) -> Reader<R> {
        Reader { input, position: 0, left: 0, zeros: 0 }
    }

    /// Bytes of zeros between archives that were read so far.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The next member, skipping what was left of the one before. `None` at the end of the input, not at a trailer:
    /// that one is a member like others, and what follows it is the next archive.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        let left = self.left;
        self.left = 0;
        self.skip(left)?;
        self.skip(self.position.next_multiple_of(ALIGNMENT) - self.position)?;
        if !self.skip_zeros()? {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_SIZE];
        self.input.read_exact(&mut bytes)?;
        self.position += HEADER_SIZE as u64;
        let bad = |what: &str, at: u64| io::Error::new(io::ErrorKind::InvalidData, format!("{what} before byte {at}"));
        let header = Header::decode(&bytes).ok_or_else(|| bad("no newc header", self.position))?;
        if header.name_size == 0 || header.name_size > NAME_LIMIT {
            return Err(bad("a name of impossible length", self.position));
        }
        let mut name = vec![0; header.name_size as usize];
        self.input.read_exact(&mut name)?;
        self.position += name.len() as u64;
        if name.pop() != Some(0) {
            return Err(bad("a name without a zero byte", self.position));
        }
        self.skip(self.position.next_multiple_of(ALIGNMENT) - self.position)?;
        self.left = u64::from(header.size);
        Ok(Some(Member { name, header }))
    }

    /// Zeros between archives are padding. Gives false at the end of the input.
    fn skip_zeros(&mut self) -> io::Result<bool> {
        let mut skipped = 0;
        loop {
            let buffer = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            let (count, zeros) = (buffer.len(), buffer.iter().position(|byte| *byte != 0));
            let zeros_here = zeros.unwrap_or(count);
            self.input.consume(zeros_here);
            self.position += zeros_here as u64;
            self.zeros += zeros_here as u64;
            skipped += zeros_here as u64;
            if count == 0 || zeros.is_some() {
                return Ok(count > 0);
            }
            if skipped > ZEROS_LIMIT {
                let message = format!("more than {ZEROS_LIMIT} zeros before byte {}", self.position);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink())?;
        self.position += skipped;
        if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl<R: BufRead> Read for Reader<R> {
    /// Reads the content of the current member.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.input.read(&mut buffer[..limit])?;
        self.left -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

/// One line per member: mode, links, owner, size, time, device, name, and where a symbolic link points.
pub fn dump(input: impl Read) -> io::Result<String> {
    let mut reader = Reader::new(BufReader::new(input));
    let mut out = String::new();
    while let Some(Member { name, header: h }) = reader.next_member()? {
        if name == TRAILER {
            out.push_str("trailer\n");
            continue;
        }
        out.push_str(&format!(
            "{:06o} ino {} links {} owner {}:{} size {} time {}",
            h.mode, h.ino, h.nlink, h.uid, h.gid, h.size, h.mtime
        ));
        if matches!(h.mode & 0o170_000, 0o020_000 | 0o060_000) {
            out.push_str(&format!(" device {}:{}", h.rdev_major, h.rdev_minor));
        }
        out.push_str(&format!(" {}", name.escape_ascii()));
        if h.mode & 0o170_000 == 0o120_000 {
            let mut target = Vec::new();
            reader.by_ref().take(4096).read_to_end(&mut target)?;
            out.push_str(&format!(" -> {}", target.escape_ascii()));
        }
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{FileType, Writer};
    use super::*;
    use crate::store::Digest;

    fn sample() -> Vec<u8> {
        let mut cpio = Writer::new(Vec::new());
        let header =
            |ino, kind: FileType, mode, nlink| Header { ino, mode: kind.bits() | mode, nlink, ..Header::default() };
        cpio.member(b"d", header(1, FileType::Folder, 0o755, 2), b"").unwrap();
        cpio.member(b"d/l", header(2, FileType::Symlink, 0o777, 1), b"../\xfftarget").unwrap();
        let device = Header { rdev_major: 5, rdev_minor: 1, ..header(3, FileType::CharacterDevice, 0o600, 1) };
        cpio.member(b"d/console", device, b"").unwrap();
        let file = Header { size: 5, uid: 1000, mtime: 77, ..header(4, FileType::Regular, 0o4755, 2) };
        cpio.member(b"a", Header { size: 0, ..file }, b"").unwrap();
        cpio.start(b"b", file).unwrap().write_all(b"hello").unwrap();
        cpio.pad().unwrap();
        cpio.finish().unwrap()
    }

    /// The bytes are what Linux unpacks; a change of this digest is a change of every initrd.
    #[test]
    fn bytes_are_pinned() {
        let bytes = sample();
        assert_eq!(
            dump(bytes.as_slice()).unwrap(),
            "040755 ino 1 links 2 owner 0:0 size 0 time 0 d\n\
             120777 ino 2 links 1 owner 0:0 size 10 time 0 d/l -> ../\\xfftarget\n\
             020600 ino 3 links 1 owner 0:0 size 0 time 0 device 5:1 d/console\n\
             104755 ino 4 links 2 owner 1000:0 size 0 time 77 a\n\
             104755 ino 4 links 2 owner 1000:0 size 5 time 77 b\n\
             trailer\n"
        );
        assert_eq!(Digest::of(&bytes).hex()[..16], *"1bed39a3cb86b657");
        assert_eq!(bytes.len() % 4, 0);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(at in 0usize..800, byte: u8, cut in 0usize..800) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut.max(1));
            let _ = dump(bytes.as_slice());
        }
    }
}
