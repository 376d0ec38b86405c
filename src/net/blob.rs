//! Downloads into the store.

use std::io::Write;

use super::transfer::Sink;
use super::{Failure, Net, Progress, Reason, Request, parse_url, shown};
use crate::error::{Exit, IoContext, Result};
use crate::store::{BlobWriter, Digest, Store};
use crate::ui::Task;

/// Nothing larger is downloaded when the size is not known before: twice the largest Debian package.
const UNKNOWN_SIZE_LIMIT: u64 = 8 << 30;

impl Net {
    /// Downloads a URL into the store and returns its digest. A broken transfer is resumed. With `expected`, content
    /// of another digest is fetched once more, then refused (exit status 3); with `expected_size` (bytes), content of
    /// another size is refused. A blob that is there already, by digest, is not fetched.
    pub fn download_blob(
        &self,
        url: &str,
        store: &Store,
        expected: Option<&Digest>,
        expected_size: Option<u64>,
        task: &Task,
    ) -> Result<Digest, Failure> {
        if let Some(digest) = expected
            && let Ok(there) = store.open_blob(digest).and_then(|file| file.metadata().at("reading", store.root()))
            && there.is_file()
            && expected_size.is_none_or(|size| size == there.len())
        {
            return Ok(*digest);
        }
        let url = parse_url(url)?;
        let mut request = Request::get(&url, expected_size.unwrap_or(UNKNOWN_SIZE_LIMIT));
        request.size = expected_size;
        let attempt = || {
            let mut sink = BlobSink::new(store).map_err(Failure::local)?;
            self.transfer(&request, &mut Progress::default(), &mut sink, Some(task))?;
            sink.writer.commit(expected).map(|(digest, _)| digest).map_err(|error| match error.exit() {
                Exit::Refused => Failure::new(Reason::Corrupt, format!("{}: {}", shown(&url), error.message()))
                    .hint("the server, or something on the way to it, is damaged or lies; nothing was kept"),
                _ => Failure::local(error),
            })
        };
        match attempt() {
            Err(failure) if failure.reason() == Reason::Corrupt => attempt(),
            other => other,
        }
    }
}

/// A sink that becomes a blob.
#[derive(Debug)]
pub(crate) struct BlobSink {
    store: Store,
    pub(crate) writer: BlobWriter,
}

impl BlobSink {
    pub(crate) fn new(store: &Store) -> Result<BlobSink> {
        Ok(BlobSink { store: store.clone(), writer: store.blob_writer()? })
    }
}

impl Sink for BlobSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).at("writing a blob in", self.store.root())
    }

    fn restart(&mut self) -> Result<()> {
        self.writer = self.store.blob_writer()?;
        Ok(())
    }
}
