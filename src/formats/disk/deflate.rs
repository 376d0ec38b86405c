//! Deflate of many small blocks, with one compressor and one output buffer a thread: their 400 KiB are neither faulted
//! in for every block nor spread over the allocator's arenas.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::error::{Error, Result};

/// How blocks are deflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// From 1 to 9.
    pub level: u32,
    /// A zlib header and checksum around the stream (RFC 1950).
    pub zlib: bool,
    /// log2 of the window, 9 to 15.
    pub window_bits: u8,
}

struct Worker {
    settings: Deflate,
    compress: Compress,
    out: Vec<u8>,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

impl Deflate {
    /// Appends `block`, deflated, to `out`.
    pub fn append(self, block: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.append_part(&[], block, true, out)
    }

    /// Appends a part of a stream: `block`, which may refer back to `window`, the input before it (up to 32 KiB). All
    /// but the last part end at a byte.
    pub fn append_part(self, window: &[u8], block: &[u8], last: bool, out: &mut Vec<u8>) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Error::failed(format!("compressing a block: {error}"));
        WORKER.with_borrow_mut(|slot| {
            let worker = match slot {
                Some(worker) if worker.settings == self => worker,
                _ => slot.insert(Worker {
                    settings: self,
                    compress: Compress::new_with_window_bits(Compression::new(self.level), self.zlib, self.window_bits),
                    out: Vec::new(),
                }),
            };
            worker.compress.reset();
            worker.out.clear();
            // Deflate stores what it cannot compress: 5 bytes for each 16 KiB at most.
            let longest = window.len().max(block.len());
            worker.out.reserve(longest + longest / 1000 + 1024);
            // The window is compressed too, for nothing, an eighth more work. As a dictionary it would cost less, but
            // zlib-rs 0.6 then remembers what it compressed before the reset, and the bytes depend on it now and then.
            // A new compressor for each part forgets, and takes 60 MiB more with 16 threads.
            if !window.is_empty() {
                let flush = FlushCompress::Sync;
                worker.compress.compress_vec(window, &mut worker.out, flush).map_err(|error| failed(&error))?;
                worker.out.clear();
            }
            let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
            let status = worker.compress.compress_vec(block, &mut worker.out, flush).map_err(|error| failed(&error))?;
            let ended = if last { status == Status::StreamEnd } else { worker.out.len() < worker.out.capacity() };
            if !ended || worker.compress.total_in() != (window.len() + block.len()) as u64 {
                return Err(failed(&"the output did not fit"));
            }
            out.extend_from_slice(&worker.out);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// A block's bytes do not depend on the blocks before it.
    #[test]
    fn a_compressor_has_no_memory() {
        let blocks: Vec<Vec<u8>> =
            (1..40u32).map(|n| (0..65_536u32).map(|i| ((i.wrapping_mul(n) / 300) ^ (i % n)) as u8).collect()).collect();
        let settings = Deflate { level: 9, zlib: true, window_bits: 15 };
        let alone = |block: &[u8]| {
            std::thread::scope(|scope| {
                let deflate = || {
                    let mut out = Vec::new();
                    settings.append(block, &mut out).unwrap();
                    out
                };
                scope.spawn(deflate).join().unwrap()
            })
        };
        for block in &blocks {
            let mut out = Vec::new();
            settings.append(block, &mut out).unwrap();
            assert!(out == alone(block));
            let mut back = Vec::new();
            flate2::read::ZlibDecoder::new(out.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == *block);
        }
    }

    /// Neither do those of a part of a stream, which may refer back to what is before it.
    #[test]
    fn a_compressor_has_no_memory_of_other_windows() {
        let noise = |seed: u32, length: u32| -> Vec<u8> {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 16
            };
            let words: Vec<Vec<u8>> = (0..300).map(|_| (0..3 + next() % 9).map(|_| next() as u8).collect()).collect();
            let mut bytes = Vec::new();
            while bytes.len() < length as usize {
                bytes.extend_from_slice(&words[next() as usize % words.len()]);
            }
            bytes
        };
        for level in [1, 6, 9] {
            let settings = Deflate { level, zlib: false, window_bits: 15 };
            let part = |seed| {
                let (window, block) = (noise(seed, 32 << 10), noise(seed, 300_000));
                let mut out = Vec::new();
                let window = if seed % 3 == 0 { &[] } else { &window[..32 << 10] };
                settings.append_part(window, &block[32 << 10..], false, &mut out).unwrap();
                out
            };
            let one_after_another: Vec<_> = (0..40).map(part).collect();
            for (seed, out) in one_after_another.into_iter().enumerate() {
                let alone = std::thread::scope(|scope| scope.spawn(|| part(seed as u32)).join().unwrap());
                assert!(out == alone, "level {level}, part {seed}");
            }
        }
    }
}
