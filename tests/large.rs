//! Roots that are larger than memory, and larger than 4 GiB: built within 64 MiB, booted, and read to their end.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "formats/judge.rs"]
mod judge;
mod support;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use judge::judge;
use support::images::{LINE, as_disk, started};
use support::machine::{BOOT, command, moby};

/// What stands behind the first 6 GiB of the large file, and what a machine prints that reads it there.
const END: &str = "large: this is its end\n";
const SIZE: u64 = 6 << 30;
/// Of a build, in KiB.
const LIMIT: u64 = 64 << 10;

/// A folder for images, and a blueprint: the smallest one with a large file in the root.
struct Large {
    dir: tempfile::TempDir,
    blueprints: Vec<PathBuf>,
}

impl Large {
    fn new(write: impl FnOnce(&mut fs::File)) -> Large {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let file = dir.path().join("file");
        write(&mut fs::File::create(&file).unwrap());
        let minimal = fs::read_to_string("blueprints/minimal.yml").unwrap();
        let minimal = minimal.replace("@pkg:..", concat!("@pkg:", env!("CARGO_MANIFEST_DIR")));
        let blueprint = dir.path().join("large.yml");
        let files = format!("files:\n  - path: large\n    source: {}\n", text(&file));
        fs::write(&blueprint, minimal + &files).unwrap();
        Large { dir, blueprints: vec![blueprint] }
    }

    /// One file of 6 GiB, most of which is nothing: images are small, but every index is that of 6 GiB. A service reads
    /// its end.
    fn of_six_gibibytes(root: &str) -> Large {
        let reader = format!(
            "root: {root}\nonboot:\n  - name: end\n    image: \"@pkg:{}/components/getty\"\n    \
             command: [/bin/busybox, dd, if=/hostroot/large, bs=1M, skip={}, status=none]\n    capabilities: []\n    \
             binds: [\"/:/hostroot:ro\"]\n    devices: []\n    net: new\n    pid: new\n    readonly: true\n",
            env!("CARGO_MANIFEST_DIR"),
            SIZE >> 20
        );
        let mut large = Large::new(|file| {
            file.seek(SeekFrom::Start(SIZE)).unwrap();
            file.write_all(END.as_bytes()).unwrap();
        });
        // As a blueprint of its own: of two lists in one, the second is a mistake.
        let path = large.dir.path().join("reader.yml");
        fs::write(&path, reader).unwrap();
        large.blueprints.push(path);
        large
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn words<'a>(&'a self, format: &'a str, out: &'a Path) -> Vec<&'a str> {
        let words = ["build", "--arch", "amd64", "--dir", text(out), "--name", "m", "--format", format];
        words.into_iter().chain(self.blueprints.iter().map(|path| text(path))).collect()
    }

    /// Builds a format, and fails if that takes more memory than any build may have.
    fn build(&self, format: &str) {
        let peak = peak(&self.words(format, &self.out()));
        println!("{format}: a peak of {peak} KiB");
        assert!(peak < LIMIT, "{format}: a peak of {peak} KiB");
    }

    /// Builds a format and boots one of its files, in each of the ways; what was built goes away.
    fn build_and_boot(&self, format: &str, file: &str, ways: &[&[&str]]) {
        self.build(format);
        let path = self.out().join(file);
        for (archive, member) in [("m.img.tar.gz", "disk.raw"), ("m.ova", "m-disk1.vmdk")] {
            let archive = self.out().join(archive);
            if archive.is_file() {
                judge("tar", ["-xSf", text(&archive), "-C", text(&self.out()), member]);
            }
        }
        ways.iter().for_each(|way| boots(&path, way));
        fs::remove_dir_all(self.out()).unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Boots an image until a service has read the end of the large file.
fn boots(path: &Path, more: &[&str]) {
    if let Some((mut machine, _state)) = started("amd64", path, more) {
        machine.expect(LINE, BOOT);
        machine.expect(END.trim_end(), BOOT);
    }
}

/// Runs `moby` and gives the most memory that it ever had, in KiB. Asked for while it runs: what has ended has none.
fn peak(arguments: &[&str]) -> u64 {
    let mut child = command(arguments).env("RAYON_NUM_THREADS", "16").spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert!(ended.success() && peak > 0);
    peak
}

/// Peaks of memory with a file of 512 MiB, half of it noise. It only has to be several times the limit.
#[test]
fn roots_larger_than_memory() {
    let write = |file: &mut fs::File| {
        let mut noise = judge::noise(1, 8 << 20);
        for round in 0..32u8 {
            noise.iter_mut().step_by(512).for_each(|byte| *byte ^= round);
            file.write_all(&noise).unwrap();
            file.seek(SeekFrom::Current(8 << 20)).unwrap();
        }
        file.write_all(b"end").unwrap();
    };
    let large = Large::new(write);
    for format in ["kernel+squashfs", "kernel+erofs", "iso", "oci"] {
        large.build(format);
        fs::remove_dir_all(large.out()).unwrap();
    }
}

#[test]
fn erofs_of_six_gibibytes_on_disks() {
    let large = Large::of_six_gibibytes("{type: erofs}");
    large.build_and_boot("raw-efi", "m-efi.img", &[&[]]);
    large.build_and_boot("qcow2-efi", "m-efi.qcow2", &[&[]]);
    large.build_and_boot("qcow2", "m-hybrid.qcow2", &[&[], &["--uefi"]]);
    large.build_and_boot("kernel+erofs", "m", &[&[]]);
    large.build("erofs");
    judge("fsck.erofs", [text(&large.out().join("m.erofs"))]);
}

#[test]
fn squashfs_of_six_gibibytes_on_disks() {
    let large = Large::of_six_gibibytes("{type: squashfs}");
    large.build_and_boot("raw", "m.img", &[&[], &["--uefi"]]);
    large.build_and_boot("raw-bios", "m-bios.img", &[&[]]);
    large.build_and_boot("qcow2-bios", "m.qcow2", &[&[]]);
    large.build_and_boot("kernel+squashfs", "m", &[&[]]);
    large.build("squashfs");
    judge("unsquashfs", ["-lls", text(&large.out().join("m.squashfs"))]);
}

#[test]
fn roots_of_six_gibibytes_for_clouds_and_hypervisors() {
    let large = Large::of_six_gibibytes("{type: erofs}");
    for (format, file) in [
        ("vhd", "m.vhd"),
        ("dynamic-vhd", "m-dynamic.vhd"),
        ("azure", "m-azure.vhd"),
        ("vhdx", "m.vhdx"),
        ("vmdk", "m.vmdk"),
        ("ova", "m-disk1.vmdk"),
        ("aws", "m.raw"),
        ("gcp", "disk.raw"),
    ] {
        large.build_and_boot(format, file, &[&[]]);
    }
}

#[test]
fn roots_of_six_gibibytes_on_cds() {
    let large = Large::of_six_gibibytes("{type: erofs}");
    // The root is the CD itself.
    large.build_and_boot("iso-bios", "m.iso", &[&[]]);
    large.build_and_boot("kernel+iso", "m", &[&[]]);
    // The root is a partition of the CD.
    large.build_and_boot("iso-efi", "m-efi.iso", &[&[]]);
    large.build("iso");
    let iso = large.out().join("m-hybrid.iso");
    boots(&iso, &[]);
    boots(&iso, &["--uefi"]);
    boots(&as_disk(&iso), &["--uefi"]);
}

/// What unpacks its root to memory says so, and what to do, before it begins.
#[test]
fn initrds_of_six_gibibytes_are_refused() {
    let large = Large::of_six_gibibytes("{type: initrd}");
    let out = large.out();
    let refused = moby(large.words("raw-efi", &out));
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    for expected in ["raw-efi: /large has 6442450967 bytes", "iso-efi", "root: {type: erofs}"] {
        assert!(refused.stderr.contains(expected), "{expected}: {}", refused.stderr);
    }
    assert!(!out.exists());
}
