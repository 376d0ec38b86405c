//! Sources at known places of an image, read and checked on several threads while the image is written in order.
//!
//! Memory: 1.5 MiB for each thread. The bytes do not depend on the number of threads.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::source::{Sequential, Source};
use crate::error::{Error, Result};
use crate::rootfs::write_error;

/// Bytes that a thread hands over at once.
const CHUNK: usize = 256 << 10;
/// Chunks of one job that wait to be written.
const WAITING: usize = 4;
/// Bytes of small sources that are one job. A larger source is a job of its own.
const JOB: u64 = 1 << 20;
/// Fewer bytes than this are not worth threads.
const WORTH: u64 = 4 << 20;
/// At most so many threads: the one that writes is what the others wait for, and each takes memory.
const THREADS: usize = 4;

/// A source and its place in the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    /// Where it starts.
    pub position: u64,
    /// What it is.
    pub source: &'a dyn Source,
}

impl Part<'_> {
    fn end(&self) -> u64 {
        self.position + self.source.size()
    }
}

/// Writes parts, which stand in the order of their places, and zeros between them.
pub(super) fn write(out: &mut Sequential<'_>, parts: &[Part<'_>]) -> Result<()> {
    let bytes = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.source.size()));
    let threads = rayon::current_num_threads().min(THREADS);
    if threads == 1 || bytes < WORTH {
        return parts.iter().try_for_each(|part| {
            out.zeros_to(part.position)?;
            out.source(part.source)
        });
    }
    let jobs = jobs(parts);
    let (senders, receivers): (Vec<_>, Vec<_>) = jobs.iter().map(|_| sync_channel(WAITING)).unzip();
    let queue = Mutex::new(jobs.iter().zip(senders));
    let spare = Spare::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // Taken in order, so that the one that is to be written next is always under way.
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((job, sender)) = next else { return };
                    let parts = parts.get(job.clone()).unwrap_or_default();
                    if let Err(error) = read(parts, &sender, &spare) {
                        // Nobody waits for it any more if another one failed before.
                        let _ = sender.send(Err(error));
                        return;
                    }
                }
            });
        }
        // Moved, so that threads that wait to hand something over end with an error.
        for (job, receiver) in jobs.iter().zip(receivers) {
            let parts = parts.get(job.clone()).unwrap_or_default();
            let (Some(first), Some(last)) = (parts.first(), parts.last()) else { continue };
            out.zeros_to(first.position)?;
            for chunk in receiver {
                let chunk: Vec<u8> = chunk?;
                out.bytes(&chunk)?;
                spare.give(chunk);
            }
            if out.position() != last.end() {
                return Err(Error::failed("a thread that reads files for an image ended early"));
            }
        }
        Ok(())
    })
}

/// Runs of parts that are read by one thread.
fn jobs(parts: &[Part<'_>]) -> Vec<Range<usize>> {
    let mut jobs: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (index, part) in parts.iter().enumerate() {
        bytes += part.source.size();
        match jobs.last_mut().filter(|_| bytes <= JOB) {
            Some(job) => job.end = index + 1,
            None => {
                jobs.push(index..index + 1);
                bytes = part.source.size();
            }
        }
    }
    jobs
}

/// Reads the parts of a job and hands them over, with the zeros between them.
fn read(parts: &[Part<'_>], sender: &SyncSender<Result<Vec<u8>>>, spare: &Spare) -> Result<()> {
    let start = parts.first().map_or(0, |part| part.position);
    let mut chunks = Chunks { sender, spare, chunk: spare.take() };
    let mut out = Sequential::new(&mut chunks);
    for part in parts {
        out.zeros_to(part.position - start)?;
        out.source(part.source)?;
    }
    chunks.flush().map_err(write_error)?;
    spare.give(chunks.chunk);
    Ok(())
}

/// Hands over what is written to it.
struct Chunks<'a> {
    sender: &'a SyncSender<Result<Vec<u8>>>,
    spare: &'a Spare,
    chunk: Vec<u8>,
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK {
            self.flush()?;
        }
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, self.spare.take());
        self.sender.send(Ok(chunk)).map_err(|_| io::Error::other("the image is not written any further"))
    }
}

/// Chunks to be used again: faulting in new memory for each costs as much as copying it.
#[derive(Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        known.unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    fn give(&self, mut chunk: Vec<u8>) {
        chunk.clear();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Content;
    use crate::store::Digest;

    fn with_threads(threads: usize, sources: &[(u64, Content)]) -> Result<Vec<u8>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let parts: Vec<Part<'_>> =
                sources.iter().map(|(position, source)| Part { position: *position, source }).collect();
            let mut bytes = Vec::new();
            write(&mut Sequential::new(&mut bytes), &parts).map(|()| bytes)
        })
    }

    fn sources() -> Vec<(u64, Content)> {
        let mut position = 0u64;
        let sizes = [3, 2_000_000, 0, 700_000, 700_000, 5000, 1 << 20, 262_144, 3_000_000, 1];
        let sizes = sizes.into_iter().chain(std::iter::repeat_n(900, 2000));
        let place = |(number, size): (usize, usize)| {
            let content = (0..size).map(|at| (at / 7 + number) as u8).collect::<Vec<u8>>();
            let at = position + 100;
            position = at + size as u64;
            (at, Content::bytes(content))
        };
        sizes.enumerate().map(place).collect()
    }

    #[test]
    fn the_bytes_are_those_of_one_thread() {
        let sources = sources();
        let expected = with_threads(1, &sources).unwrap();
        let (last, content) = sources.last().unwrap();
        assert_eq!(expected.len() as u64, last + content.size);
        for threads in [2, 16] {
            assert!(with_threads(threads, &sources).unwrap() == expected, "{threads}");
        }
    }

    #[test]
    fn damage_anywhere_ends_it() {
        for damaged in [0, 1, 8, 2009] {
            let mut sources = sources();
            sources[damaged].1.digest = Digest::of(b"other");
            for threads in [1, 3] {
                let error = with_threads(threads, &sources).unwrap_err();
                assert!(error.message().contains("is damaged"), "{error:?}");
            }
        }
    }

    #[test]
    fn places_that_overlap_are_refused() {
        let mut sources = sources();
        sources[4].0 -= 200;
        for threads in [1, 4] {
            assert!(with_threads(threads, &sources).is_err());
        }
    }
}
