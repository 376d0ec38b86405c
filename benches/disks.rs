//! Every disk format against `qemu-img convert`: times and sizes on one sparse raw disk. Times are elapsed and, as
//! other work on the machine does not show in them, of the processor.
//!
//!     cargo bench --bench disks [-- [RAW_DISK] [FORMAT...]]
//!
//! Without formats, all; without a disk, one of 6 GiB is made with 400 MB of this machine's own programs and libraries.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use moby::error::Result;
use moby::formats::disk::{Identity, Output, RawFile};
use moby::formats::{gcp, ova, qcow2, vhd, vhdx, vmdk};
use moby::store::Digest;

const DATA: u64 = 400_000_000;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let given = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (disks, only): (Vec<_>, Vec<_>) = given.partition(|argument| Path::new(argument).is_file());
    let raw = disks.first().map_or_else(|| make_disk(folder.path()), PathBuf::from);
    let disk = RawFile::open(&raw).expect("the disk");
    let identity = Identity::from_digest(&Digest::of(b"bench"));
    let vmdk_options = vmdk::Options::new(identity);
    let started = Instant::now();
    Identity::of(&disk).expect("an identity");
    println!("identity of the disk: {:.2} s", started.elapsed().as_secs_f64());
    println!(
        "{:<14} {:>8} {:>8} {:>6}  {:>8} {:>8} {:>6}  {:>8} {:>8} {:>6}",
        "format", "moby s", "qemu s", "ratio", "moby cpu", "qemu cpu", "ratio", "MB", "qemu MB", "ratio"
    );

    let bench = |name: &str, qemu: &[&str], write: &dyn Fn(Output<'_>, &File) -> Result<u64>| {
        if !only.is_empty() && !only.iter().any(|one| one == name) {
            return;
        }
        // The best of three each, in turns: other work on the machine hits both.
        let mut best = [f64::MAX; 2];
        let mut least = [f64::MAX; 2];
        let mut sizes = [0; 2];
        for _ in 0..3 {
            for who in 0..2 {
                let target = folder.path().join("target");
                let _ = std::fs::remove_file(&target);
                let (started, before) = (Instant::now(), processor_time());
                if who == 0 {
                    let file = File::create(&target).expect("a file");
                    write(Output::new(&file, &target).expect("an empty file"), &file).expect(name);
                } else if let Some((program, arguments)) = qemu.split_first() {
                    let mut command = Command::new(program);
                    for argument in arguments {
                        command.arg(match *argument {
                            "RAW" => raw.as_os_str(),
                            "TARGET" => target.as_os_str(),
                            other => other.as_ref(),
                        });
                    }
                    assert!(command.status().is_ok_and(|status| status.success()), "{command:?}");
                } else {
                    continue;
                }
                best[who] = best[who].min(started.elapsed().as_secs_f64());
                least[who] = least[who].min(processor_time() - before);
                // Length of compact formats, room on disk of those that are as long as the disk.
                let metadata = std::fs::metadata(&target).expect("the target");
                sizes[who] = metadata.len().min(metadata.blocks() * 512);
            }
        }
        let megabytes = sizes.map(|size| size as f64 / 1e6);
        print!("{name:<14}");
        for [ours, theirs] in [best, least, megabytes] {
            match qemu.is_empty() {
                true => print!(" {ours:>8.2} {:>8} {:>6} ", "", ""),
                false => print!(" {ours:>8.2} {theirs:>8.2} {:>6.3} ", ours / theirs),
            }
        }
        println!();
    };
    let convert = |options: &[&'static str]| {
        let mut all = vec!["qemu-img", "convert", "-f", "raw"];
        all.extend(options);
        all.extend(["RAW", "TARGET"]);
        all
    };
    let qcow2_with = |compression| {
        let options = qcow2::Options { compression };
        let disk = &disk;
        move |output: Output<'_>, _: &File| qcow2::write(disk, output, &options)
    };
    bench("qcow2", &convert(&["-O", "qcow2"]), &qcow2_with(None));
    bench("qcow2 zlib", &convert(&["-O", "qcow2", "-c"]), &qcow2_with(Some(qcow2::Compression::ZLIB)));
    bench(
        "qcow2 zstd",
        &convert(&["-O", "qcow2", "-c", "-o", "compression_type=zstd"]),
        &qcow2_with(Some(qcow2::Compression::ZSTD)),
    );
    bench("vmdk stream", &convert(&["-O", "vmdk", "-o", "subformat=streamOptimized"]), &|_, file| {
        vmdk::write_stream(&disk, BufWriter::with_capacity(1 << 20, file), &vmdk_options)
    });
    bench("vmdk sparse", &convert(&["-O", "vmdk"]), &|output, _| vmdk::write_sparse(&disk, output, &vmdk_options));
    let vhd_with = |kind| {
        let options = vhd::Options { kind, identity, time: 0, azure: false };
        let disk = &disk;
        move |output: Output<'_>, _: &File| vhd::write(disk, output, &options)
    };
    bench("vhd fixed", &convert(&["-O", "vpc", "-o", "subformat=fixed,force_size=on"]), &vhd_with(vhd::Kind::Fixed));
    bench("vhd dynamic", &convert(&["-O", "vpc", "-o", "force_size=on"]), &vhd_with(vhd::Kind::Dynamic));
    let vhdx_with = |kind| {
        let disk = &disk;
        move |output: Output<'_>, _: &File| vhdx::write(disk, output, &vhdx::Options { kind, identity })
    };
    bench("vhdx fixed", &convert(&["-O", "vhdx", "-o", "subformat=fixed"]), &vhdx_with(vhdx::Kind::Fixed));
    bench("vhdx dynamic", &convert(&["-O", "vhdx"]), &vhdx_with(vhdx::Kind::Dynamic));
    bench("ova", &[], &|output, _| {
        let options = ova::Options { machine: ova::Machine::new("bench"), vmdk: vmdk_options, time: 0 };
        ova::write(&disk, output, &options)
    });
    // tar takes the name from the file, and the disk is a whole number of GiB.
    let parent = raw.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let name = raw.file_name().unwrap_or_default().to_string_lossy().into_owned();
    bench("gcp", &["tar", "-C", &parent, "--format=oldgnu", "-Sczf", "TARGET", &name], &|_, file| {
        gcp::write(&disk, BufWriter::with_capacity(1 << 20, file), &gcp::Options::new(0))
    });
}

/// Seconds of processor time that this process and its ended children took (proc(5): utime, stime, cutime, cstime).
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc/self/stat");
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
    fields.skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A disk with files of /usr in pieces of up to 25 MB, 250 MB apart.
fn make_disk(folder: &Path) -> PathBuf {
    let path = folder.join("disk.raw");
    let disk = File::create(&path).expect("the disk");
    disk.set_len(6 << 30).expect("the disk's size");
    let (mut done, mut at) = (0, 1 << 20);
    let mut folders = vec![PathBuf::from("/usr/lib"), PathBuf::from("/usr/bin")];
    while let Some(folder) = folders.pop() {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        names.sort();
        for name in names {
            let Ok(metadata) = std::fs::symlink_metadata(&name) else { continue };
            if metadata.is_dir() {
                folders.push(name);
            } else if metadata.is_file() && done < DATA {
                let mut bytes = Vec::new();
                let read = File::open(&name).and_then(|file| file.take(25 << 20).read_to_end(&mut bytes));
                if read.is_err() {
                    continue;
                }
                disk.write_all_at(&bytes, at).expect("writing the disk");
                done += bytes.len() as u64;
                let piece = at / 250_000_000;
                at = (at + bytes.len() as u64).next_multiple_of(4096);
                if at / 25_000_000 % 10 != 0 {
                    at = (piece + 1) * 250_003_456 / 4096 * 4096;
                }
            }
        }
    }
    path
}
