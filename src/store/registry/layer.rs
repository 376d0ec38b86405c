//! One layer, hashed and inflated while it arrives.
//!
//! The transfer writes the blob's temporary file; a thread inflates from the same file, as far as it is written. So
//! nothing is kept in memory, the network never waits for the decompressor, and a transfer that is resumed needs
//! nothing said to the other side. A channel between the two was the alternative: it needs memory, and it makes the
//! server wait, and some hang up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, IoContext, Result};
use crate::net::Sink;
use crate::store::{BlobWriter, PendingLayer, Store};

/// Takes a layer's compressed bytes; gives the blob and the inflated layer, neither of them in the store yet.
#[derive(Debug)]
pub(super) struct LayerSink {
    store: Store,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    writer: BlobWriter,
    growth: Growth,
    inflater: JoinHandle<Result<PendingLayer>>,
}

impl LayerSink {
    pub(super) fn new(store: &Store) -> Result<LayerSink> {
        Ok(LayerSink { store: store.clone(), running: Some(Running::start(store)?) })
    }

    /// Waits for the inflater. What it says counts only if the blob has the right digest.
    pub(super) fn finish(mut self) -> Result<(BlobWriter, Result<PendingLayer>)> {
        let Some(running) = self.running.take() else { return Err(Error::failed("the layer's transfer was given up")) };
        running.growth.set_end(End::Whole);
        let inflated =
            running.inflater.join().unwrap_or_else(|_| Err(Error::failed("the thread that inflates the layer failed")));
        Ok((running.writer, inflated))
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.growth.set_end(End::Broken);
            // Whatever it says, it is about bytes that do not count.
            let _ = running.inflater.join();
        }
    }
}

impl Drop for LayerSink {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Sink for LayerSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(running) = &mut self.running else { return Err(Error::failed("the layer's transfer was given up")) };
        running.writer.write_all(bytes).at("writing a blob in", self.store.root())?;
        running.growth.set_written(running.writer.size());
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.stop();
        self.running = Some(Running::start(&self.store)?);
        Ok(())
    }
}

impl Running {
    fn start(store: &Store) -> Result<Running> {
        let writer = store.blob_writer()?;
        let file = writer.file().try_clone().at("opening a blob in", store.root())?;
        let growth = Growth::default();
        let follower = Follower { file, growth: growth.clone(), position: 0 };
        let store = store.clone();
        let inflater = std::thread::Builder::new()
            .name("inflate".to_string())
            .stack_size(512 << 10)
            .spawn(move || store.inflate(follower))
            .map_err(|error| Error::failed(format!("starting a thread to inflate a layer: {error}")))?;
        Ok(Running { writer, growth, inflater })
    }
}

/// How much of a file is written, known to both sides.
#[derive(Clone, Debug, Default)]
struct Growth(Arc<(Mutex<State>, Condvar)>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    written: u64,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    Broken,
}

impl Growth {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_written(&self, written: u64) {
        self.state().written = written;
        self.0.1.notify_one();
    }

    fn set_end(&self, end: End) {
        self.state().end = Some(end);
        self.0.1.notify_one();
    }

    /// Waits until there is something behind `position`. Zero is the end of the file.
    fn available(&self, position: u64) -> io::Result<u64> {
        let mut state = self.state();
        loop {
            match state.end {
                Some(End::Broken) => return Err(io::Error::other("the transfer was given up")),
                _ if state.written > position => return Ok(state.written - position),
                Some(End::Whole) => return Ok(0),
                None => state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Reads a file behind its writer.
struct Follower {
    file: File,
    growth: Growth,
    position: u64,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = usize::try_from(self.growth.available(self.position)?).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(available);
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if count == 0 && wanted > 0 {
            return Err(io::Error::other("the temporary file became shorter"));
        }
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    fn tar_of(content: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, "x", content).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_layer_inflates_behind_its_transfer_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let tar = tar_of(&[7; 300_000]);
        let blob = zstd::encode_all(tar.as_slice(), 1).unwrap();
        let mut sink = LayerSink::new(&store).unwrap();
        sink.write(b"these bytes are thrown away").unwrap();
        sink.restart().unwrap();
        for piece in blob.chunks(100) {
            sink.write(piece).unwrap();
        }
        let (writer, inflated) = sink.finish().unwrap();
        assert_eq!(writer.commit(Some(&Digest::of(&blob))).unwrap().1, blob.len() as u64);
        inflated.unwrap().commit(Some(&Digest::of(&tar))).unwrap();
        assert!(store.inflated(&Digest::of(&tar)).is_some());
    }

    #[test]
    fn a_dropped_transfer_leaves_no_thread_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut sink = LayerSink::new(&store).unwrap();
        sink.write(&[0x1f, 0x8b, 8, 0]).unwrap();
        drop(sink);
        assert_eq!(std::fs::read_dir(folder.path().join("temporary")).unwrap().count(), 0);
    }
}
