//! Sources at known places of an image, read and checked on several threads while the image is written in order.
//!
//! Memory: 9 MiB, and 0.8 more for each thread. The bytes do not depend on the number of threads.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::source::{Sequential, Source};
use crate::error::{Error, Result};
use crate::rootfs::{Content, write_error};

/// Bytes that a thread hands over at once.
const CHUNK: usize = 256 << 10;
/// Chunks of all jobs that wait to be written. A file is hashed by one thread; with as little as 1 MiB of each that waits,
/// the others stand still while a large one is written, and 490 MB in files of up to 16 MiB take a quarter more time.
const WAITING: usize = 32;
/// Chunks that the job that is being written may have on top: all others may be of jobs behind it.
const FIRST: usize = 4;
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
    let (senders, receivers): (Vec<_>, Vec<_>) = jobs.iter().map(|_| channel()).unzip();
    let queue = Mutex::new(jobs.iter().zip(senders).enumerate());
    let (spare, room) = (Spare::default(), Room::default());
    std::thread::scope(|scope| {
        // Nobody waits for room when this ends, whatever it ends with.
        let _open = Open(&room);
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // Taken in order, so that the one that is to be written next is always under way.
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((number, (job, sender))) = next else { return };
                    let parts = parts.get(job.clone()).unwrap_or_default();
                    let (sender, chunk) = (&sender, spare.take());
                    let chunks = Chunks { number, sender, room: &room, spare: &spare, chunk, filled: 0 };
                    if let Err(error) = read(parts, chunks) {
                        // Nobody waits for it any more if another one failed before.
                        let _ = sender.send(Err(error));
                        return;
                    }
                }
            });
        }
        // Moved, so that threads that wait to hand something over end with an error.
        for (number, (job, receiver)) in jobs.iter().zip(receivers).enumerate() {
            room.writes(number);
            let parts = parts.get(job.clone()).unwrap_or_default();
            let (Some(first), Some(last)) = (parts.first(), parts.last()) else { continue };
            out.zeros_to(first.position)?;
            for chunk in receiver {
                let chunk: Vec<u8> = chunk?;
                out.bytes(&chunk)?;
                spare.give(chunk);
                room.written();
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
fn read(parts: &[Part<'_>], mut chunks: Chunks<'_>) -> Result<()> {
    let mut position = parts.first().map_or(0, |part| part.position);
    for part in parts {
        let Some(gap) = part.position.checked_sub(position) else {
            let message =
                format!("a part of an image starts at byte {}, and another ends at {position}", part.position);
            return Err(Error::failed(message));
        };
        Sequential::new(&mut chunks).zeros_to(gap)?;
        position = part.end();
        match part.source.content() {
            Some(content) => chunks.content(content)?,
            None => Sequential::new(&mut chunks).source(part.source)?,
        }
    }
    chunks.flush().map_err(write_error)?;
    chunks.spare.give(chunks.chunk);
    Ok(())
}

/// Hands over what is written to it.
struct Chunks<'a> {
    /// Of the job.
    number: usize,
    sender: &'a Sender<Result<Vec<u8>>>,
    room: &'a Room,
    spare: &'a Spare,
    /// [`CHUNK`] bytes.
    chunk: Vec<u8>,
    filled: usize,
}

impl Chunks<'_> {
    /// What is free of the chunk, which is something.
    fn free(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == CHUNK {
            self.flush()?;
        }
        Ok(self.chunk.get_mut(self.filled..).unwrap_or_default())
    }

    /// Reads content into the chunks themselves: through a buffer of its own a tenth of all time would go into copying.
    fn content(&mut self, content: &Content) -> Result<()> {
        let mut input = content.checked()?;
        loop {
            match input.next(self.free().map_err(write_error)?)? {
                0 => return Ok(()),
                count => self.filled += count,
            }
        }
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let free = self.free()?;
        let count = bytes.len().min(free.len());
        free[..count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.room.wait(self.number);
        let mut chunk = std::mem::replace(&mut self.chunk, self.spare.take());
        chunk.truncate(std::mem::take(&mut self.filled));
        self.sender.send(Ok(chunk)).map_err(|_| io::Error::other("the image is not written any further"))
    }
}

/// Bounds the chunks that wait.
#[derive(Default)]
struct Room {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    chunks: usize,
    /// The job that is being written.
    job: usize,
    over: bool,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when one more chunk of a job may wait, which it does from then on.
    fn wait(&self, job: usize) {
        let full = |waiting: &mut Waiting| {
            let first = if waiting.job == job { FIRST } else { 0 };
            waiting.chunks >= WAITING + first && !waiting.over
        };
        let mut waiting = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        waiting.chunks += 1;
    }

    fn writes(&self, job: usize) {
        self.lock().job = job;
        self.changed.notify_all();
    }

    fn written(&self) {
        self.lock().chunks -= 1;
        self.changed.notify_all();
    }
}

/// Lets everybody go on when it is dropped.
struct Open<'a>(&'a Room);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

/// Chunks to be used again: faulting in new memory for each costs as much as copying it.
#[derive(Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        known.unwrap_or_else(|| vec![0; CHUNK])
    }

    fn give(&self, mut chunk: Vec<u8>) {
        chunk.resize(CHUNK, 0);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        // The first begins a job; the second is in the middle of one.
        for overlapping in [4, 1000] {
            let mut sources = sources();
            sources[overlapping].0 -= 200;
            for threads in [1, 4] {
                assert!(with_threads(threads, &sources).is_err(), "{overlapping}");
            }
        }
    }
}
