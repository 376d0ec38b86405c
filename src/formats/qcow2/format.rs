//! The structures of qcow2 (docs/interop/qcow2.txt). All integers are big-endian.

use std::io;

use crate::error::{Error, Result};
use crate::formats::disk::{Deflate, be32, be64, put};

/// `QFI\xfb` (section "Header").
pub const MAGIC: &[u8; 4] = b"QFI\xfb";
/// log2 of a cluster of 64 KiB, QEMU's own default: smaller ones cost metadata, larger ones space.
pub const CLUSTER_BITS: u32 = 16;
/// Bytes of a cluster that the writer makes.
pub const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of an L2 table that the writer makes; one table covers 512 MiB.
pub const L2_ENTRIES: u64 = CLUSTER / 8;
/// Reference counts in a block that the writer makes (16 bits each); one block covers 2 GiB of the file.
pub const BLOCK_ENTRIES: u64 = CLUSTER / 2;
/// Entry: the reference count is exactly one (section "Cluster mapping", bit 63).
pub const COPIED: u64 = 1 << 63;
/// L2 entry: the cluster is compressed (bit 62).
pub const COMPRESSED: u64 = 1 << 62;
/// L2 entry: reads as zeros whatever the offset says (bit 0).
pub const ZERO: u64 = 1;
/// Offset within an L1 or standard L2 entry (bits 9 to 55).
pub const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Incompatible feature 3: the header names the compression.
const COMPRESSION_TYPE: u64 = 1 << 3;
/// Incompatible features that a reader may pass over: 0, the reference counts are stale; and the compression.
const READABLE: u64 = 1 | COMPRESSION_TYPE;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate with a window of 4 KiB, at a level from 1 to 9.
    Zlib(u32),
    /// A zstd frame, at a level from 1 to 19.
    Zstd(i32),
}

impl Compression {
    /// zlib at level 9: in zlib-rs that is as small as level 6 of zlib, which QEMU takes, and a sixth quicker. Its own
    /// level 6 is 2.5 % larger and twice as quick.
    pub const ZLIB: Compression = Compression::Zlib(9);
    /// zstd at its own default, level 3, which QEMU takes too.
    pub const ZSTD: Compression = Compression::Zstd(3);

    /// One compressed cluster.
    pub fn compress(self, cluster: &[u8]) -> Result<Vec<u8>> {
        let failed = |error: io::Error| Error::failed(format!("compressing a cluster: {error}"));
        match self {
            Compression::Zlib(level) => {
                // The specification's "deflate" has no header, and QEMU inflates with a window of 12 bits.
                let mut out = Vec::new();
                Deflate { level, zlib: false, window_bits: 12 }.append(cluster, &mut out)?;
                Ok(out)
            }
            Compression::Zstd(level) => zstd::bulk::compress(cluster, level).map_err(failed),
        }
    }

    /// Inflates one cluster into `cluster`, which it has to fill; bytes behind the stream are padding.
    pub fn decompress(self, bytes: &[u8], cluster: &mut [u8]) -> Result<()> {
        let filled = match self {
            Compression::Zlib(_) => {
                let mut inflate = flate2::Decompress::new(false);
                inflate
                    .decompress(bytes, cluster, flate2::FlushDecompress::Finish)
                    .is_ok_and(|_| inflate.total_out() == cluster.len() as u64)
            }
            // The frame's end is not known: only the streaming decoder stops where the cluster is full.
            Compression::Zstd(_) => zstd::stream::read::Decoder::with_buffer(bytes)
                .map(|decoder| decoder.single_frame())
                .and_then(|mut decoder| io::Read::read_exact(&mut decoder, cluster))
                .is_ok(),
        };
        if filled { Ok(()) } else { Err(Error::refused("a compressed cluster of the qcow2 image is damaged")) }
    }
}

/// What the header says (section "Header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// log2 of a cluster's size, 9 to 21.
    pub cluster_bits: u32,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Entries of the L1 table.
    pub l1_entries: u32,
    /// Offset of the L1 table.
    pub l1_offset: u64,
    /// Offset of the table of reference count blocks.
    pub refcount_offset: u64,
    /// Clusters of that table.
    pub refcount_clusters: u32,
    /// How compressed clusters are compressed; the level counts for writing only.
    pub compression: Compression,
}

impl Header {
    /// The header and the end mark of its extensions.
    pub fn encode(&self) -> [u8; 120] {
        let zstd = matches!(self.compression, Compression::Zstd(_));
        let mut out = [0; 120];
        put(&mut out, 0, MAGIC);
        put(&mut out, 4, &3u32.to_be_bytes());
        put(&mut out, 20, &self.cluster_bits.to_be_bytes());
        put(&mut out, 24, &self.size.to_be_bytes());
        put(&mut out, 36, &self.l1_entries.to_be_bytes());
        put(&mut out, 40, &self.l1_offset.to_be_bytes());
        put(&mut out, 48, &self.refcount_offset.to_be_bytes());
        put(&mut out, 56, &self.refcount_clusters.to_be_bytes());
        put(&mut out, 72, &(if zstd { COMPRESSION_TYPE } else { 0 }).to_be_bytes());
        // log2 of the bits of a reference count, then the length of the header.
        put(&mut out, 96, &4u32.to_be_bytes());
        put(&mut out, 100, &112u32.to_be_bytes());
        out[104] = u8::from(zstd);
        out
    }

    /// Reads the first 112 bytes of an image. Version 2 is read too.
    pub fn decode(bytes: &[u8; 112]) -> Result<Header> {
        let refuse = |what: String| Err(Error::refused(format!("the qcow2 image {what}")));
        if &bytes[..4] != MAGIC {
            return refuse("does not start with QFI: it is no qcow2 image".into());
        }
        let version = be32(bytes, 4);
        if !(2..=3).contains(&version) {
            return refuse(format!("has version {version}; 2 and 3 are known"));
        }
        if be64(bytes, 8) != 0 {
            return refuse("has a backing file, of which it is only a difference".into());
        }
        if be32(bytes, 32) != 0 {
            return refuse("is encrypted".into());
        }
        let incompatible = if version == 3 { be64(bytes, 72) } else { 0 };
        if incompatible & !READABLE != 0 {
            return refuse(format!("uses features {incompatible:#x}, of which only {READABLE:#x} are known"));
        }
        let compression = match (incompatible & COMPRESSION_TYPE != 0, bytes[104]) {
            (false, _) | (true, 0) => Compression::Zlib(6),
            (true, 1) => Compression::Zstd(3),
            (true, other) => return refuse(format!("is compressed by unknown method {other}")),
        };
        let header = Header {
            cluster_bits: be32(bytes, 20),
            size: be64(bytes, 24),
            l1_entries: be32(bytes, 36),
            l1_offset: be64(bytes, 40),
            refcount_offset: be64(bytes, 48),
            refcount_clusters: be32(bytes, 56),
            compression,
        };
        if !(9..=21).contains(&header.cluster_bits) {
            return refuse(format!("has clusters of 2^{} bytes; 2^9 to 2^21 are allowed", header.cluster_bits));
        }
        // An L2 table is one cluster of 8 byte entries.
        let covered = u64::from(header.l1_entries) << (2 * header.cluster_bits - 3);
        if header.size > 1 << 60 || covered < header.size {
            return refuse(format!("of {} bytes has an L1 table for {covered} only", header.size));
        }
        Ok(header)
    }
}

/// An L2 entry for `length` compressed bytes at `offset` (section "Compressed clusters descriptor").
pub fn compressed_entry(offset: u64, length: u64) -> u64 {
    let further_sectors = (offset + length - 1) / 512 - offset / 512;
    COMPRESSED | further_sectors << (62 - (CLUSTER_BITS - 8)) | offset
}

/// Offset and length of what a compressed entry names; the length runs to the end of a sector.
pub fn compressed_place(entry: u64, cluster_bits: u32) -> (u64, u64) {
    let bits = 62 - (cluster_bits - 8);
    let offset = entry & ((1 << bits) - 1);
    let further_sectors = entry >> bits & ((1 << (cluster_bits - 8)) - 1);
    (offset, (further_sectors + 1) * 512 - offset % 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        for (offset, length) in [(70_000, 1), (65_536, 512), (65_536, 513), (1 << 40 | 511, 65_535)] {
            let (at, room) = compressed_place(compressed_entry(offset, length), CLUSTER_BITS);
            assert_eq!(at, offset);
            assert!(room >= length && room < length + 512, "{room}");
        }
    }

    #[test]
    fn clusters_round_trip() {
        let mut cluster: Vec<u8> = (0..65_536u32).map(|i| (i / 77) as u8).collect();
        cluster.copy_within(..5536, 60_000);
        for compression in [Compression::Zlib(6), Compression::Zlib(1), Compression::Zstd(3)] {
            let mut bytes = compression.compress(&cluster).unwrap();
            assert!(bytes.len() < 10_000);
            bytes.extend([0; 100]);
            let mut back = vec![0; cluster.len()];
            compression.decompress(&bytes, &mut back).unwrap();
            assert!(back == cluster, "{compression:?}");
            assert!(compression.decompress(&bytes[..50], &mut back).is_err());
        }
    }

    #[test]
    fn headers_round_trip() {
        let header = Header {
            cluster_bits: 16,
            size: 6 << 30,
            l1_entries: 12,
            l1_offset: 3 << 16,
            refcount_offset: 1 << 16,
            refcount_clusters: 1,
            compression: Compression::Zstd(3),
        };
        let bytes: [u8; 112] = header.encode()[..112].try_into().unwrap();
        assert_eq!(Header::decode(&bytes).unwrap(), header);
        for (at, value) in [(0, 0), (7, 4), (15, 1), (35, 1), (79, 16), (104, 2), (23, 8), (23, 22), (24, 1)] {
            let mut bad = bytes;
            bad[at] = value;
            assert!(Header::decode(&bad).is_err(), "{at}");
        }
    }
}
