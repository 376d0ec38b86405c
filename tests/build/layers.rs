//! Layers and images, made here, the same at every run, put into a store or an image layout.

use std::collections::BTreeMap;
use std::io::Write;

use moby::store::manifest::{ImageConfig, Manifest, RootFs, RunConfig, media_type};
use moby::store::{Descriptor, Digest, Store};
use tar::EntryType;

/// Bytes that do not compress, the same for the same seed.
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

/// A member of a layer.
pub struct Member<'a> {
    path: &'a [u8],
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    device: (u32, u32),
    link: &'a [u8],
    data: &'a [u8],
    records: Vec<(String, Vec<u8>)>,
}

impl<'a> Member<'a> {
    fn new(path: &'a (impl AsRef<[u8]> + ?Sized), kind: EntryType, mode: u32) -> Member<'a> {
        let path = path.as_ref();
        Member { path, kind, mode, owner: (0, 0), device: (0, 0), link: b"", data: b"", records: Vec::new() }
    }

    pub fn file(path: &'a (impl AsRef<[u8]> + ?Sized), data: &'a (impl AsRef<[u8]> + ?Sized)) -> Member<'a> {
        Member { data: data.as_ref(), ..Member::new(path, EntryType::Regular, 0o644) }
    }

    pub fn folder(path: &'a (impl AsRef<[u8]> + ?Sized)) -> Member<'a> {
        Member::new(path, EntryType::Directory, 0o755)
    }

    pub fn symlink(path: &'a (impl AsRef<[u8]> + ?Sized), link: &'a (impl AsRef<[u8]> + ?Sized)) -> Member<'a> {
        Member { link: link.as_ref(), ..Member::new(path, EntryType::Symlink, 0o777) }
    }

    pub fn hard_link(path: &'a (impl AsRef<[u8]> + ?Sized), link: &'a (impl AsRef<[u8]> + ?Sized)) -> Member<'a> {
        Member { link: link.as_ref(), ..Member::new(path, EntryType::Link, 0o644) }
    }

    pub fn fifo(path: &'a (impl AsRef<[u8]> + ?Sized)) -> Member<'a> {
        Member::new(path, EntryType::Fifo, 0o600)
    }

    pub fn device(path: &'a (impl AsRef<[u8]> + ?Sized), block: bool, device: (u32, u32)) -> Member<'a> {
        let kind = if block { EntryType::Block } else { EntryType::Char };
        Member { device, ..Member::new(path, kind, 0o660) }
    }

    pub fn mode(self, mode: u32) -> Member<'a> {
        Member { mode, ..self }
    }

    pub fn owner(self, uid: u64, gid: u64) -> Member<'a> {
        Member { owner: (uid, gid), ..self }
    }

    /// A record of the PAX header that stands before the member.
    pub fn record(mut self, key: &str, value: impl AsRef<[u8]>) -> Member<'a> {
        self.records.push((key.to_string(), value.as_ref().to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Member<'a> {
        self.record(&format!("SCHILY.xattr.{name}"), value)
    }
}

/// A layer's tar.
pub fn layer(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let mut records = member.records.clone();
        let mut header = tar::Header::new_ustar();
        // The crate's setters refuse names that are no text, and links that leave the root.
        for (key, value, start) in [("path", member.path, 0), ("linkpath", member.link, 157)] {
            let short = value.get(..100).unwrap_or(value);
            header.as_mut_bytes()[start..start + short.len()].copy_from_slice(short);
            if value.len() > 100 {
                records.push((key.to_string(), value.to_vec()));
            }
        }
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_mtime(1_600_000_000);
        header.set_size(member.data.len() as u64);
        header.set_device_major(member.device.0).unwrap();
        header.set_device_minor(member.device.1).unwrap();
        header.set_cksum();
        if !records.is_empty() {
            let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            builder.append_pax_extensions(records).unwrap();
        }
        builder.append(&header, member.data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub fn pack(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Packing::Plain => tar.to_vec(),
            Packing::Zstd => zstd::encode_all(tar, 1).unwrap(),
            Packing::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(tar).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn media_type(self) -> String {
        let suffix = ["", "+gzip", "+zstd"][self as usize];
        format!("{}{suffix}", media_type::LAYER)
    }
}

/// An image to be put into a store.
pub struct Image<'a> {
    pub name: &'a str,
    pub layers: Vec<Vec<u8>>,
    pub packing: Packing,
    pub config: RunConfig,
}

impl<'a> Image<'a> {
    pub fn new(name: &'a str, layers: Vec<Vec<u8>>) -> Image<'a> {
        Image { name, layers, packing: Packing::Gzip, config: RunConfig::default() }
    }

    pub fn packed(self, packing: Packing) -> Image<'a> {
        Image { packing, ..self }
    }

    pub fn config(self, config: RunConfig) -> Image<'a> {
        Image { config, ..self }
    }

    /// Puts the image into the store under its name. Returns its layers' descriptors.
    pub fn put(&self, store: &Store) -> Vec<Descriptor> {
        let put = |kind: &str, bytes: &[u8]| Descriptor::new(kind, store.put_bytes(bytes).unwrap(), bytes.len() as u64);
        let layers: Vec<Descriptor> =
            self.layers.iter().map(|tar| put(&self.packing.media_type(), &self.packing.pack(tar))).collect();
        let diff_ids = self.layers.iter().map(|tar| Digest::of(tar)).collect();
        let config = ImageConfig {
            architecture: "amd64".to_string(),
            os: "linux".to_string(),
            config: self.config.clone(),
            rootfs: RootFs { kind: "layers".to_string(), diff_ids },
        };
        let config = put(media_type::CONFIG, &serde_json::to_vec(&config).unwrap());
        let media_type = media_type::MANIFEST.to_string();
        let manifest = Manifest { schema_version: 2, media_type, config, layers: layers.clone() };
        let manifest = put(media_type::MANIFEST, &serde_json::to_vec(&manifest).unwrap());
        store.set_name(self.name, manifest).unwrap();
        layers
    }
}

/// What an image says about how it is run; `label` is its `org.mobyproject.config`.
pub fn run_config(entrypoint: &[&str], command: &[&str], label: &str) -> RunConfig {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    let mut labels = BTreeMap::new();
    if !label.is_empty() {
        labels.insert("org.mobyproject.config".to_string(), label.to_string());
    }
    RunConfig { entrypoint: texts(entrypoint), cmd: texts(command), labels, ..RunConfig::default() }
}
