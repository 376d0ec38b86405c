//! What `root=` can name.

use std::fmt;

use crate::bytes::{from_hex, hex};

/// A block device, by something that stays the same when disks are found in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `PARTUUID=`: the GUID of a GPT partition, or disk signature and number (`1234abcd-02`) of an MBR one.
    PartitionUuid(String),
    /// `PARTLABEL=`: the name of a GPT partition.
    PartitionLabel(String),
    /// `UUID=`: that of the file system.
    Uuid(String),
    /// `LABEL=`: the name of the file system; on an ISO, its volume identifier.
    Label(String),
    /// `/dev/NAME`: the kernel's name, without `/dev/`.
    Device(String),
}

impl Source {
    /// Reads the value of `root=`. `Err` says what is wrong with it.
    pub fn parse(value: &str) -> Result<Source, String> {
        if let Some(name) = value.strip_prefix("/dev/") {
            return match name {
                "" => Err("names no device".to_owned()),
                name if name.split('/').any(|part| part == ".." || part.is_empty()) || name.starts_with("disk/by-") => {
                    Err("is a link that udev would make; use PARTUUID=, UUID= or LABEL=".to_owned())
                }
                name => Ok(Source::Device(name.to_owned())),
            };
        }
        let (kind, name) = value.split_once('=').unwrap_or((value, ""));
        if name.is_empty() {
            return Err("is none of PARTUUID=, PARTLABEL=, UUID=, LABEL= and /dev/NAME".to_owned());
        }
        if name.starts_with('"') {
            return Err("has quotes that the kernel does not take away; put them around the whole value".to_owned());
        }
        match kind {
            // `PARTNROFF=`, which the kernel has: a partition has a GUID of its own, and two ways to name it are one too many.
            "PARTUUID" if name.contains('/') => {
                Err("names a partition by the number of another: give its own GUID".to_owned())
            }
            "PARTUUID" if !name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') => {
                Err("is not made of hexadecimal digits and -".to_owned())
            }
            "PARTUUID" => Ok(Source::PartitionUuid(name.to_ascii_lowercase())),
            "PARTLABEL" => Ok(Source::PartitionLabel(name.to_owned())),
            "UUID" => Ok(Source::Uuid(name.to_ascii_lowercase())),
            "LABEL" => Ok(Source::Label(name.to_owned())),
            _ => Err("is none of PARTUUID=, PARTLABEL=, UUID=, LABEL= and /dev/NAME".to_owned()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::PartitionUuid(name) => write!(out, "PARTUUID={name}"),
            Source::PartitionLabel(name) => write!(out, "PARTLABEL={name}"),
            Source::Uuid(name) => write!(out, "UUID={name}"),
            Source::Label(name) => write!(out, "LABEL={name}"),
            Source::Device(name) => write!(out, "/dev/{name}"),
        }
    }
}

/// The root hash of a dm-verity tree: what everything that is read from the root is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootHash(Vec<u8>);

impl RootHash {
    /// Reads hexadecimal digits: 64 of SHA-256, 96 of SHA-384 or 128 of SHA-512.
    pub fn parse(digits: &str) -> Option<RootHash> {
        from_hex(digits).filter(|bytes| matches!(bytes.len(), 32 | 48 | 64)).map(RootHash)
    }

    /// Bytes of the digest.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// As lower-case hexadecimal digits.
    pub fn digits(&self) -> String {
        hex(&self.0)
    }

    /// The partition of the data: its GUID is the first 128 bits (Discoverable Partitions Specification).
    pub fn data_partition(&self) -> Source {
        Source::PartitionUuid(self.0.first_chunk::<16>().and_then(|half| crate::bytes::uuid(half)).unwrap_or_default())
    }

    /// The partition of the hash tree: its GUID is the last 128 bits.
    pub fn hash_partition(&self) -> Source {
        Source::PartitionUuid(self.last_uuid().unwrap_or_default())
    }

    /// The last 128 bits as a UUID.
    pub fn last_uuid(&self) -> Option<String> {
        crate::bytes::uuid(self.0.last_chunk::<16>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        assert_eq!(Source::parse("PARTUUID=AB-1"), Ok(Source::PartitionUuid("ab-1".to_owned())));
        assert_eq!(Source::parse("LABEL=My=Disk"), Ok(Source::Label("My=Disk".to_owned())));
        assert_eq!(Source::parse("/dev/cciss/c0d0"), Ok(Source::Device("cciss/c0d0".to_owned())));
        for wrong in ["", "LABEL", "LABEL=", "sda1", "8:1", "/dev/", "/dev/../x", "/dev/disk/by-uuid/1", "NFS=x"] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
        // Words that the kernel or others take: waiting for a device of that name would tell nothing.
        for wrong in ["PARTUUID=ab-1/PARTNROFF=1", "PARTUUID=\"ab-1\"", "PARTUUID=kept", "LABEL=\"x\"", "UUID=\"1-2\""]
        {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn root_hashes() {
        let digits = "00112233445566778899aabbccddeeff0123456789abcdef0123456789ABCDEF";
        let hash = RootHash::parse(digits).unwrap();
        assert_eq!(hash.data_partition().to_string(), "PARTUUID=00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(hash.hash_partition().to_string(), "PARTUUID=01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(hash.digits(), digits.to_ascii_lowercase());
        for wrong in ["", "00", &digits[1..], "zz112233445566778899aabbccddeeff0123456789abcdef0123456789ABCDEF"] {
            assert!(RootHash::parse(wrong).is_none(), "{wrong}");
        }
    }
}
