//! Writing newc archives.

use std::io::{self, Write};

use super::format::{ALIGNMENT, FileType, Header, TRAILER, refusal};
use crate::error::Error;

/// The bits of a mode that tell the type of a file.
const FILE_TYPE: u32 = 0o170_000;

/// Writes one archive to `out`. Each archive starts at a position that is a multiple of four in its uncompressed
/// stream, and ends with a trailer, after which another may follow.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    position: u64,
}

impl<W: Write> Writer<W> {
    /// An archive that starts here.
    pub fn new(out: W) -> Writer<W> {
        Writer { out, position: 0 }
    }

    /// Writes a member without content, or with `content` in memory (the target of a symbolic link). `size` and
    /// `name_size` of the header are set here.
    pub fn member(&mut self, name: &[u8], mut header: Header, content: &[u8]) -> io::Result<()> {
        header.size = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.start(name, header)?;
        self.put(content)?;
        self.pad()
    }

    /// Starts a member whose `header.size` bytes of content are then written through the returned writer; call
    /// [`Writer::pad`] when they all are. What Linux would not unpack is refused.
    pub fn start(&mut self, name: &[u8], header: Header) -> io::Result<&mut Self> {
        let is_link = header.mode & FILE_TYPE == FileType::Symlink.bits();
        if let Some(why) = refusal(name, is_link.then_some(u64::from(header.size))) {
            let shown = name.get(..100).unwrap_or(name).escape_ascii();
            return Err(io::Error::other(Error::usage(format!(
                "an archive for an initrd cannot hold \"{shown}\": it {why}"
            ))));
        }
        self.begin(name, header)
    }

    fn begin(&mut self, name: &[u8], mut header: Header) -> io::Result<&mut Self> {
        header.name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        self.put(&header.encode())?;
        self.put(name)?;
        self.put(&[0])?;
        self.pad()?;
        Ok(self)
    }

    /// Fills up to the next multiple of four.
    pub fn pad(&mut self) -> io::Result<()> {
        let padding = self.position.next_multiple_of(ALIGNMENT) - self.position;
        self.put(&[0; ALIGNMENT as usize][..padding as usize])
    }

    /// Writes the trailer and hands the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.begin(TRAILER, Header { nlink: 1, ..Header::default() })?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_passes_over_is_refused() {
        let file = Header { mode: FileType::Regular.bits() | 0o644, nlink: 1, ..Header::default() };
        let link = Header { mode: FileType::Symlink.bits() | 0o777, nlink: 1, ..Header::default() };
        let write = |name: &[u8], header, content: &[u8]| {
            let mut writer = Writer::new(Vec::new());
            writer.member(name, header, content).map_err(|error| error.to_string())?;
            writer.finish().map_err(|error| error.to_string())
        };
        let (fits, long) = ([b'n'; 4095], [b'n'; 4096]);
        for (name, header, content, part) in [
            (&b""[..], file, &b""[..], "has no name"),
            (b"TRAILER!!!", file, b"x", "ends an archive"),
            (&long, file, b"", "a path of 4096 bytes"),
            (b"l", link, b"", "a symbolic link to nothing"),
            (b"l", link, &long, "a target of 4096 bytes"),
        ] {
            let said = write(name, header, content).unwrap_err();
            assert!(said.contains(part) && said.len() < 300, "{part}: {said}");
        }
        for (name, header, content) in
            [(&fits[..], file, &b""[..]), (b"a/TRAILER!!!", file, b""), (b"l", link, &fits), (b".", file, b"")]
        {
            assert_eq!(
                super::super::dump(write(name, header, content).unwrap().as_slice()).unwrap().lines().count(),
                2
            );
        }
    }
}
