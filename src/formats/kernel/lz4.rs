//! LZ4's legacy frame, which Linux's build makes with `lz4 -l` (lz4_Frame_format.md, "Legacy frame"): a magic number, then
//! blocks of at most 8 MiB, each behind its compressed size, in the block format (lz4_Block_format.md).

use std::io::{self, Read, Write};

const MAGIC: u32 = 0x184c_2102;
/// What a block holds at most, uncompressed.
const BLOCK: usize = 8 << 20;
/// What a block of that size takes at most: a byte for each 255, and a little.
const LARGEST_BLOCK: usize = BLOCK + BLOCK / 255 + 16;
const MIN_MATCH: usize = 4;

/// Reads a frame of `length` bytes.
pub fn unpack(mut input: impl Read, length: u64, out: &mut impl Write) -> io::Result<()> {
    let mut left = length;
    let (mut compressed, mut block) = (Vec::new(), Vec::new());
    while left > 0 {
        let word = number(&mut input, &mut left)?;
        // Frames may follow each other.
        if word == MAGIC {
            continue;
        }
        let size = word as usize;
        if size == 0 || size > LARGEST_BLOCK || u64::from(word) > left {
            return Err(damaged("a block has an impossible size"));
        }
        compressed.resize(size, 0);
        input.read_exact(&mut compressed)?;
        left -= u64::from(word);
        unpack_block(&compressed, &mut block)?;
        out.write_all(&block)?;
    }
    Ok(())
}

fn number(input: &mut impl Read, left: &mut u64) -> io::Result<u32> {
    *left = left.checked_sub(4).ok_or_else(|| damaged("the last block is cut off"))?;
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Sequences of literals and a match; the last has literals only.
fn unpack_block(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    let mut at = 0;
    let cut = || damaged("a block is cut off");
    while let Some(token) = input.get(at).copied() {
        at += 1;
        let literals = length(input, &mut at, usize::from(token >> 4))?;
        let end = at.checked_add(literals).ok_or_else(cut)?;
        let bytes = input.get(at..end).ok_or_else(cut)?;
        room(out, literals)?;
        out.extend_from_slice(bytes);
        at = end;
        if at == input.len() {
            return Ok(());
        }
        let distance = input.get(at..at + 2).ok_or_else(cut)?;
        let distance = usize::from(distance[0]) | usize::from(distance[1]) << 8;
        at += 2;
        let length = length(input, &mut at, usize::from(token & 15))? + MIN_MATCH;
        let from = out.len().checked_sub(distance).filter(|_| distance > 0);
        let from = from.ok_or_else(|| damaged("a match begins before its block"))?;
        room(out, length)?;
        // A match may run into what it makes itself.
        let mut copied = 0;
        while copied < length {
            let count = (length - copied).min(distance);
            out.extend_from_within(from..from + count);
            copied += count;
        }
    }
    Err(damaged("a block ends with a match"))
}

/// Fifteen goes on in the bytes that follow, up to the first that is not 255.
fn length(input: &[u8], at: &mut usize, nibble: usize) -> io::Result<usize> {
    let mut length = nibble;
    let mut more = nibble == 15;
    while more {
        let byte = *input.get(*at).ok_or_else(|| damaged("a length is cut off"))?;
        *at += 1;
        length += usize::from(byte);
        more = byte == 255;
    }
    Ok(length)
}

fn room(out: &[u8], more: usize) -> io::Result<()> {
    match out.len() + more <= BLOCK {
        true => Ok(()),
        false => Err(damaged("a block has more than 8 MiB")),
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(blocks: &[&[u8]]) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        for block in blocks {
            bytes.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(block);
        }
        bytes
    }

    fn run(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        unpack(bytes, bytes.len() as u64, &mut out).map(|()| out)
    }

    #[test]
    fn matches_repeat_what_they_make() {
        assert_eq!(run(&frame(&[b"\x35abc\x03\0\x20de", b"\x10x"])).unwrap(), b"abcabcabcabcdex");
        assert_eq!(run(&frame(&[b"\x10x"]).repeat(2)).unwrap(), b"xx");
    }

    #[test]
    fn what_is_damaged_is_refused() {
        for block in [&b"\x35abc\x04\0\x10d"[..], b"\x35abc\0\0\x10d", b"\x35abc\x03", b"\xf0", b"\x40abc", b"\x01a"] {
            assert!(run(&frame(&[block])).is_err(), "{block:?}");
        }
        // More comes out than a block may have.
        let bomb = [b"\x1fa\x01\0".as_slice(), &[255; 40_000], b"\0\x10b"].concat();
        assert!(run(&frame(&[&bomb])).unwrap_err().to_string().contains("8 MiB"));
        assert!(run(&[0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 1]).is_err());
        assert!(run(&[0x02, 0x21]).is_err());
    }
}
