//! An initrd as the kernel reads it (init/initramfs.c): archives one after another, each plain or compressed on its
//! own, zeros between them.
//!
//! Read: newc, gzip, zstd with windows of up to 8 MiB (what the kernel takes), xz. Not read: bzip2, LZMA, LZO, LZ4, and
//! archives with checksums (070702).

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use super::format::{MAGIC, TRAILER};
use super::reader::{Member, Reader};
use crate::error::{Error, Result};

/// The kernel's own limit (lib/decompress_unzstd.c).
const ZSTD_WINDOW_LOG: u32 = 23;
/// KiB that a decompressor of xz may take; the largest preset needs 65 MiB.
const XZ_MEMORY: u32 = 80 << 10;
/// What all archives may hold together, with the zeros between them; bounds the work that a hostile image can make.
const CONTENT_LIMIT: u64 = 64 << 30;
/// Members that are read at most.
const MEMBERS_LIMIT: u64 = 8 << 20;

/// How a part of an initrd is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::None => "uncompressed",
            Method::Gzip => "gzip",
            Method::Zstd => "zstd",
            Method::Xz => "xz",
        })
    }
}

impl Method {
    /// The method that the first bytes of a part show; `None` for what is no initrd.
    pub fn of(head: &[u8]) -> Option<Method> {
        match head {
            _ if head.starts_with(MAGIC) => Some(Method::None),
            [0x1f, 0x8b, 8, ..] => Some(Method::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Method::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Method::Xz),
            _ => None,
        }
    }
}

/// A part of an initrd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number, from 0.
    pub number: usize,
    /// Its first byte.
    pub offset: u64,
    /// How it is compressed.
    pub method: Method,
}

/// What an initrd has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its parts.
    pub segments: Vec<Segment>,
    /// Members of all archives, trailers not counted.
    pub members: u64,
    /// Bytes of all their contents.
    pub content: u64,
    /// Zeros between archives within compressed parts.
    pub zeros: u64,
    /// Bytes of the initrd.
    pub size: u64,
}

/// Reads an initrd to its end and calls `each` with every member; the content, of which it may leave anything unread,
/// comes from the reader. Trailers are not handed out.
pub fn walk(
    input: impl BufRead,
    mut each: impl FnMut(&Segment, &Member, &mut dyn Read) -> Result<()>,
) -> Result<Summary> {
    let mut input = Counted { input, position: 0 };
    let mut summary = Summary::default();
    loop {
        skip_zeros(&mut input).map_err(|error| Error::failed(format!("reading the initrd: {error}")))?;
        let offset = input.position;
        let head = peek(&mut input).map_err(|error| Error::failed(format!("reading the initrd: {error}")))?;
        if head.is_empty() {
            break;
        }
        let method = Method::of(&head).ok_or_else(|| {
            Error::refused(format!(
                "the initrd has no archive at byte {offset}: \"{}\" is the start of none that is known",
                head.escape_ascii()
            ))
        })?;
        if method == Method::None && !offset.is_multiple_of(4) {
            return Err(Error::refused(format!(
                "the initrd's archive at byte {offset} does not start at a multiple of four, and Linux does not find it"
            )));
        }
        let segment = Segment { number: summary.segments.len(), offset, method };
        summary.segments.push(segment);
        read_segment(&mut input, &segment, &mut summary, &mut each)
            .map_err(|error| error.context(format!("the initrd's archive at byte {offset} ({method})")))?;
        if summary.segments.len() > MEMBERS_LIMIT as usize {
            return Err(Error::refused("the initrd has archives without end"));
        }
    }
    summary.size = input.position;
    if summary.segments.is_empty() {
        return Err(Error::refused("the initrd is empty"));
    }
    Ok(summary)
}

type Each<'e> = &'e mut dyn FnMut(&Segment, &Member, &mut dyn Read) -> Result<()>;

fn read_segment<R: BufRead>(
    input: &mut Counted<R>,
    segment: &Segment,
    summary: &mut Summary,
    each: Each<'_>,
) -> Result<()> {
    let wrong = |error: io::Error| Error::refused(format!("it is damaged: {error}"));
    match segment.method {
        Method::None => archives(input, segment, true, summary, each),
        Method::Gzip => archives(&mut buffered(flate2::bufread::GzDecoder::new(input)), segment, false, summary, each),
        Method::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(wrong)?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(wrong)?;
            archives(&mut buffered(decoder), segment, false, summary, each)
        }
        Method::Xz => {
            let decoder = lzma_rust2::XzReader::new_mem_limit(input, false, XZ_MEMORY);
            archives(&mut buffered(decoder), segment, false, summary, each)
        }
    }
}

/// A decompressor in a buffer: zeros are skipped there, and for xz a read of nothing, which an empty file is, would end
/// its block too early.
fn buffered<R: Read>(decoder: R) -> BufReader<R> {
    BufReader::with_capacity(64 << 10, decoder)
}

/// The archives of one part: one if it is not compressed, all that are in it otherwise.
fn archives(
    input: &mut dyn BufRead,
    segment: &Segment,
    one: bool,
    summary: &mut Summary,
    each: Each<'_>,
) -> Result<()> {
    let wrong = |error: io::Error| match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => Error::new(inner.exit(), inner.message()),
        None => Error::refused(format!("it is damaged: {error}")),
    };
    let mut reader = Reader::new(input);
    let before = summary.zeros;
    loop {
        let member = reader.next_member().map_err(wrong)?;
        summary.zeros = before + reader.zeros();
        if summary.content + summary.zeros > CONTENT_LIMIT || summary.members > MEMBERS_LIMIT {
            return Err(Error::refused("the initrd has more in it than any machine's memory holds"));
        }
        let Some(member) = member else { break };
        if member.name == TRAILER {
            if one {
                break;
            }
            continue;
        }
        summary.members += 1;
        summary.content += u64::from(member.header.size);
        each(segment, &member, &mut reader)?;
    }
    Ok(())
}

fn peek<R: BufRead>(input: &mut Counted<R>) -> io::Result<Vec<u8>> {
    let buffer = input.fill_buf()?;
    // All starts are shorter; a buffer that ends within one would be of a reader with a tiny buffer.
    Ok(buffer[..buffer.len().min(6)].to_vec())
}

fn skip_zeros<R: BufRead>(input: &mut Counted<R>) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let all = zeros == buffer.len() && zeros > 0;
        input.consume(zeros);
        if !all {
            return Ok(());
        }
    }
}

/// Knows its position.
struct Counted<R> {
    input: R,
    position: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(out)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
        self.input.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{FileType, Header, Writer};
    use super::*;
    use crate::formats::compress::{Compressor, Method as Framing};

    fn archive(name: &[u8], content: &[u8]) -> Vec<u8> {
        let mut cpio = Writer::new(Vec::new());
        let header = Header { mode: FileType::Regular.bits() | 0o644, nlink: 1, ..Header::default() };
        cpio.member(name, header, content).unwrap();
        cpio.finish().unwrap()
    }

    fn framed(bytes: &[u8], framing: Framing) -> Vec<u8> {
        let mut out = Compressor::new(Vec::new(), framing).unwrap();
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut out = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn sample() -> Vec<u8> {
        [
            archive(b"microcode", b"early"),
            vec![0; 8],
            framed(&archive(b"a", &[1; 5000]), Framing::Zstd(3)),
            framed(&[archive(b"b", b"two"), archive(b"c", b"three")].concat(), Framing::Gzip(6)),
            vec![0; 3],
            xz(&archive(b"d", b"four")),
            framed(&archive(b"e", b"five"), Framing::Zstd(1)),
        ]
        .concat()
    }

    type Named = (String, Vec<u8>);

    fn read(bytes: &[u8]) -> Result<(Vec<Named>, Summary)> {
        let mut found = Vec::new();
        let summary = walk(bytes, |_, member, content| {
            let mut bytes = Vec::new();
            if member.name != b"b" {
                content.read_to_end(&mut bytes).map_err(|error| Error::refused(error.to_string()))?;
            }
            found.push((String::from_utf8_lossy(&member.name).into_owned(), bytes));
            Ok(())
        })?;
        Ok((found, summary))
    }

    #[test]
    fn a_run_of_archives_is_read() {
        let bytes = sample();
        let (found, summary) = read(&bytes).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["microcode", "a", "b", "c", "d", "e"]);
        assert_eq!(found[1].1, vec![1; 5000]);
        assert_eq!(found[3].1, b"three");
        let methods: Vec<Method> = summary.segments.iter().map(|segment| segment.method).collect();
        assert_eq!(methods, [Method::None, Method::Zstd, Method::Gzip, Method::Xz, Method::Zstd]);
        assert_eq!((summary.members, summary.size), (6, bytes.len() as u64));
    }

    #[test]
    fn damage_has_its_place() {
        let good = sample();
        let message = |bytes: &[u8]| read(bytes).unwrap_err().message().to_owned();
        let start = archive(b"microcode", b"early").len() + 8;
        let mut bytes = good.clone();
        bytes[start] = 0x29;
        assert!(message(&bytes).contains(&format!("no archive at byte {start}")), "{}", message(&bytes));
        let text = message(&good[..start + 20]);
        assert!(text.contains(&format!("at byte {start} (zstd)")), "{text}");
        assert!(message(b"").contains("empty"));
        let shifted = [&[0u8; 3][..], &archive(b"x", b"")].concat();
        assert!(message(&shifted).contains("multiple of four"));
    }

    #[test]
    fn zeros_have_an_end() {
        let padded =
            |zeros: usize| framed(&[archive(b"a", b""), vec![0; zeros], archive(b"b", b"")].concat(), Framing::Zstd(1));
        let (found, summary) = read(&padded(1 << 20)).unwrap();
        assert_eq!((found.len(), summary.zeros), (2, 1 << 20));
        // The zeros of all parts are counted together.
        assert_eq!(read(&[padded(1 << 20), padded(4)].concat()).unwrap().1.zeros, (1 << 20) + 4);
        let error = read(&padded(65 << 20)).unwrap_err();
        assert!(error.message().contains("more than 67108864 zeros"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(at in 0usize..2000, byte: u8, cut in 0usize..2000) {
            static SAMPLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(sample);
            let mut bytes = SAMPLE.clone();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&bytes);
            bytes.truncate(cut % bytes.len());
            let _ = read(&bytes);
        }
    }
}
