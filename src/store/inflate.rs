//! Inflating what comes from outside, with an end: a few bytes of zstd can stand for a whole disk.
//!
//! Layers inflate while they arrive, before their digest is known, so that a digest that would be refused is no
//! protection. deflate gives at most 1,032 bytes for one, so that no gzip is ever refused below [`MOST`]; zstd (about
//! 30,000 for one) and xz (about 7,000) may do better than that for their first [`FREE`] bytes, which is what files of
//! zeros need.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layer::decompress;
use crate::error::Error;

/// Inflated bytes that need no justification.
const FREE: u64 = 1 << 30;
/// Beyond that, inflated bytes for each compressed one.
const RATIO: u64 = 1100;
/// Inflated bytes in all. Nobody builds systems with layers of this size.
const MOST: u64 = 256 << 30;

/// What a stream may inflate to, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct InflationLimit {
    free: u64,
    ratio: u64,
    most: u64,
}

impl Default for InflationLimit {
    fn default() -> Self {
        InflationLimit { free: FREE, ratio: RATIO, most: MOST }
    }
}

/// [`decompress`] with a limit; beyond it, reading fails with an error of exit status 3 inside.
pub(super) fn decompress_within<'a>(
    limit: InflationLimit,
    stream: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let taken = Arc::new(AtomicU64::new(0));
    let stream = decompress(Counted { stream, taken: taken.clone() })?;
    Ok(Box::new(Bounded { stream, taken, inflated: 0, limit }))
}

/// Counts what is read of the compressed stream.
struct Counted<R> {
    stream: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

struct Bounded<R> {
    stream: R,
    taken: Arc<AtomicU64>,
    inflated: u64,
    limit: InflationLimit,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.inflated += count as u64;
        let taken = self.taken.load(Ordering::Relaxed);
        let InflationLimit { free, ratio, most } = self.limit;
        if self.inflated > most {
            return Err(io::Error::other(Error::refused(format!(
                "compressed data inflates to more than {most} bytes"
            ))));
        }
        if self.inflated > free && self.inflated / ratio > taken {
            let inflated = self.inflated;
            return Err(io::Error::other(
                Error::refused(format!(
                    "the first {taken} bytes of compressed data inflate to {inflated}, over {ratio} times as many"
                ))
                .hint("if these are honest files of zeros, compress it with gzip"),
            ));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::store::Store;

    const LIMIT: InflationLimit = InflationLimit { free: 1 << 20, ratio: RATIO, most: 64 << 20 };

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn inflate(bytes: &[u8]) -> Result<u64, String> {
        let mut stream = decompress_within(LIMIT, bytes).unwrap();
        io::copy(&mut stream, &mut io::sink()).map_err(|error| error.to_string())
    }

    #[test]
    fn gzip_is_never_too_good_and_zstd_may_be() {
        let zeros = vec![0; 40 << 20];
        assert_eq!(inflate(&gzip(&zeros)), Ok(40 << 20));
        assert_eq!(inflate(&zstd::encode_all(&zeros[..1 << 20], 3).unwrap()), Ok(1 << 20));
        let error = inflate(&zstd::encode_all(zeros.as_slice(), 3).unwrap()).unwrap_err();
        assert!(error.contains("over 1100 times as many"), "{error}");
        let error = inflate(&[gzip(&zeros), gzip(&zeros)].concat()).unwrap_err();
        assert!(error.contains("more than 67108864 bytes"), "{error}");
    }

    #[test]
    fn a_layer_that_is_refused_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(40 << 20);
        builder.append_data(&mut header, "zeros", io::repeat(0).take(40 << 20)).unwrap();
        let tar = builder.into_inner().unwrap();
        let blob = zstd::encode_all(tar.as_slice(), 3).unwrap();
        let error = store.inflate_within(LIMIT, blob.as_slice()).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Refused);
        assert!(error.message().contains("over 1100 times as many"), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("gzip")));
        assert_eq!(std::fs::read_dir(folder.path().join("temporary")).unwrap().count(), 0);
        store.inflate(blob.as_slice()).unwrap();
    }
}
