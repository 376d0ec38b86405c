//! Container images with awkward contents, made here, the same at every run.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use moby::store::Digest;
use moby::store::manifest::media_type;

pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Blobs by digest, and what names stand for.
#[derive(Clone, Default)]
pub struct Images {
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    /// `REPOSITORY:TAG` to digest.
    pub tags: BTreeMap<String, Digest>,
    /// Media types of manifests and indexes.
    pub kinds: BTreeMap<Digest, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
    /// gzip with Docker's media types.
    Docker,
}

/// A deterministic stream of bytes that does not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A layer being written.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Layer {
        Layer(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, name: &str, kind: tar::EntryType, mode: u32, owner: u64, link: &str, data: &[u8]) -> Layer {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        if matches!(kind, tar::EntryType::Char) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        if link.is_empty() {
            self.0.append_data(&mut header, name, data).unwrap();
        } else {
            self.0.append_link(&mut header, name, link).unwrap();
        }
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Layer {
        self.entry(name, tar::EntryType::Regular, 0o644, 0, "", data)
    }

    pub fn folder(self, name: &str) -> Layer {
        self.entry(name, tar::EntryType::Directory, 0o755, 0, "", b"")
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

impl Images {
    pub fn blob(&mut self, bytes: Vec<u8>) -> (Digest, u64) {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.insert(digest, bytes);
        (digest, size)
    }

    /// Adds an image and returns its descriptor as JSON. `name` is `REPOSITORY:TAG`, or empty.
    pub fn image(&mut self, name: &str, layers: &[Vec<u8>], packing: Packing, arch: &str) -> serde_json::Value {
        let diff_ids: Vec<String> = layers.iter().map(|tar| Digest::of(tar).to_string()).collect();
        self.image_with(name, layers, packing, arch, &diff_ids)
    }

    /// The same with diff IDs that may be wrong.
    pub fn image_with(
        &mut self,
        name: &str,
        layers: &[Vec<u8>],
        packing: Packing,
        arch: &str,
        diff_ids: &[String],
    ) -> serde_json::Value {
        let mut descriptors = Vec::new();
        for tar in layers {
            let (bytes, kind) = match packing {
                Packing::Plain => (tar.clone(), media_type::LAYER),
                Packing::Gzip => (gzip(tar), media_type::LAYER_GZIP),
                Packing::Docker => (gzip(tar), DOCKER_LAYER),
                Packing::Zstd => (zstd::encode_all(tar.as_slice(), 3).unwrap(), ZSTD_LAYER),
            };
            let (digest, size) = self.blob(bytes);
            descriptors.push(serde_json::json!({"mediaType": kind, "digest": digest, "size": size}));
        }
        let docker = packing == Packing::Docker;
        let config = serde_json::json!({
            "architecture": arch, "os": "linux",
            // Docker writes null where nothing is.
            "config": {"Cmd": ["/bin/sh"], "Entrypoint": null, "Env": ["PATH=/bin"], "Labels": null},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let (digest, size) = self.blob(config.to_string().into_bytes());
        let kind = if docker { DOCKER_CONFIG } else { media_type::CONFIG };
        let config = serde_json::json!({"mediaType": kind, "digest": digest, "size": size});
        let kind = if docker { media_type::DOCKER_MANIFEST } else { media_type::MANIFEST };
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": descriptors});
        self.document(name, kind, &manifest, serde_json::json!({"architecture": arch, "os": "linux"}))
    }

    /// Adds an index or list.
    pub fn index(&mut self, name: &str, kind: &str, manifests: Vec<serde_json::Value>) {
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
        self.document(name, kind, &index, serde_json::Value::Null);
    }

    fn document(
        &mut self,
        name: &str,
        kind: &str,
        document: &serde_json::Value,
        platform: serde_json::Value,
    ) -> serde_json::Value {
        let (digest, size) = self.blob(document.to_string().into_bytes());
        self.kinds.insert(digest, kind.to_string());
        if !name.is_empty() {
            self.tags.insert(name.to_string(), digest);
        }
        serde_json::json!({"mediaType": kind, "digest": digest, "size": size, "platform": platform})
    }

    /// Writes one name as a folder in the form of skopeo's `dir:`, which keeps documents of both kinds as they are.
    pub fn write_folder(&self, name: &str, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for (digest, bytes) in &self.blobs {
            let ending = if self.kinds.contains_key(digest) { ".manifest.json" } else { "" };
            std::fs::write(folder.join(format!("{}{ending}", digest.hex())), bytes).unwrap();
        }
        std::fs::write(folder.join("version"), "Directory Transport Version: 1.1\n").unwrap();
        std::fs::write(folder.join("manifest.json"), &self.blobs[&self.tags[name]]).unwrap();
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An application in five layers: whiteouts, opaque folders, links, devices, long and odd names, large owners.
pub fn awkward_layers() -> Vec<Vec<u8>> {
    use tar::EntryType as T;
    let deep = ["deep"; 60].join("/");
    let first = Layer::new()
        .folder("bin/")
        .entry("bin/sh", T::Regular, 0o4755, 0, "", &noise(1, 40_000))
        .entry("bin/ash", T::Link, 0o755, 0, "bin/sh", b"")
        .folder("opt/")
        .file("opt/gone", b"gone")
        .entry("dev-null", T::Char, 0o666, 0, "", b"")
        .entry("fifo", T::Fifo, 0o600, 0, "", b"")
        .file("was-file", b"f");
    let second = Layer::new().file("opt/.wh.gone", b"").folder("opt/old/").file("opt/old/.wh..wh..opq", b"");
    let third = Layer::new().folder("was-file/").file("was-file/y", &noise(2, 200_000));
    let fourth = Layer::new()
        .file(&format!("{deep}/leaf"), b"leaf")
        .entry("etc/ünï", T::Regular, 0o640, 2_500_000, "", b"large owner")
        .entry("dangling", T::Symlink, 0o777, 0, "no/such", b"");
    let fifth = Layer::new().file("etc/passwd", &noise(3, 3000));
    [first, second, third, fourth, fifth].map(Layer::bytes).to_vec()
}

/// Every kind of image that registries hold.
pub fn all() -> Images {
    let mut images = Images::default();
    images.image("library/app:1", &awkward_layers(), Packing::Gzip, "amd64");
    images.image("docker/app:1", &awkward_layers(), Packing::Docker, "amd64");
    images.image("library/zstd:1", &[Layer::new().file("z", &noise(4, 70_000)).bytes()], Packing::Zstd, "amd64");
    images.image("library/plain:1", &[Layer::new().file("p", &noise(5, 70_000)).bytes()], Packing::Plain, "amd64");
    for (name, index, packing) in [
        ("library/multi:1", media_type::INDEX, Packing::Gzip),
        ("docker/multi:1", media_type::DOCKER_LIST, Packing::Docker),
    ] {
        let mut manifests = Vec::new();
        for arch in ["amd64", "arm64"] {
            let layer = Layer::new().file("which", arch.as_bytes()).bytes();
            let mut descriptor = images.image("", &[layer], packing, arch);
            if arch == "arm64" {
                descriptor["platform"]["variant"] = "v8".into();
            }
            manifests.push(descriptor);
        }
        images.index(name, index, manifests);
    }
    images
}
