//! xz (The .xz File Format, 1.2.1): one stream of one LZMA2 block, with CRC32, as the kernel's decoder takes it.
//!
//! lib/xz knows CRC32 for sure, other checks and filters for machine code only where they were configured.

use std::io::{self, Write};

use lzma_rust2::{CheckType, XzOptions, XzReader, XzWriter};

/// Bytes that the stream of an archive can refer back to. The presets' own, of up to 64 MiB, are more than any archive here
/// has, and the compressor takes some twelve times as much.
pub const DICTIONARY: u32 = 1 << 20;
/// KiB that a reader of such a stream takes: the dictionary, and 104 more.
const READER_MEMORY: u32 = (DICTIONARY >> 10) + 512;
/// Bytes of the stream's header (section 2.1.1) and of the block's, with one filter and no sizes (section 3.1).
const HEADERS: usize = 24;
/// Bytes of the stream's footer (section 2.1.2).
const FOOTER: u64 = 12;

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

/// Whether `size` bytes have the form of a stream that is written here: its headers, with this dictionary, and one block.
/// `read` fills a buffer from a position on. What is in the block and the checksums are for a reader to find wrong.
pub fn is_plain(dictionary: u32, size: u64, read: impl Fn(&mut [u8], u64) -> io::Result<()>) -> io::Result<bool> {
    let mut own = XzWriter::new(Vec::new(), options(0, dictionary))?;
    own.write_all(b"x")?;
    let own = own.finish()?;
    if size < HEADERS as u64 + FOOTER {
        return Ok(false);
    }
    let mut headers = [0; HEADERS];
    read(&mut headers, 0)?;
    let mut footer = [0; FOOTER as usize];
    read(&mut footer, size - FOOTER)?;
    // CRC32, the size of the index in groups of four bytes less one, flags, "YZ".
    let [_, _, _, _, a, b, c, d, ..] = footer;
    let index = (u64::from(u32::from_le_bytes([a, b, c, d])) + 1) * 4;
    let Some(start) = size.checked_sub(FOOTER + index) else { return Ok(false) };
    // The index starts with a zero and the number of blocks (section 4.2).
    let mut blocks = [0; 2];
    read(&mut blocks, start)?;
    Ok(own.starts_with(&headers) && blocks == [0, 1])
}

/// The same of bytes in memory.
pub fn is_plain_bytes(dictionary: u32, bytes: &[u8]) -> bool {
    let read = |out: &mut [u8], at: u64| {
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        io::Read::read_exact(&mut &*rest, out)
    };
    is_plain(dictionary, bytes.len() as u64, read).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
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
        let large = with(&|options| options.lzma_options.dict_size = 64 << 20);
        assert!(reader(large.as_slice()).read_to_end(&mut Vec::new()).is_err());
    }
}
