//! VHDX, Hyper-V's disk format (MS-VHDX, "Virtual Hard Disk v2 (VHDX) File Format").
//!
//! Taken by Hyper-V of the second generation, Azure Stack, and readers such as QEMU and VirtualBox. Azure itself
//! takes VHD only.
//!
//! Limits: 64 TiB; sectors of 512 bytes to the guest, 4096 "physical"; no parents; the log is empty, and the reader
//! refuses a file whose log has to be replayed first.

mod checksum;
mod format;
mod reader;
mod writer;

pub use format::{Kind, Metadata};
pub use reader::Reader;
pub use writer::{Options, write};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::disk::testing::{Pattern, content, same_bytes_always, survives, written};
    use crate::formats::disk::{Bytes, DiskImage, Identity};
    use crate::store::Digest;

    fn options(kind: Kind) -> Options {
        Options { kind, identity: Identity::from_digest(&Digest::of(b"test")) }
    }

    #[test]
    fn round_trip_and_the_same_bytes() {
        for kind in [Kind::Fixed, Kind::Dynamic] {
            let bytes = same_bytes_always(|disk, output| write(disk, output, &options(kind)));
            let reader = Reader::open(Bytes(bytes)).unwrap();
            assert_eq!(reader.metadata().kind, kind);
            assert!(content(&reader).unwrap() == Pattern::sample().bytes(), "{kind:?}");
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let image = |kind| Digest::of(&written(|output| write(&Pattern::sample(), output, &options(kind)))).hex();
        assert_eq!(image(Kind::Fixed)[..16], *"062f1ca0089cd24d", "the bytes of every fixed VHDX changed");
        assert_eq!(image(Kind::Dynamic)[..16], *"f63b7debd5084749", "the bytes of every dynamic VHDX changed");
    }

    /// Behind every 4096 blocks of 1 MiB the table has an entry for a bitmap.
    #[test]
    fn tables_with_bitmap_entries() {
        let at = [0u64, (4 << 30) - 10, 9 << 30];
        let disk = Pattern::new(10 << 30, at.map(|at| (at, b"0123456789abcdef"[..].to_vec())).to_vec());
        let bytes = written(|output| write(&disk, output, &options(Kind::Dynamic)));
        let reader = Reader::open(Bytes(bytes)).unwrap();
        for at in at {
            let mut found = [0; 16];
            reader.read_at(&mut found, at).unwrap();
            assert_eq!(&found, b"0123456789abcdef", "{at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(
            area in proptest::sample::select(vec![0usize, 65_536, 196_608, 2 << 20, (2 << 20) + 65_536, 3 << 20]),
            ruin in proptest::collection::vec((0usize..300, proptest::num::u8::ANY), 0..6),
            repair: bool,
            cut in 0usize..3,
        ) {
            static IMAGE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
                written(|output| write(&Pattern::sample(), output, &options(Kind::Dynamic)))
            });
            let mut image = IMAGE.clone();
            for (at, value) in &ruin { image[area + at] = *value; }
            if repair {
                format::seal(&mut image[64 << 10..68 << 10]);
                format::seal(&mut image[192 << 10..256 << 10]);
            }
            let open = |bytes| Reader::open(bytes).map(|reader| Box::new(reader) as Box<dyn DiskImage>);
            survives(&image, &[], cut * 1_000_001, open);
        }
    }
}
