//! VMDK, VMware's disk format ("Virtual Disk Format 5.0", VMware 2011), as one file.
//!
//! `streamOptimized` is what an OVA carries and what vSphere, Fusion, VirtualBox and the image import of AWS, GCP
//! and Azure take: grains compressed one by one, each behind a marker, written from start to end. `monolithicSparse`
//! is what Workstation and QEMU run from.
//!
//! Limits: grains of 64 KiB, one extent, no parent, no split or flat files, no ESX redo logs (COWD, SESparse). The
//! disk's size is rounded up to a grain, which vSphere insists on. Sector numbers in tables have 32 bits, so that a
//! file ends at 2 TiB.

mod descriptor;
mod format;
mod reader;
mod sparse;
mod stream;

pub use descriptor::{Adapter, Options};
pub use format::Header;
pub use reader::Reader;
pub use sparse::write_sparse;
pub use stream::write_stream;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::disk::testing::{Pattern, content, same_bytes_always, survives, written};
    use crate::formats::disk::{Bytes, DiskImage, Identity, Output};
    use crate::store::Digest;

    fn options() -> Options {
        Options::new(Identity::from_digest(&Digest::of(b"test")))
    }

    fn stream(disk: &dyn DiskImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = write_stream(disk, &mut bytes, &options()).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    fn sparse(disk: &dyn DiskImage, output: Output<'_>) -> crate::error::Result<u64> {
        write_sparse(disk, output, &options())
    }

    fn expected() -> Vec<u8> {
        let mut bytes = Pattern::sample().bytes();
        bytes.resize(bytes.len().next_multiple_of(65_536), 0);
        bytes
    }

    #[test]
    fn round_trip_and_the_same_bytes() {
        let bytes = same_bytes_always(sparse);
        assert!(content(&Reader::open(Bytes(bytes)).unwrap()).unwrap() == expected());

        let first = stream(&Pattern::sample());
        for threads in [1, 16] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| stream(&Bytes(Pattern::sample().bytes()))) == first, "{threads} threads");
        }
        assert!(content(&Reader::open(Bytes(first)).unwrap()).unwrap() == expected());
    }

    #[test]
    fn bytes_are_pinned() {
        let sparse = written(|output| sparse(&Pattern::sample(), output));
        assert_eq!(Digest::of(&sparse).hex()[..16], *"3eceb00501400812", "the bytes of every sparse VMDK changed");
        let empty = stream(&Pattern::new(1 << 30, Vec::new()));
        assert_eq!(Digest::of(&empty).hex()[..16], *"192aa7c70ee823d5", "the bytes of every VMDK changed");
        assert_eq!(empty.len(), 65_536 + 3 * 512 + 512 + 512, "GD marker, GD, footer marker, footer, end");
    }

    #[test]
    fn far_apart_grains() {
        let at = [65_536u64, (32 << 20) - 65_536, 64 << 20, 5 << 30];
        let disk = Pattern::new(6 << 30, at.map(|at| (at, vec![at.trailing_zeros() as u8; 70_000])).to_vec());
        for bytes in [stream(&disk), written(|output| sparse(&disk, output))] {
            let reader = Reader::open(Bytes(bytes)).unwrap();
            for at in at {
                let mut found = [0; 100];
                reader.read_at(&mut found, at + 69_900).unwrap();
                assert_eq!(found, [at.trailing_zeros() as u8; 100], "{at}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(
            streamed: bool,
            ruin in proptest::collection::vec((0usize..80, proptest::num::u8::ANY), 0..4),
            table in proptest::collection::vec((10_000usize..30_000, proptest::num::u8::ANY), 0..6),
            end in proptest::collection::vec((0usize..2600, proptest::num::u8::ANY), 0..4),
            cut in 0usize..3000,
        ) {
            static IMAGES: std::sync::LazyLock<[Vec<u8>; 2]> = std::sync::LazyLock::new(|| {
                let disk = Pattern::sample();
                [stream(&disk), written(|output| sparse(&disk, output))]
            });
            let image = &IMAGES[usize::from(!streamed)];
            let end: Vec<_> = end.iter().map(|(at, value)| (image.len() - 1 - at, *value)).collect();
            let open = |bytes| Reader::open(bytes).map(|reader| Box::new(reader) as Box<dyn DiskImage>);
            survives(image, &[ruin, table, end].concat(), cut % 3 * cut, open);
        }
    }
}
