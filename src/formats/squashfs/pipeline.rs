//! Blocks compressed by several threads, given back in the order in which they came.
//!
//! Free threads take the next waiting block, so that none idles behind a slow one. The number of blocks on the way is
//! bounded; the order of what comes back, and so the image, does not depend on the number of threads.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::Options;
use super::compression::{Compression, Encoder};
use crate::error::{Error, Result};

/// What all threads may have together: their compressors, and blocks on the way. The whole build has 64 MiB.
const MEMORY: usize = 36 << 20;

/// A block on its way to a thread.
struct Job {
    block: Vec<u8>,
    answer: SyncSender<io::Result<Packed>>,
}

/// A block as it goes into the image.
#[derive(Debug)]
pub(super) struct Packed {
    /// Compressed, or as it was.
    pub(super) bytes: Vec<u8>,
    /// Whether it is compressed.
    pub(super) compressed: bool,
    /// An empty buffer to be used again.
    spare: Vec<u8>,
}

/// The threads and the blocks on their way. `T` says what a block is for.
pub(super) struct Pipeline<T> {
    jobs: Sender<Job>,
    waiting: VecDeque<(T, Receiver<io::Result<Packed>>)>,
    limit: usize,
    block_size: usize,
    spare: Vec<Vec<u8>>,
}

/// Bytes that one thread's compressor takes. Measured with zstd 1.5.7 and zlib-rs 0.6; xz is from lzma-rust2's own
/// estimate (11 bytes for each byte of the dictionary and a constant).
fn encoder_memory(compression: Compression, block_size: usize) -> usize {
    match compression {
        Compression::None => 0,
        Compression::Gzip(_) => 400 << 10,
        Compression::Xz => (1 << 20) + 11 * block_size,
        Compression::Zstd(level) if level <= 12 => (1 << 20) + 4 * block_size,
        Compression::Zstd(_) => (2 << 20) + 10 * block_size,
    }
}

/// How many threads fit into the memory, and how many blocks may be on the way with them.
fn bounds(options: &Options) -> (usize, usize) {
    let block = options.block_size as usize;
    // Each thread: its compressor, the block it works on, its output, and as much waiting before and behind it.
    let each = encoder_memory(options.compression, block) + 4 * block;
    let threads = options.threads.clamp(1, (MEMORY / each).max(1));
    (threads, 2 * threads + 1)
}

impl<T> Pipeline<T> {
    /// Starts the threads. They end when the pipeline is dropped.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, options: &Options) -> Result<Pipeline<T>> {
        let (threads, limit) = bounds(options);
        let block_size = options.block_size as usize;
        let (jobs, queue) = mpsc::channel();
        // Held by the threads alone: should all of them end early, what waits is dropped and `next` says so.
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let mut encoder = Encoder::new(options.compression, block_size).map_err(failed)?;
            scope.spawn(move || work(&queue, &mut encoder));
        }
        Ok(Pipeline { jobs, waiting: VecDeque::new(), limit, block_size, spare: Vec::new() })
    }

    /// An empty buffer with room for a block.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.block_size))
    }

    /// Gives a buffer back.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() <= self.limit && buffer.capacity() >= self.block_size {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Whether a block must be taken out before the next goes in.
    pub(super) fn full(&self) -> bool {
        self.waiting.len() >= self.limit
    }

    /// Puts a block in.
    pub(super) fn push(&mut self, purpose: T, block: Vec<u8>) {
        let (answer, receiver) = mpsc::sync_channel(1);
        self.waiting.push_back((purpose, receiver));
        // No thread is left to take it only if they all panicked; then its answer is dropped here and `next` says so.
        let _ = self.jobs.send(Job { block, answer });
    }

    /// Takes the oldest block out, waiting for it. `None` if none is on the way.
    pub(super) fn next(&mut self) -> Result<Option<(T, Packed)>> {
        let Some((purpose, receiver)) = self.waiting.pop_front() else { return Ok(None) };
        let answer = receiver.recv().map_err(|_| Error::failed("a thread that compresses ended before its time"))?;
        let mut packed = answer.map_err(failed)?;
        self.recycle(std::mem::take(&mut packed.spare));
        Ok(Some((purpose, packed)))
    }
}

fn failed(error: io::Error) -> Error {
    Error::failed(format!("compressing a block: {error}"))
}

fn work(queue: &Mutex<Receiver<Job>>, encoder: &mut Encoder) {
    let mut out = Vec::new();
    loop {
        // The lock is held while waiting: only one thread can be the next to get a block anyway.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, answer }) = job else { return };
        let packed = encoder.encode(&block, &mut out).map(|compressed| match compressed {
            // A copy of its own size: what waits to be written holds no more than it needs.
            true => Packed { bytes: out.as_slice().to_vec(), compressed, spare: block },
            false => Packed { bytes: block, compressed, spare: Vec::new() },
        });
        // Nobody waits for it any more if the writer failed.
        let _ = answer.send(packed);
    }
}
