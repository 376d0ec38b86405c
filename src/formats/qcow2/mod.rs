//! qcow2, QEMU's disk format (docs/interop/qcow2.txt in QEMU's sources), version 3.
//!
//! Taken by QEMU, libvirt, Proxmox, OpenStack, oVirt, and by clouds that import images for KVM.
//!
//! Limits: the writer knows clusters of 64 KiB, 16 bit reference counts, no snapshots, backing files, encryption,
//! lazy reference counts, extended L2 entries or external data files, and the reader refuses all of these but the
//! first two. Compressed clusters need QEMU 5.1 for zstd; every QEMU reads zlib. A guest that rewrites a compressed
//! cluster stores it uncompressed.

mod format;
mod front;
mod reader;
mod writer;

pub use format::Compression;
pub use front::{Front, Placed};
pub use reader::Reader;
pub use writer::{Options, write, write_around};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::disk::testing::{Pattern, content, same_bytes_always, survives, written};
    use crate::formats::disk::{Bytes, DiskImage};
    use crate::store::Digest;

    const ALL: [Option<Compression>; 3] = [None, Some(Compression::Zlib(6)), Some(Compression::Zstd(3))];

    #[test]
    fn round_trip_and_the_same_bytes() {
        for compression in ALL {
            let bytes = same_bytes_always(|disk, output| write(disk, output, &Options { compression }));
            let reader = Reader::open(Bytes(bytes)).unwrap();
            assert!(content(&reader).unwrap() == Pattern::sample().bytes(), "{compression:?}");
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let image =
            |compression| Digest::of(&written(|o| write(&Pattern::sample(), o, &Options { compression }))).hex();
        // Compressed clusters change with the compressors' versions, which Cargo.lock pins.
        assert_eq!(image(None)[..16], *"55173ddb16fb9e11", "the bytes of every qcow2 image changed");
    }

    #[test]
    fn a_disk_of_zeros_is_metadata_only() {
        let bytes = written(|o| write(&Pattern::new(1 << 40, Vec::new()), o, &Options::default()));
        assert!(bytes.len() < 400_000, "{}", bytes.len());
        let reader = Reader::open(Bytes(bytes)).unwrap();
        assert_eq!((reader.size(), reader.next_data(0).unwrap()), (1 << 40, None));
    }

    #[test]
    fn far_apart_clusters() {
        let pieces = [0u64, 511 << 20, 512 << 20, 5 << 30].map(|at| (at, at.to_le_bytes().repeat(20).to_vec()));
        let mut pieces = pieces.to_vec();
        pieces[0].1.fill(1);
        let disk = Pattern::new(6 << 30, pieces.clone());
        for compression in ALL {
            let bytes = written(|o| write(&disk, o, &Options { compression }));
            let reader = Reader::open(Bytes(bytes)).unwrap();
            for (at, piece) in &pieces {
                let mut found = vec![0; piece.len()];
                reader.read_at(&mut found, *at).unwrap();
                assert!(found == *piece, "{at}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(
            which in 0usize..3,
            ruin in proptest::collection::vec((0usize..1200, proptest::num::u8::ANY), 0..6),
            table in proptest::collection::vec((65_536usize * 2..65_536 * 6, proptest::num::u8::ANY), 0..6),
            cut in 0usize..100_000,
        ) {
            static IMAGES: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
                ALL.map(|compression| written(|o| write(&Pattern::sample(), o, &Options { compression }))).to_vec()
            });
            let open = |bytes| Reader::open(bytes).map(|reader| Box::new(reader) as Box<dyn DiskImage>);
            survives(&IMAGES[which], &[ruin, table].concat(), cut % 3 * cut, open);
        }
    }
}
