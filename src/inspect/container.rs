//! The wrappings of disks.

use std::path::Path;
use std::sync::Arc;

use super::{Image, Kind, bytes_text};
use crate::error::{Error, IoContext, Result};
use crate::formats::disk::{Cursor, DiskImage, Output, RawFile};
use crate::formats::{gcp, ova, qcow2, vhd, vhdx, vmdk};

/// The largest disk that is unpacked from an archive: Google's images of ours have a GiB or a few.
const UNPACK_LIMIT: u64 = 256 << 30;
/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;

/// A disk and what wraps it.
pub struct Inner {
    /// The disk.
    pub disk: Image,
    /// What the wrapping says of itself: name and value.
    pub fields: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("fields", &self.fields).finish_non_exhaustive()
    }
}

/// Opens what wraps a disk. Archives that have no places to read from are unpacked into a temporary file.
pub fn open(kind: Kind, image: &Image) -> Result<Inner> {
    let image = Arc::clone(image);
    Ok(match kind {
        Kind::Qcow2 => {
            let reader = qcow2::Reader::open(image)?;
            let header = reader.header();
            let fields = vec![
                ("cluster size", (1u64 << header.cluster_bits).to_string()),
                ("compression", compression(header.compression).into()),
            ];
            Inner { fields, disk: Arc::new(reader) }
        }
        Kind::Vhdx => {
            let reader = vhdx::Reader::open(image)?;
            let metadata = reader.metadata();
            let fields = vec![
                ("type", format!("{:?}", metadata.kind).to_lowercase()),
                ("block size", metadata.block.to_string()),
                ("identifier", crate::formats::gpt::Guid(metadata.id).to_string()),
            ];
            Inner { fields, disk: Arc::new(reader) }
        }
        Kind::Vhd => {
            let reader = vhd::Reader::open(image)?;
            let footer = reader.footer();
            let geometry = &footer.geometry;
            let fields = vec![
                ("type", format!("{:?}", footer.kind).to_lowercase()),
                ("time", footer.time.to_string()),
                ("geometry", format!("{}/{}/{}", geometry.cylinders, geometry.heads, geometry.sectors)),
                ("identifier", crate::formats::gpt::Guid(footer.uuid).to_string()),
            ];
            Inner { fields, disk: Arc::new(reader) }
        }
        Kind::Vmdk => {
            let reader = vmdk::Reader::open(image)?;
            let fields = vec![
                ("type", vmdk_type(reader.header()).into()),
                ("descriptor", reader.descriptor().unwrap_or_default()),
            ];
            Inner { fields, disk: Arc::new(reader) }
        }
        Kind::Ova => {
            let package = ova::Package::open(image)?;
            package.verify()?;
            let members: Vec<_> = package.members().map(|(name, _)| name.to_owned()).collect();
            let fields = vec![("members", members.join(" ")), ("descriptor", package.descriptor().to_owned())];
            Inner { fields, disk: Arc::new(package.into_disk()?) }
        }
        Kind::Gcp => {
            let path = Path::new("a temporary file");
            let file = tempfile::tempfile().at("making", path)?;
            gcp::unpack(Cursor::new(image), Output::new(&file, path)?, UNPACK_LIMIT)?;
            Inner { fields: Vec::new(), disk: Arc::new(RawFile::new(file, path)?) }
        }
        other => return Err(Error::failed(format!("{} wraps no disk", other.name()))),
    })
}

fn compression(compression: qcow2::Compression) -> &'static str {
    match compression {
        qcow2::Compression::Zlib(_) => "zlib",
        qcow2::Compression::Zstd(_) => "zstd",
    }
}

fn vmdk_type(header: &vmdk::Header) -> &'static str {
    if header.stream { "streamOptimized" } else { "sparse" }
}

/// Reads everything that a disk has; what cannot be read or inflated is an error. Returns the bytes of data.
pub fn read_all(disk: &Image) -> Result<u64> {
    let mut buffer = vec![0; PIECE as usize];
    let (mut position, mut data) = (0, 0);
    while let Some(range) = disk.next_data(position)? {
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(PIECE) as usize;
            disk.read_at(&mut buffer[..length], at)?;
            at += length as u64;
            data += length as u64;
        }
        position = range.end;
    }
    Ok(data)
}

/// What a wrapping is, in one line.
pub fn describe(kind: Kind, inner: &Inner, data: u64) -> String {
    let field = |name: &str| inner.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str());
    let detail = match kind {
        Kind::Vhd | Kind::Vmdk | Kind::Vhdx => field("type").map(|text| format!(", {text}")),
        Kind::Ova => Some(", all members as its manifest says".to_owned()),
        _ => None,
    };
    format!(
        "{}{}; disk of {}, {} of it data, all of which can be read",
        kind.name(),
        detail.unwrap_or_default(),
        bytes_text(inner.disk.size()),
        bytes_text(data)
    )
}
