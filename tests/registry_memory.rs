//! Memory stays flat while a large image is pulled and pushed: a process of its own, so that its peak is measured.
//!
//! Needs Debian's packages docker-registry, skopeo, apache2-utils and openssl. `MOBY_TEST_IMAGE_MIB` makes the image
//! larger.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "registry/process.rs"]
mod process;

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

use moby::Arch;
use moby::net::Net;
use moby::store::registry::{ImageName, Registry};
use moby::store::{Digest, Hasher, Store};
use moby::ui::{Mode, Ui};

use process::DebianRegistry;

/// What the whole program may use, in KiB.
const LIMIT: u64 = 64 << 10;
const LAYERS: u64 = 8;

/// Bytes that do not compress, without holding them.
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for piece in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            piece.copy_from_slice(&self.0.to_le_bytes()[..piece.len()]);
        }
        Ok(buffer.len())
    }
}

/// Counts and hashes on the way to another writer.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Hashing<W> {
        Hashing { inner, hasher: Hasher::new(), size: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a layer of `size` bytes into `folder`: every other one with gzip. Returns its descriptor and diff ID.
fn write_layer(folder: &Path, number: u64, size: u64) -> (serde_json::Value, Digest) {
    let path = folder.join("layer");
    let gzip = number.is_multiple_of(2);
    let blob = Hashing::new(BufWriter::new(File::create(&path).unwrap()));
    let level = if gzip { flate2::Compression::fast() } else { flate2::Compression::none() };
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    let name = format!("large-{number}");
    let content = Noise(number + 1).take(size);
    let (blob, diff_id) = if gzip {
        let tar = Hashing::new(flate2::write::GzEncoder::new(blob, level));
        let mut builder = tar::Builder::new(tar);
        builder.append_data(&mut header, name, content).unwrap();
        let tar = builder.into_inner().unwrap();
        (tar.inner.finish().unwrap(), tar.hasher.finish())
    } else {
        let mut builder = tar::Builder::new(blob);
        builder.append_data(&mut header, name, content).unwrap();
        let blob = builder.into_inner().unwrap();
        let diff_id = blob.hasher.clone().finish();
        (blob, diff_id)
    };
    let size = blob.size;
    blob.inner.into_inner().unwrap().sync_all().unwrap();
    let digest = blob.hasher.finish();
    fs::rename(path, folder.join(digest.hex())).unwrap();
    let kind = format!("application/vnd.oci.image.layer.v1.tar{}", if gzip { "+gzip" } else { "" });
    (serde_json::json!({"mediaType": kind, "digest": digest, "size": size}), diff_id)
}

fn write_image(folder: &Path, size: u64) {
    let layers: Vec<_> = (0..LAYERS).map(|number| write_layer(folder, number, size / LAYERS)).collect();
    let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string();
    let digest = Digest::of(config.as_bytes());
    fs::write(folder.join(digest.hex()), &config).unwrap();
    let descriptors: Vec<_> = layers.iter().map(|(descriptor, _)| descriptor).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
        "layers": descriptors});
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(folder.join("version"), "Directory Transport Version: 1.1\n").unwrap();
}

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = BufReader::new(File::open("/proc/self/status").unwrap());
    let line = io::BufRead::lines(status).map(|line| line.unwrap()).find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_is_flat_whatever_the_size_of_the_image() {
    let size = std::env::var("MOBY_TEST_IMAGE_MIB").map_or(160, |text| text.parse::<u64>().unwrap()) << 20;
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::create_dir(&image).unwrap();
    write_image(&image, size);
    let server = DebianRegistry::start();
    let host = server.host();
    let (from, to) = (format!("dir:{}", image.display()), format!("docker://{host}/large:1"));
    server.skopeo(&["copy", "--preserve-digests", "--dest-creds", "me:secret", &from, &to]);
    fs::remove_dir_all(&image).unwrap();
    let before = peak();

    let store = Store::open(&folder.path().join("store")).unwrap();
    let net = Net::new(server.options(), &Ui::new(Mode::Quiet)).unwrap();
    let registry = Registry::new(&net);
    let name = |repository: &str| ImageName {
        registry: host.clone(),
        repository: repository.to_string(),
        tag: Some("1".to_string()),
        digest: None,
    };
    let start = Instant::now();
    let manifest = registry.pull(&store, &name("large"), Arch::Amd64).unwrap();
    let (pulled, after_pull) = (start.elapsed(), peak());
    let start = Instant::now();
    registry.push(&store, &name("copy"), &manifest).unwrap();
    let (pushed, after_push) = (start.elapsed(), peak());
    println!(
        "{} MiB: pulled in {pulled:.1?}, pushed in {pushed:.1?}; peak in KiB: {before} before, {after_pull} after the \
         pull, {after_push} after the push",
        size >> 20
    );
    assert!(after_push < LIMIT, "{after_push} KiB are more than {LIMIT}");
}
