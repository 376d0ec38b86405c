//! OVA, a virtual machine in one file (DMTF DSP0243, "Open Virtualization Format" 1.1, in a tar): the OVF descriptor,
//! a manifest of digests, and the disk as a `streamOptimized` VMDK.
//!
//! Taken by vSphere, Workstation, Fusion, VirtualBox, Proxmox, Nutanix, and by AWS VM Import.
//!
//! Limits: one disk, one network card, x86-64; the compressed disk ends at 8 GiB, the largest size that the
//! specification's ustar headers hold. No signature (`.cert`).

mod descriptor;
mod reader;
mod writer;

pub use descriptor::{Controller, Firmware, Machine, NetworkCard};
pub use reader::Package;
pub use writer::{Options, write};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::disk::testing::{Pattern, content, same_bytes_always, survives, written};
    use crate::formats::disk::{Bytes, DiskImage, Identity, Output};
    use crate::formats::vmdk;
    use crate::store::Digest;

    fn options() -> Options {
        let identity = Identity::from_digest(&Digest::of(b"test"));
        Options { machine: Machine::new("test"), vmdk: vmdk::Options::new(identity), time: 1_000_000_000 }
    }

    fn package(disk: &dyn DiskImage, output: Output<'_>) -> crate::error::Result<u64> {
        write(disk, output, &options())
    }

    #[test]
    fn round_trip_and_the_same_bytes() {
        let bytes = same_bytes_always(package);
        let package = Package::open(Bytes(bytes)).unwrap();
        package.verify().unwrap();
        assert!(package.descriptor().contains("<Name>test</Name>"));
        let found = content(&package.disk().unwrap()).unwrap();
        let expected = Pattern::sample().bytes();
        assert!(found[..expected.len()] == expected);
    }

    #[test]
    fn bytes_are_pinned() {
        let bytes = written(|output| package(&Pattern::new(1 << 30, Vec::new()), output));
        assert_eq!(Digest::of(&bytes).hex()[..16], *"706e446a3b14e1ab", "the bytes of every OVA changed");
    }

    #[test]
    fn damage_is_found() {
        let mut bytes = written(|output| package(&Pattern::sample(), output));
        let at = bytes.len() - 50_000;
        bytes[at] ^= 1;
        let error = Package::open(Bytes(bytes)).unwrap().verify().unwrap_err();
        assert!(error.message().contains("test-disk1.vmdk"), "{error}");
    }

    #[test]
    fn names_are_checked() {
        let file = tempfile::tempfile().unwrap();
        let output = Output::new(&file, std::path::Path::new("x")).unwrap();
        for name in ["", "a/b", "a\nb", "..", "ä", &"x".repeat(81)] {
            let machine = Machine { name: name.into(), ..Machine::new("x") };
            assert!(write(&Pattern::sample(), output, &Options { machine, ..options() }).is_err(), "{name:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(
            ruin in proptest::collection::vec((0usize..10_000, proptest::num::u8::ANY), 0..8),
            cut in 0usize..3,
        ) {
            static IMAGE: std::sync::LazyLock<Vec<u8>> =
                std::sync::LazyLock::new(|| written(|output| package(&Pattern::sample(), output)));
            let open = |bytes| {
                let package = Package::open(bytes)?;
                let _ = package.verify();
                package.into_disk().map(|disk| Box::new(disk) as Box<dyn DiskImage>)
            };
            survives(&IMAGE, &ruin, cut * 10_001, open);
        }
    }
}
