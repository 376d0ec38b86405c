//! The peak of memory while a large image is built, which must not depend on its size.

use std::io::{self, Read, Write};
use std::path::Path;

use moby::store::manifest::{ImageConfig, Manifest, RootFs, RunConfig, media_type};
use moby::store::{Descriptor, Hasher, Store};

use super::place::{Ended, Place};

/// What a build may use, in KiB.
const LIMIT: u64 = 64 << 10;
/// Bytes of files in the image.
const SIZE: u64 = 600 << 20;
/// Enough files that each one's record counts.
const FILES: u64 = 2400;

/// Half noise, half text that compresses, without holding either.
struct Content {
    state: u64,
    text: bool,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for piece in buffer.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let mut bytes = self.state.to_le_bytes();
            if self.text {
                bytes = bytes.map(|byte| b"eetaoin s"[usize::from(byte % 9)]);
            }
            piece.copy_from_slice(&bytes[..piece.len()]);
        }
        Ok(buffer.len())
    }
}

/// Hashes on the way to another writer.
struct Hashing<W>(W, Hasher, u64);

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1.update(&bytes[..count]);
        self.2 += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Puts an image of `SIZE` bytes into a store: two layers, each compressed as registries have them.
fn put(store: &Store, name: &str) {
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for half in 0..2 {
        let blob = Hashing(store.blob_writer().unwrap(), Hasher::new(), 0);
        let gzip = flate2::write::GzEncoder::new(blob, flate2::Compression::fast());
        let mut tar = tar::Builder::new(Hashing(gzip, Hasher::new(), 0));
        for number in (0..FILES).filter(|number| number % 2 == half) {
            // Sizes from nothing to several times the mean, one of them large.
            let size = if number == 7 { SIZE / 8 } else { (SIZE - SIZE / 8) / FILES * 2 * (number % 100) / 99 };
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(0o644);
            let mut content = Content { state: number + 1, text: number % 3 == 0 };
            let content = Read::by_ref(&mut content).take(size);
            tar.append_data(&mut header, format!("data/{}/file-{number}", number / 100), content).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        diff_ids.push(tar.1.finish());
        let Hashing(blob, _, size) = tar.0.finish().unwrap();
        let (digest, _) = blob.commit(None).unwrap();
        layers.push(Descriptor::new(media_type::LAYER_GZIP, digest, size));
    }
    let document =
        |kind: &str, bytes: Vec<u8>| Descriptor::new(kind, store.put_bytes(&bytes).unwrap(), bytes.len() as u64);
    let rootfs = RootFs { kind: "layers".into(), diff_ids };
    let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), config: RunConfig::default(), rootfs };
    let config = document(media_type::CONFIG, serde_json::to_vec(&config).unwrap());
    let manifest = Manifest { schema_version: 2, media_type: media_type::MANIFEST.into(), config, layers };
    let manifest = document(media_type::MANIFEST, serde_json::to_vec(&manifest).unwrap());
    store.set_name(name, manifest).unwrap();
}

/// Runs a build and gives the most memory that it ever had, in KiB, as the kernel counted it.
fn peak(place: &Place, arguments: &[&str], threads: &str) -> u64 {
    // A process that has ended and was not waited for still has its status, but no longer its memory; so the peak is
    // asked for while it runs, often enough: it only grows.
    let mut build = place.command(["build", "--arch", "amd64"].iter().chain(arguments));
    let mut child = build
        .env("RAYON_NUM_THREADS", threads)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(of_status(Path::new(&status)));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Ended::of(child.wait_with_output().unwrap()).well();
    assert!(peak > 0, "nothing was measured");
    peak
}

fn of_status(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn memory_does_not_grow_with_the_image() {
    let place = Place::in_target();
    put(&place.store, "docker.io/library/large:1");
    place.write("large.yml", "init: [\"large:1\"]\nservices: [{name: again, image: \"large:1\"}]\n");
    let mut shown = String::new();
    let mut worst = 0;
    for (what, arguments, threads) in [
        ("inflate and tar", &["-o", "large.tar", "large.yml"][..], "2"),
        ("initrd, zstd, 16 threads", &["--name", "zstd", "large.yml"], "16"),
        ("initrd, zstd, second time", &["--name", "zstd", "large.yml"], "2"),
        ("initrd, gzip, 16 threads", &["--name", "gzip", "--compression", "gzip:1", "large.yml"], "16"),
        ("one archive", &["-f", "tar-kernel-initrd", "large.yml"], "2"),
    ] {
        let peak = peak(&place, arguments, threads);
        shown += &format!("{what}: {peak} KiB\n");
        worst = worst.max(peak);
    }
    println!("{shown}");
    assert!(worst < LIMIT, "more than {LIMIT} KiB:\n{shown}");
}
