//! VHD, the disk format of Virtual PC ("Virtual Hard Disk Image Format Specification" 1.0, Microsoft 2006).
//!
//! Taken by Azure (fixed only, a whole number of MiB: [`Options::azure`]), Hyper-V, XenServer and VirtualBox. The
//! fixed form is the raw disk with a footer of one sector; the dynamic form leaves out blocks of 2 MiB that are zero.
//!
//! Limits: dynamic disks end at 2040 GiB; no differencing disks. The geometry of cylinders, heads and sectors is
//! computed as the specification says, but readers are told by the creator's name to take the exact size instead.

mod format;
mod reader;
mod writer;

pub use format::{Footer, Geometry, Kind};
pub use reader::Reader;
pub use writer::{Options, write};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::disk::testing::{Pattern, content, same_bytes_always, survives, written};
    use crate::formats::disk::{Bytes, DiskImage, Identity};
    use crate::store::Digest;

    fn options(kind: Kind) -> Options {
        Options { kind, identity: Identity::from_digest(&Digest::of(b"test")), time: 1_000_000_000, azure: false }
    }

    #[test]
    fn round_trip_and_the_same_bytes() {
        for kind in [Kind::Fixed, Kind::Dynamic] {
            let bytes = same_bytes_always(|disk, output| write(disk, output, &options(kind)));
            let reader = Reader::open(Bytes(bytes)).unwrap();
            assert_eq!(reader.footer().kind, kind);
            assert!(content(&reader).unwrap() == Pattern::sample().bytes(), "{kind:?}");
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let image = |kind| Digest::of(&written(|output| write(&Pattern::sample(), output, &options(kind)))).hex();
        assert_eq!(image(Kind::Fixed)[..16], *"61be6a6ca6f3fa35", "the bytes of every fixed VHD changed");
        assert_eq!(image(Kind::Dynamic)[..16], *"c8302b4841b5f799", "the bytes of every dynamic VHD changed");
    }

    #[test]
    fn azure_wants_whole_mebibytes() {
        let options = Options { azure: true, ..options(Kind::Fixed) };
        let bytes = written(|output| write(&Pattern::sample(), output, &options));
        assert_eq!(bytes.len(), (10 << 20) + 512);
        assert_eq!(Reader::open(Bytes(bytes)).unwrap().size(), 10 << 20);
        let dynamic = Options { kind: Kind::Dynamic, ..options };
        let file = tempfile::tempfile().unwrap();
        let output = crate::formats::disk::Output::new(&file, std::path::Path::new("x")).unwrap();
        assert!(write(&Pattern::sample(), output, &dynamic).is_err());
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(
            kind in proptest::sample::select(vec![Kind::Fixed, Kind::Dynamic]),
            ruin in proptest::collection::vec((0usize..2048, proptest::num::u8::ANY), 0..6),
            repair: bool,
            cut in 0usize..3,
        ) {
            static IMAGES: std::sync::LazyLock<[Vec<u8>; 2]> = std::sync::LazyLock::new(|| {
                [Kind::Fixed, Kind::Dynamic].map(|kind| written(|o| write(&Pattern::sample(), o, &options(kind))))
            });
            let mut image = IMAGES[usize::from(kind == Kind::Dynamic)].clone();
            if repair && kind == Kind::Dynamic {
                // Damage behind a right checksum.
                for (at, value) in &ruin { image[*at] = *value; }
                format::seal(&mut image[..512], 64);
                format::seal(&mut image[512..1536], 36);
            }
            let open = |bytes| Reader::open(bytes).map(|reader| Box::new(reader) as Box<dyn DiskImage>);
            survives(&image, if repair { &[] } else { &ruin }, cut * 511, open);
        }
    }
}
