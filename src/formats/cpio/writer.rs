//! Writing newc archives.

use std::io::{self, Write};

use super::format::{ALIGNMENT, Header, TRAILER};

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
    /// [`Writer::pad`] when they all are.
    pub fn start(&mut self, name: &[u8], mut header: Header) -> io::Result<&mut Self> {
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
        self.member(TRAILER, Header { nlink: 1, ..Header::default() }, b"")?;
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
