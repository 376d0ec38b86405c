//! The digest of an executable that a signature covers, and an executable with its signature (Microsoft, "Windows
//! Authenticode Portable Executable Signature Format"; UEFI 2.10, 32.5).

use std::io::{self, Write};
use std::sync::Arc;

use super::{Certificate, message_size};
use crate::error::{Error, Result};
use crate::formats::pe::{CERTIFICATES, Checksum, HEADERS_LIMIT, Headers};
use crate::formats::source::{Sequential, Source};
use crate::store::{Digest, Hasher};

/// Signatures start at multiples of this, and what is signed is filled up to it.
const ALIGNMENT: u64 = 8;
/// Bytes in front of a signature: length, revision, type.
const ENTRY_HEADER: u64 = 8;
/// `WIN_CERT_REVISION_2_0` and `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const ENTRY_KIND: [u8; 4] = [0, 2, 2, 0];

/// An executable that was read through once: its digest is known, and signatures can be put in.
#[derive(Clone, Debug)]
pub struct Unsigned {
    image: Arc<dyn Source>,
    digest: Digest,
    checksum: Checksum,
    checksum_field: usize,
    directory: usize,
}

impl Unsigned {
    /// Reads an executable. Refuses one that is signed already, or is not laid out one section after another: what is
    /// between sections is hashed by some and not by others.
    pub fn new(image: Arc<dyn Source>) -> Result<Unsigned> {
        let mut pass = Pass::default();
        image.write_to(&mut pass)?;
        let (headers, hasher, checksum) =
            pass.finish().map_err(|what| Error::refused(format!("cannot be signed: {what}")))?;
        let (checksum_field, directory) = (headers.checksum(), headers.directory(CERTIFICATES));
        Ok(Unsigned { image, digest: hasher, checksum, checksum_field, directory })
    }

    /// The SHA-256 digest that a signature covers.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes without a signature.
    pub fn size(&self) -> u64 {
        self.image.size()
    }

    /// Puts a signature in: the DER bytes of a PKCS#7 message that covers [`Unsigned::digest`].
    pub fn attach(&self, signature: &[u8]) -> Result<Signed> {
        self.attach_padded(signature, signature.len())
    }

    /// Puts a signature in that takes as much room as any of its certificate would, so that an image can be laid out
    /// before the signature is known. (Signatures of RSA keys all have one length; ECDSA's differ by a few bytes.)
    pub fn attach_for(&self, certificate: &Certificate, signature: &[u8]) -> Result<Signed> {
        let mut signed = self.attach_padded(signature, message_size(certificate))?;
        signed.identity = self.identity_for(certificate);
        Ok(signed)
    }

    /// The executable as it is, with zeros where [`Unsigned::attach_for`] would put a signature. Its identity is that of
    /// the signed one, on purpose: what is derived from it must not change when the signature is put in.
    pub fn reserve_for(&self, certificate: &Certificate) -> Reserved {
        let size = self.signed_size(certificate);
        Reserved { image: Arc::clone(&self.image), size, identity: self.identity_for(certificate) }
    }

    /// Bytes with a signature of a certificate.
    pub fn signed_size(&self, certificate: &Certificate) -> u64 {
        let table = (ENTRY_HEADER + message_size(certificate) as u64).next_multiple_of(ALIGNMENT);
        self.image.size().next_multiple_of(ALIGNMENT) + table
    }

    fn identity_for(&self, certificate: &Certificate) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(b"authenticode of");
        hasher.field(self.image.identity().as_bytes());
        hasher.field(certificate.der());
        hasher.finish()
    }

    fn attach_padded(&self, signature: &[u8], room: usize) -> Result<Signed> {
        let length = ENTRY_HEADER + room.max(signature.len()) as u64;
        let start = self.image.size().next_multiple_of(ALIGNMENT);
        let (Ok(offset), Ok(entry)) = (u32::try_from(start), u32::try_from(length)) else {
            return Err(Error::refused("the executable is too large to be signed"));
        };
        let mut table = entry.to_le_bytes().to_vec();
        table.extend(ENTRY_KIND);
        table.extend(signature);
        // What is behind the message belongs to the entry, and is not read: DER says where it ends.
        table.resize(length.next_multiple_of(ALIGNMENT) as usize, 0);
        let size = (table.len() as u32).to_le_bytes();
        let [a, b, c, d] = offset.to_le_bytes();
        let [e, f, g, h] = size;
        let place = [a, b, c, d, e, f, g, h];
        let mut checksum = self.checksum.clone();
        checksum.add_elsewhere(&place);
        let write = |checksum: &mut Checksum| -> io::Result<()> {
            checksum.write_all(&vec![0; (start - self.image.size()) as usize])?;
            checksum.write_all(&table)
        };
        write(&mut checksum).map_err(crate::rootfs::write_error)?;
        let mut hasher = Hasher::new();
        hasher.field(b"authenticode");
        hasher.field(self.image.identity().as_bytes());
        hasher.field(&table);
        let identity = hasher.finish();
        Ok(Signed { unsigned: self.clone(), place, checksum: checksum.finish().to_le_bytes(), table, identity })
    }
}

/// An executable with its signature.
#[derive(Clone, Debug)]
pub struct Signed {
    unsigned: Unsigned,
    /// Offset and size of the signatures, as they stand in the data directory.
    place: [u8; 8],
    checksum: [u8; 4],
    /// The signatures.
    table: Vec<u8>,
    identity: Digest,
}

impl Signed {
    /// What a signature changes of the executable: places and bytes. The last one is behind its end.
    pub fn patches(&self) -> [(u64, &[u8]); 3] {
        let start = self.unsigned.image.size().next_multiple_of(ALIGNMENT);
        let (checksum, directory) = (self.unsigned.checksum_field as u64, self.unsigned.directory as u64);
        [(checksum, &self.checksum), (directory, &self.place), (start, &self.table)]
    }
}

impl Source for Signed {
    fn size(&self) -> u64 {
        self.unsigned.image.size().next_multiple_of(ALIGNMENT) + self.table.len() as u64
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut out = Sequential::new(out);
        let patches = [
            (self.unsigned.checksum_field as u64, &self.checksum[..]),
            (self.unsigned.directory as u64, &self.place[..]),
        ];
        self.unsigned.image.write_to(&mut Patching { out: &mut out, patches })?;
        if out.position() != self.unsigned.image.size() {
            return Err(Error::failed("the executable changed while it was signed"));
        }
        out.zeros_to(out.position().next_multiple_of(ALIGNMENT))?;
        out.bytes(&self.table)
    }
}

/// An executable with room for a signature.
#[derive(Clone, Debug)]
pub struct Reserved {
    image: Arc<dyn Source>,
    size: u64,
    identity: Digest,
}

impl Source for Reserved {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut out = Sequential::new(out);
        out.source(self.image.as_ref())?;
        out.zeros_to(self.size)
    }
}

/// Writes other bytes at given places.
struct Patching<'o, 'a, 'p> {
    out: &'o mut Sequential<'a>,
    patches: [(u64, &'p [u8]); 2],
}

impl Write for Patching<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let position = self.out.position();
        // The patch that this or a later byte is in, or that comes next.
        let next = self
            .patches
            .iter()
            .filter(|(start, patch)| start + patch.len() as u64 > position)
            .min_by_key(|(start, _)| *start);
        let (start, patch) = next.copied().unwrap_or((u64::MAX, &[]));
        if position < start {
            let plain = usize::try_from(start - position).unwrap_or(usize::MAX).min(bytes.len());
            return self.out.write(&bytes[..plain]);
        }
        let rest = &patch[(position - start) as usize..];
        self.out.write(&rest[..rest.len().min(bytes.len())])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One reading: the headers are kept until they are understood, then everything is hashed and summed up.
#[derive(Debug, Default)]
struct Pass {
    head: Vec<u8>,
    /// Digest, checksum and the two fields that the digest leaves out; unset while the headers are not complete.
    work: Option<Work>,
    failure: Option<String>,
}

#[derive(Debug)]
struct Work {
    headers: Headers,
    hasher: Hasher,
    checksum: Checksum,
    size: u64,
}

impl Pass {
    fn start(&mut self) {
        let head = std::mem::take(&mut self.head);
        let started = Headers::decode(&head).and_then(|headers| {
            check(&headers)?;
            Ok(headers)
        });
        match started {
            Ok(headers) => {
                let mut hasher = Hasher::new();
                let (checksum, directory) = (headers.checksum(), headers.directory(CERTIFICATES));
                // Both lie in the headers, the checksum first; `check` made sure.
                hasher.update(&head[..checksum]);
                hasher.update(&head[checksum + 4..directory]);
                hasher.update(&head[directory + 8..]);
                let mut sum = Checksum::new(checksum);
                sum.update(&head);
                self.work = Some(Work { headers, hasher, checksum: sum, size: head.len() as u64 });
            }
            Err(what) => self.failure = Some(what),
        }
    }

    fn finish(mut self) -> Result<(Headers, Digest, Checksum), String> {
        if self.work.is_none() && self.failure.is_none() {
            self.start();
        }
        let Some(mut work) = self.work else { return Err(self.failure.unwrap_or_default()) };
        let sections =
            work.headers.sections.iter().map(|section| u64::from(section.raw_offset) + u64::from(section.raw_size));
        if sections.max().unwrap_or(0) > work.size {
            return Err("it is cut off".into());
        }
        let padding = work.size.next_multiple_of(ALIGNMENT) - work.size;
        work.hasher.update(&[0; ALIGNMENT as usize][..padding as usize]);
        Ok((work.headers, work.hasher.finish(), work.checksum))
    }
}

impl Write for Pass {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.work {
            Some(work) => {
                work.hasher.update(bytes);
                work.checksum.update(bytes);
                work.size += bytes.len() as u64;
            }
            None if self.failure.is_none() => {
                self.head.extend(bytes);
                if self.head.len() >= HEADERS_LIMIT as usize {
                    self.start();
                }
            }
            None => {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check(headers: &Headers) -> Result<(), String> {
    let Some((_, size)) = headers.directories.get(CERTIFICATES) else {
        return Err("its headers have no place for a signature".into());
    };
    if *size > 0 {
        return Err("it is signed already".into());
    }
    let mut places: Vec<_> = headers.sections.iter().filter(|section| section.raw_size > 0).collect();
    places.sort_by_key(|section| section.raw_offset);
    let mut end = u64::from(headers.size_of_headers);
    for section in places {
        if u64::from(section.raw_offset) != end {
            return Err(format!(
                "its section {} begins at byte {} where byte {end} was expected",
                section.name.escape_ascii(),
                section.raw_offset
            ));
        }
        end += u64::from(section.raw_size);
    }
    Ok(())
}
