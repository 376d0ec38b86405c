//! xz (The .xz File Format, 1.2.1): one stream of one LZMA2 block, with CRC32, as the kernel's decoder takes it.
//!
//! lib/xz knows CRC32 for sure, other checks and filters for machine code only where they were configured.

use std::io::{self, Write};

use lzma_rust2::{CheckType, XzOptions, XzReader, XzWriter};

/// Bytes that the stream of an archive can refer back to. The presets' own, of up to 64 MiB, are more than any archive here
/// has, and the compressor takes some twelve times as much.
pub const DICTIONARY: u32 = 1 << 20;
/// KiB that a reader of such a stream may take: the dictionary, and more than the hundred of its own.
const READER_MEMORY: u32 = (DICTIONARY >> 10) + 512;
/// Bytes of the stream's header (section 2.1.1) and of the block's, with one filter and no sizes (section 3.1).
const HEADERS: u64 = 24;
/// Bytes of the block's header.
const BLOCK_HEADER: u64 = 12;
/// Bytes of the block's check.
const CHECK: u64 = 4;

/// A preset from 0 to 9, with a dictionary of its own size.
pub fn options(preset: u32, dictionary: u32) -> XzOptions {
    let mut options = XzOptions::with_preset(preset);
    options.lzma_options.dict_size = dictionary;
    options.set_check_sum_type(CheckType::Crc32);
    options
}

/// Starts the stream of an archive in `out`, with a preset from 0 to 9.
pub(super) fn writer<W: Write>(out: W, preset: u32) -> io::Result<XzWriter<W>> {
    XzWriter::new(out, options(preset, DICTIONARY))
}

/// A reader of one stream that needs no more memory than those that are written here.
pub fn reader<R: io::Read>(input: R) -> XzReader<R> {
    XzReader::new_mem_limit(input, false, READER_MEMORY)
}

/// Whether `size` bytes are a stream of the form that is written here: its headers, with this dictionary, one block, and
/// behind it what such a block has to have there. `read` fills a buffer from a position on. What is in the block and its
/// checksum are for a reader to find wrong; but readers differ in what else they look at, and Linux looks at all of it.
pub fn is_plain(dictionary: u32, size: u64, read: impl Fn(&mut [u8], u64) -> io::Result<()>) -> io::Result<bool> {
    let mut own = XzWriter::new(Vec::new(), options(0, dictionary))?;
    own.write_all(b"x")?;
    let own = own.finish()?;
    let mut headers = [0; HEADERS as usize];
    if size < HEADERS {
        return Ok(false);
    }
    read(&mut headers, 0)?;
    let Some((packed, unpacked)) = block(size, &read)? else { return Ok(false) };
    let end = HEADERS + packed;
    let padding = end.next_multiple_of(4) - end;
    let tail = tail(BLOCK_HEADER + packed + CHECK, unpacked);
    let start = end + padding + CHECK;
    if !own.starts_with(&headers) || size != start + tail.len() as u64 {
        return Ok(false);
    }
    let mut found = vec![0; tail.len()];
    read(&mut found, start)?;
    let mut zeros = [0; 3];
    let zeros = zeros.get_mut(..padding as usize).unwrap_or_default();
    read(zeros, end)?;
    Ok(found == tail && zeros.iter().all(|byte| *byte == 0))
}

/// The same of bytes in memory.
pub fn is_plain_bytes(dictionary: u32, bytes: &[u8]) -> bool {
    let read = |out: &mut [u8], at: u64| {
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        io::Read::read_exact(&mut &*rest, out)
    };
    is_plain(dictionary, bytes.len() as u64, read).unwrap_or(false)
}

/// Goes through the chunks of a block's LZMA2 data (xz's doc/lzma2 and lib/xz/xz_dec_lzma2.c tell their headers). Returns
/// the bytes that they take and those that come out of them, or nothing if they do not end within `size`.
fn block(size: u64, read: impl Fn(&mut [u8], u64) -> io::Result<()>) -> io::Result<Option<(u64, u64)>> {
    let (mut at, mut unpacked) = (HEADERS, 0);
    loop {
        let mut header = [0; 6];
        let there = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX).min(header.len());
        read(header.get_mut(..there).unwrap_or_default(), at)?;
        let [control, a, b, c, d, _] = header;
        let number = |high: u8, low: u8| u64::from(u16::from_be_bytes([high, low])) + 1;
        let (skipped, given) = match control {
            _ if there == 0 => return Ok(None),
            0 => return Ok(Some((at + 1 - HEADERS, unpacked))),
            // Bytes as they are.
            1 | 2 => (3 + number(a, b), number(a, b)),
            3..0x80 => return Ok(None),
            // Five bits of the size are in the control byte; new properties are one byte more.
            _ => {
                let properties = u64::from(control >= 0xc0);
                (5 + properties + number(c, d), (u64::from(control & 0x1f) << 16) + number(a, b))
            }
        };
        at += skipped;
        unpacked += given;
    }
}

/// Index and footer of a stream of one block (sections 4 and 2.1.2).
fn tail(unpadded: u64, unpacked: u64) -> Vec<u8> {
    let mut index = vec![0, 1];
    for mut number in [unpadded, unpacked] {
        while number >= 0x80 {
            index.push(number as u8 | 0x80);
            number >>= 7;
        }
        index.push(number as u8);
    }
    index.resize(index.len().next_multiple_of(4), 0);
    let checked = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let mut footer = (index.len() as u32 / 4).to_le_bytes().to_vec();
    index.extend(checked(&index));
    // The flags of the stream's header: CRC32.
    footer.extend([0, 1]);
    [index, checked(&footer).to_vec(), footer, b"YZ".to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use io::Read;
    use std::num::NonZeroU64;

    fn stream(options: XzOptions, content: &[u8]) -> Vec<u8> {
        let mut writer = XzWriter::new(Vec::new(), options).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn only_the_form_that_is_written_is_plain() {
        let content: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for preset in [0, 6, 9] {
            let mut made = writer(Vec::new(), preset).unwrap();
            made.write_all(&content).unwrap();
            let made = made.finish().unwrap();
            assert_eq!(made.len() % 4, 0, "Linux looks for the next archive at a multiple of four");
            assert!(is_plain_bytes(DICTIONARY, &made));
            let mut back = Vec::new();
            reader(made.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == content);
        }
        let with = |change: &dyn Fn(&mut XzOptions)| {
            let mut options = options(0, DICTIONARY);
            change(&mut options);
            stream(options, &content)
        };
        assert!(is_plain_bytes(DICTIONARY, &with(&|_| ())));
        for other in [
            with(&|options| options.set_check_sum_type(CheckType::Crc64)),
            with(&|options| options.lzma_options.dict_size = 8 << 20),
            with(&|options| options.set_block_size(NonZeroU64::new(500_000))),
            with(&|options| options.prepend_pre_filter(lzma_rust2::filter::FilterType::BcjX86, 0)),
            with(&|_| ())[..30].to_vec(),
            vec![0; 100],
            Vec::new(),
        ] {
            assert!(!is_plain_bytes(DICTIONARY, &other));
        }
        // An index that tells other sizes, with its checksum made good.
        let made = with(&|_| ());
        let read = |out: &mut [u8], at: u64| Read::read_exact(&mut &made[at as usize..], out);
        let (packed, plain) = block(made.len() as u64, read).unwrap().unwrap();
        assert_eq!(plain, content.len() as u64);
        let unpadded = BLOCK_HEADER + packed + CHECK;
        let rest = &made[..made.len() - tail(unpadded, plain).len()];
        assert!([rest, &tail(unpadded, plain)].concat() == made);
        for (unpadded, plain) in [(unpadded, plain + 1), (unpadded + 1, plain), (unpadded + 4, plain)] {
            assert!(!is_plain_bytes(DICTIONARY, &[rest, &tail(unpadded, plain)].concat()));
        }
        let large = with(&|options| options.lzma_options.dict_size = 64 << 20);
        assert!(reader(large.as_slice()).read_to_end(&mut Vec::new()).is_err());
    }
}
