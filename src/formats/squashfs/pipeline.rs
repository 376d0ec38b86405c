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
use super::compression::Encoder;
use super::foreign::Foreign;
use crate::error::{Error, Result};
use crate::formats::pieces::{Found, Pieces};
use crate::rootfs::OriginId;
use crate::store::Hasher;

/// What all threads may have together: their compressors, and blocks on the way. The whole build has 64 MiB.
const MEMORY: usize = 40 << 20;

/// A block on its way to a thread.
struct Job {
    block: Vec<u8>,
    /// Where the first file in it comes from.
    origin: OriginId,
    /// An empty buffer for what comes out.
    out: Vec<u8>,
    answer: SyncSender<io::Result<Packed>>,
}

/// A block as it goes into the image.
#[derive(Debug)]
pub(super) struct Packed {
    /// Compressed, or as it was.
    pub(super) bytes: Vec<u8>,
    /// Whether it is compressed.
    pub(super) compressed: bool,
    /// The other buffer, to be used again.
    spare: Vec<u8>,
}

/// The threads and the blocks on their way. `T` says what a block is for.
pub(super) struct Pipeline<T> {
    jobs: Sender<Job>,
    waiting: VecDeque<(T, Receiver<io::Result<Packed>>)>,
    limit: usize,
    /// Bytes of a buffer: a block, and what compressors want to have on top.
    buffer_size: usize,
    spare: Vec<Vec<u8>>,
}

/// How many threads fit into the memory, and how many blocks may be on the way with them.
fn bounds(options: &Options, buffer_size: usize) -> Result<(usize, usize)> {
    let encoder = Encoder::memory(options.compression, options.block_size as usize).map_err(failed)?;
    // The block and the fragment that are being filled, and buffers to be swapped with them.
    let memory = MEMORY.saturating_sub(4 * buffer_size);
    // A block on the way has a second buffer for what comes out of it. Two for each thread are the least.
    let threads = options.threads.clamp(1, (memory / (encoder + 4 * buffer_size)).max(1));
    // More keep the threads busy while this one waits for a disk or, on a busy machine, for a processor: with two for
    // each, an image took half as long again there.
    let limit = memory.saturating_sub(threads * encoder) / (2 * buffer_size);
    Ok((threads, limit.clamp(2 * threads, 8 * threads)))
}

impl<T> Pipeline<T> {
    /// Starts the threads. They end when the pipeline is dropped.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        options: &Options,
        pieces: Option<&'scope dyn Pieces>,
    ) -> Result<Pipeline<T>> {
        let block_size = options.block_size as usize;
        let buffer_size = zstd::zstd_safe::compress_bound(block_size);
        let (threads, limit) = bounds(options, buffer_size)?;
        let (jobs, queue) = mpsc::channel();
        // Held by the threads alone: should all of them end early, what waits is dropped and `next` says so.
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let encoder = Encoder::new(options.compression, block_size).map_err(failed)?;
            // Another version of a compressor gives other bytes, and pieces may come from another machine.
            let name = format!("{} {block_size} {}", options.compression, options.compression.version());
            let foreign = Foreign::new(options.compression, options.block_size);
            scope.spawn(move || work(&queue, &mut Worker { encoder, foreign, pieces, name }));
        }
        Ok(Pipeline { jobs, waiting: VecDeque::new(), limit, buffer_size, spare: Vec::new() })
    }

    /// An empty buffer with room for a block.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.buffer_size))
    }

    /// Gives a buffer back.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.push(buffer);
    }

    /// Whether a block must be taken out before the next goes in.
    pub(super) fn full(&self) -> bool {
        self.waiting.len() >= self.limit
    }

    /// Puts a block in.
    pub(super) fn push(&mut self, purpose: T, block: Vec<u8>, origin: OriginId) {
        let (answer, receiver) = mpsc::sync_channel(1);
        self.waiting.push_back((purpose, receiver));
        let out = self.buffer();
        // No thread is left to take it only if they all panicked; then its answer is dropped here and `next` says so.
        let _ = self.jobs.send(Job { block, origin, out, answer });
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
    // One of this program that went through the thread comes back as it was.
    error.downcast().unwrap_or_else(|error| Error::failed(format!("compressing a block: {error}")))
}

/// What a thread has.
struct Worker<'p> {
    encoder: Encoder,
    foreign: Foreign,
    pieces: Option<&'p dyn Pieces>,
    /// Of what decides, beside its bytes, what becomes of a block.
    name: String,
}

/// Behind a piece: whether the block gets smaller. One that does not is not kept a second time.
const SMALLER: u8 = 1;
const NOT_SMALLER: u8 = 0;

impl Worker<'_> {
    /// Compresses a block into `out`, or finds what became of it before. Returns whether it got smaller.
    fn encode(&mut self, block: &[u8], origin: OriginId, out: &mut Vec<u8>) -> io::Result<bool> {
        let Some(pieces) = self.pieces else { return self.encoder.encode(block, out) };
        let mut hasher = Hasher::new();
        hasher.field(self.name.as_bytes());
        hasher.field(block);
        let key = hasher.finish();
        let found = pieces.get(&key, origin, out);
        if found != Found::Nothing {
            let smaller = match out.pop() {
                Some(SMALLER) => Some(true),
                Some(NOT_SMALLER) if out.is_empty() => Some(false),
                _ => None,
            };
            match (found, smaller) {
                (Found::Whole, Some(smaller)) => return Ok(smaller),
                (Found::Foreign, Some(smaller))
                    if self.foreign.is_right(block, smaller.then_some(&*out), &mut self.encoder) =>
                {
                    pieces.accept(&key, origin, &kept(smaller, out)).map_err(io::Error::other)?;
                    return Ok(smaller);
                }
                (Found::Foreign, _) => pieces.refuse(origin),
                _ => {}
            }
        }
        out.clear();
        let smaller = self.encoder.encode(block, out)?;
        pieces.put(&key, origin, &kept(smaller, out)).map_err(io::Error::other)?;
        Ok(smaller)
    }
}

/// A piece of a block that got smaller or not.
fn kept(smaller: bool, out: &[u8]) -> [&[u8]; 2] {
    if smaller { [out, &[SMALLER]] } else { [&[], &[NOT_SMALLER]] }
}

fn work(queue: &Mutex<Receiver<Job>>, worker: &mut Worker<'_>) {
    loop {
        // The lock is held while waiting: only one thread can be the next to get a block anyway.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, origin, mut out, answer }) = job else { return };
        let packed = worker.encode(&block, origin, &mut out).map(|compressed| {
            let (bytes, spare) = if compressed { (out, block) } else { (block, out) };
            Packed { bytes, compressed, spare }
        });
        // Nobody waits for it any more if the writer failed.
        let _ = answer.send(packed);
    }
}
