//! The disk image that Google Compute Engine imports: one file `disk.raw` in a gzip-compressed tar of the old GNU
//! form, its holes left out (as `tar --format=oldgnu -Sczf`).
//!
//! Limits: the disk is rounded up to a whole number of GiB, as the import demands; a backup GPT belongs at the end of
//! the disk, so partitioned disks should have such a size from the start. Disks end at 1 TiB, which bounds the map of
//! holes.

mod format;
mod reader;
mod writer;

pub use reader::unpack;
pub use writer::{Options, write};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::formats::disk::testing::{Pattern, content};
    use crate::formats::disk::{Bytes, DiskImage, Output, RawFile};
    use crate::store::Digest;
    use std::path::Path;

    fn packed(disk: &dyn DiskImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = write(disk, &mut bytes, &Options { time: 1_000_000_000, level: 6 }).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    fn unpacked(bytes: &[u8], limit: u64) -> Result<RawFile> {
        let file = tempfile::tempfile().unwrap();
        unpack(bytes, Output::new(&file, Path::new("disk.raw"))?, limit)?;
        RawFile::new(file, Path::new("disk.raw"))
    }

    #[test]
    fn round_trip_and_the_same_bytes() {
        let first = packed(&Pattern::sample());
        for threads in [1, 2, 16] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| packed(&Bytes(Pattern::sample().bytes()))) == first, "{threads} threads");
        }
        let disk = unpacked(&first, 1 << 30).unwrap();
        assert_eq!(disk.size(), 1 << 30);
        let expected = Pattern::sample().bytes();
        let start = crate::formats::disk::Window::new(&disk, 0, expected.len() as u64).unwrap();
        assert!(content(&start).unwrap() == expected);
        assert!(unpacked(&first, (1 << 30) - 1).is_err());
    }

    /// More than the 4 runs of the header and the 21 of its first extension; a size that octal digits do not hold.
    #[test]
    fn many_runs_and_large_disks() {
        let pieces: Vec<_> = (1..60u64).map(|i| (i * i * (3 << 20), vec![i as u8; 5000])).collect();
        let disk = Pattern::new(11 << 30, pieces.clone());
        let back = unpacked(&packed(&disk), 11 << 30).unwrap();
        assert_eq!(back.size(), 11 << 30);
        for (at, piece) in pieces {
            let mut found = vec![0; piece.len() + 10];
            back.read_at(&mut found, at).unwrap();
            assert!(found[..5000] == piece && found[5000..] == [0; 10], "{at}");
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let bytes = packed(&Pattern::new(1 << 30, vec![(1 << 20, b"moby".to_vec())]));
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut tar).unwrap();
        assert_eq!(Digest::of(&tar).hex()[..16], *"5ec3318a4496e9bf", "the bytes of every image for GCP changed");
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(
            ruin in proptest::collection::vec((0usize..1024, proptest::num::u8::ANY), 0..6),
            repair: bool,
        ) {
            static TAR: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
                let pieces = (1..9u64).map(|i| (i << 20, vec![1; 5000])).collect();
                let mut tar = Vec::new();
                let bytes = packed(&Pattern::new(1 << 30, pieces));
                std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut tar).unwrap();
                tar
            });
            let mut tar = TAR.clone();
            for (at, value) in &ruin { tar[*at] = *value; }
            if repair { format::seal(&mut tar[..512]); }
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gzip, &tar).unwrap();
            let _ = unpacked(&gzip.finish().unwrap(), 1 << 31);
        }
    }
}
