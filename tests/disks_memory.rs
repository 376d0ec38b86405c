//! Memory of the disk formats does not grow with the disk. A program of its own: the peak is that of the process.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::FileExt;

use moby::formats::disk::{Identity, Output, RawFile};
use moby::formats::{gcp, ova, qcow2, vhd, vhdx, vmdk};
use moby::store::Digest;

/// What a build may take, in KiB.
const LIMIT: u64 = 64 << 10;

/// Peak of the resident memory, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn six_gibibytes_in_64_mebibytes() {
    // Many threads: each has its compressor and its part of the allocator.
    rayon::ThreadPoolBuilder::new().num_threads(16).build_global().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    let file = File::create(&raw).unwrap();
    let size = 6u64 << 30;
    file.set_len(size).unwrap();
    let mut state = 1u32;
    let mut piece = vec![0; 1 << 20];
    for index in 0..96u64 {
        for bytes in piece.chunks_mut(4) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Half of it compresses.
            bytes.copy_from_slice(&(state >> (index % 2 * 24)).to_le_bytes());
        }
        file.write_all_at(&piece, index * (size / 96)).unwrap();
    }
    drop(piece);
    let disk = RawFile::open(&raw).unwrap();
    let identity = Identity::from_digest(&Digest::of(b"memory"));
    let vmdk_options = vmdk::Options::new(identity);
    let name = folder.path().join("target");
    let write = |what: &str, write: &dyn Fn(Output<'_>, &File)| {
        let file = File::create(&name).unwrap();
        write(Output::new(&file, &name).unwrap(), &file);
        let peak = peak();
        println!("{what}: {} MiB, peak {} MiB", file.metadata().unwrap().len() >> 20, peak >> 10);
        assert!(peak < LIMIT, "{what}: a peak of {peak} KiB");
    };
    write("identity", &|_, _| _ = Identity::of(&disk).unwrap());
    for compression in [None, Some(qcow2::Compression::ZLIB), Some(qcow2::Compression::ZSTD)] {
        write("qcow2", &|output, _| _ = qcow2::write(&disk, output, &qcow2::Options { compression }).unwrap());
    }
    write("vmdk stream", &|_, file| _ = vmdk::write_stream(&disk, BufWriter::new(file), &vmdk_options).unwrap());
    write("vmdk sparse", &|output, _| _ = vmdk::write_sparse(&disk, output, &vmdk_options).unwrap());
    for kind in [vhd::Kind::Fixed, vhd::Kind::Dynamic] {
        let options = vhd::Options { kind, identity, time: 0, azure: false };
        write("vhd", &|output, _| _ = vhd::write(&disk, output, &options).unwrap());
    }
    for kind in [vhdx::Kind::Fixed, vhdx::Kind::Dynamic] {
        let options = vhdx::Options { kind, identity };
        write("vhdx", &|output, _| _ = vhdx::write(&disk, output, &options).unwrap());
    }
    let options = ova::Options { machine: ova::Machine::new("memory"), vmdk: vmdk_options, time: 0 };
    write("ova", &|output, _| _ = ova::write(&disk, output, &options).unwrap());
    let options = gcp::Options { time: 0, level: 6 };
    write("gcp", &|_, file| _ = gcp::write(&disk, BufWriter::new(file), &options).unwrap());
}
