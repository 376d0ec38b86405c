//! Reading the signatures of an executable that may be anything: who signed, and whether the signature covers what is
//! there. Only what [`super::message`] makes and what sbsign and Microsoft's tools make of SHA-256 is understood.
//!
//! No clock is read: firmware takes certificates that have expired, so their dates are told and not judged.

use crate::error::{Error, Result};
use crate::formats::disk::DiskImage;
use crate::formats::pe::{CERTIFICATES, HEADERS_LIMIT, Headers};
use crate::store::{Digest, Hasher};

use super::certificate::Certificate;
use super::der::{Reader, Value, tag, value};
use super::message::{CONTENT_TYPE, INDIRECT_DATA, MESSAGE_DIGEST, SHA256, SIGNED_DATA};

/// Bytes of all signatures, at most; one has 2 KB.
const SIGNATURES_LIMIT: u64 = 1 << 20;
/// Signatures and certificates of an executable.
const COUNT_LIMIT: usize = 32;
/// `commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
/// Parts of names that have a short form (RFC 4514).
const NAME_PARTS: [(&[u8], &str); 6] = [
    (COMMON_NAME, "CN"),
    (b"\x06\x03\x55\x04\x06", "C"),
    (b"\x06\x03\x55\x04\x07", "L"),
    (b"\x06\x03\x55\x04\x08", "ST"),
    (b"\x06\x03\x55\x04\x0a", "O"),
    (b"\x06\x03\x55\x04\x0b", "OU"),
];

/// An executable's digest and its signatures.
#[derive(Clone, Debug)]
pub struct Found {
    /// The digest that a signature has to cover.
    pub digest: Digest,
    /// The signatures, in order. Each is valid: the digest is the right one and was signed with its certificate's key.
    pub signatures: Vec<Signature>,
}

/// A valid signature.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The signer's certificate.
    pub signer: Identity,
    /// All certificates that came with it, the signer's among them.
    pub certificates: Vec<Identity>,
    /// The PKCS#7 message.
    pub message: Vec<u8>,
}

/// A certificate and what it says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its bytes.
    pub der: Vec<u8>,
    /// Whom it is for, as RFC 4514 writes names.
    pub subject: String,
    /// The first and last day on which it is valid, as it says them (`YYYY-MM-DD`).
    pub valid: (String, String),
    /// `None` if it is for a kind of key that is not read here.
    certificate: Option<Certificate>,
    signed_part: Vec<u8>,
    signature: Vec<u8>,
}

impl Identity {
    /// Reads a certificate (RFC 5280, 4.1).
    pub fn from_der(der: &[u8]) -> Option<Identity> {
        let whole = Reader(der).expect(tag::SEQUENCE)?;
        let mut parts = Reader(whole.content);
        let signed_part = parts.expect(tag::SEQUENCE)?;
        parts.expect(tag::SEQUENCE)?;
        let signature = parts.expect(tag::BIT_STRING)?.content.get(1..)?.to_vec();
        let mut fields = Reader(signed_part.content);
        let first = fields.next_value()?;
        if first.tag == tag::context(0) {
            fields.next_value()?;
        }
        fields.expect(tag::SEQUENCE)?;
        fields.expect(tag::SEQUENCE)?;
        let mut dates = Reader(fields.expect(tag::SEQUENCE)?.content);
        let valid = (date(&dates.next_value()?), date(&dates.next_value()?));
        let subject = name(&fields.expect(tag::SEQUENCE)?);
        let signed_part = signed_part.whole.to_vec();
        let certificate = Certificate::from_der(whole.whole).ok();
        Some(Identity { der: whole.whole.to_vec(), subject, valid, certificate, signed_part, signature })
    }

    /// The digest by which people compare certificates.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// Whether it is one of some, or was issued by one of them, by way of the certificates that came with it.
    pub fn is_vouched_for(&self, by: &[Identity], between: &[Identity]) -> bool {
        let mut known = vec![self];
        let mut at = 0;
        while let Some(one) = known.get(at).copied().filter(|_| at < COUNT_LIMIT) {
            if by.iter().any(|other| other.der == one.der || other.issued(one)) {
                return true;
            }
            for other in between.iter().filter(|other| other.issued(one)) {
                if !known.iter().any(|one| one.der == other.der) {
                    known.push(other);
                }
            }
            at += 1;
        }
        false
    }

    /// The certificate, if it is for a kind of key that is read here.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    fn issued(&self, other: &Identity) -> bool {
        self.certificate.as_ref().is_some_and(|key| key.verifies(&other.signed_part, &other.signature))
    }
}

/// Reads and checks all signatures. An executable without any is right; one whose signature does not cover it is an
/// error, and so is one of which a signature would not cover everything.
pub fn read(image: &dyn DiskImage) -> Result<Found> {
    let table = Table::read(image)?;
    check_gaps(&table.headers, table.end).map_err(refused)?;
    let digest = digest(image, &table.headers, &table.head, table.end)?;
    let check = |message: &[u8]| check(message, digest).map_err(refused);
    let signatures = table.messages()?.into_iter().map(check).collect::<Result<_>>()?;
    Ok(Found { digest, signatures })
}

/// A signature that was not checked: what it says.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The digest that it covers.
    pub digest: Digest,
    /// Whose it says it is.
    pub signer: Identity,
    /// The PKCS#7 message.
    pub message: Vec<u8>,
}

/// What the signatures say, whether they cover the executable or not. What cannot be read is left out.
pub fn claims(image: &dyn DiskImage) -> Result<Vec<Claim>> {
    let table = Table::read(image)?;
    let claim = |message: &[u8]| {
        let parsed = parse(message)?;
        let (signer, _) = signer(&parsed)?;
        Some(Claim { digest: Digest::from_bytes(parsed.image), signer, message: parsed.whole.to_vec() })
    };
    Ok(table.messages()?.into_iter().filter_map(claim).collect())
}

fn refused(what: String) -> Error {
    Error::refused(format!("the executable's signature: {what}"))
}

/// Where the signatures lie.
struct Table {
    headers: Headers,
    head: Vec<u8>,
    /// Where the executable ends and the signatures begin.
    end: u64,
    bytes: Vec<u8>,
}

impl Table {
    fn read(image: &dyn DiskImage) -> Result<Table> {
        let size = image.size();
        let mut head = vec![0; size.min(u64::from(HEADERS_LIMIT)) as usize];
        image.read_at(&mut head, 0)?;
        let headers = Headers::decode(&head).map_err(refused)?;
        let place = headers.directories.get(CERTIFICATES).copied();
        let (offset, length) = place.ok_or_else(|| refused("its headers have no place for one".into()))?;
        let (offset, length) = (u64::from(offset), u64::from(length));
        let end = if length > 0 { offset } else { size };
        if length > 0 && (offset + length != size || !offset.is_multiple_of(8) || length > SIGNATURES_LIMIT) {
            return Err(refused(format!("it is said to be {length} bytes at {offset} of a file of {size} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        image.read_at(&mut bytes, end)?;
        Ok(Table { headers, head, end, bytes })
    }

    /// The entries' messages, with what is behind them in their entries.
    fn messages(&self) -> Result<Vec<&[u8]>> {
        let mut found = Vec::new();
        let mut rest = self.bytes.as_slice();
        while rest.len() >= 8 {
            let entry = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let message = rest.get(8..entry).filter(|_| rest[4..8] == [0, 2, 2, 0]);
            let message =
                message.ok_or_else(|| refused("an entry of its table is cut off or of another kind".into()))?;
            if found.len() == COUNT_LIMIT {
                return Err(refused("there are more than any firmware reads".into()));
            }
            found.push(message);
            rest = rest.get(entry.next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(found)
    }
}

/// What lies between sections is covered by the signatures of some tools and not by those of others.
fn check_gaps(headers: &Headers, end: u64) -> Result<(), String> {
    let mut places: Vec<_> = headers.sections.iter().filter(|section| section.raw_size > 0).collect();
    places.sort_by_key(|section| section.raw_offset);
    let mut position = u64::from(headers.size_of_headers);
    for section in places {
        if u64::from(section.raw_offset) != position {
            let name = section.name.escape_ascii();
            return Err(format!("its section {name} begins at byte {}, not {position}", section.raw_offset));
        }
        position += u64::from(section.raw_size);
    }
    if position > end { Err(format!("sections end at byte {position} of {end}")) } else { Ok(()) }
}

/// SHA-256 of everything but the checksum, the place of the signatures, and the signatures.
fn digest(image: &dyn DiskImage, headers: &Headers, head: &[u8], end: u64) -> Result<Digest> {
    let (checksum, directory) = (headers.checksum(), headers.directory(CERTIFICATES));
    let part = |range: std::ops::Range<usize>| head.get(range).unwrap_or_default();
    let known = (head.len() as u64).min(end) as usize;
    let mut hasher = Hasher::new();
    hasher.update(part(0..checksum));
    hasher.update(part(checksum + 4..directory));
    hasher.update(part(directory + 8..known));
    let mut position = known as u64;
    let mut buffer = vec![0; 1 << 20];
    while position < end {
        let length = (end - position).min(buffer.len() as u64) as usize;
        image.read_at(&mut buffer[..length], position)?;
        hasher.update(&buffer[..length]);
        position += length as u64;
    }
    let padding = end.next_multiple_of(8) - end;
    hasher.update(&[0; 8][..padding as usize]);
    Ok(hasher.finish())
}

fn check(message: &[u8], image: Digest) -> Result<Signature, String> {
    let parsed = parse(message).ok_or("it is no PKCS#7 message with one signer and a SHA-256 digest")?;
    if parsed.image != *image.as_bytes() {
        let stated = Digest::from_bytes(parsed.image).hex();
        return Err(format!("it covers the digest {stated}, and the executable has {}", image.hex()));
    }
    let inner = Digest::of(parsed.content);
    if parsed.message_digest != inner.as_bytes() {
        return Err("its signed attributes are about something else".into());
    }
    let (signer, certificates) =
        signer(&parsed).ok_or("the signer's certificate is not with it, or has another key than RSA or P-256")?;
    let key = signer.certificate.as_ref().ok_or("the signer's certificate is of another kind")?;
    if !key.verifies(&value(tag::SET, &[parsed.attributes]), parsed.signature) {
        return Err(format!("it was not made with the key of {}", signer.subject));
    }
    Ok(Signature { signer, certificates, message: parsed.whole.to_vec() })
}

/// The signer's certificate and all that came with it.
fn signer(parsed: &Parsed<'_>) -> Option<(Identity, Vec<Identity>)> {
    let certificates: Vec<Identity> = parsed.certificates.iter().filter_map(|der| Identity::from_der(der)).collect();
    let signer = certificates.iter().find(|identity| {
        identity.certificate.as_ref().is_some_and(|key| key.issuer == parsed.issuer && key.serial == parsed.serial)
    })?;
    Some((signer.clone(), certificates))
}

struct Parsed<'a> {
    /// The message without what may be behind it.
    whole: &'a [u8],
    /// The digest of the executable that is stated.
    image: [u8; 32],
    /// What the signed attributes have the digest of.
    content: &'a [u8],
    message_digest: &'a [u8],
    certificates: Vec<&'a [u8]>,
    issuer: &'a [u8],
    serial: &'a [u8],
    attributes: &'a [u8],
    signature: &'a [u8],
}

fn parse(message: &[u8]) -> Option<Parsed<'_>> {
    let message = Reader(message).expect(tag::SEQUENCE)?;
    let mut outer = Reader(message.content);
    let kind = outer.next_value()?;
    if kind.whole != SIGNED_DATA {
        return None;
    }
    let mut signed = Reader(Reader(outer.expect(tag::context(0))?.content).expect(tag::SEQUENCE)?.content);
    signed.expect(tag::INTEGER)?;
    signed.expect(tag::SET)?;
    let mut inner = Reader(signed.expect(tag::SEQUENCE)?.content);
    if inner.next_value()?.whole != INDIRECT_DATA {
        return None;
    }
    let content = Reader(inner.expect(tag::context(0))?.content).expect(tag::SEQUENCE)?.content;
    let mut data = Reader(content);
    data.expect(tag::SEQUENCE)?;
    let mut stated = Reader(data.expect(tag::SEQUENCE)?.content);
    if !same_algorithm(&stated.expect(tag::SEQUENCE)?) {
        return None;
    }
    let image = stated.expect(tag::OCTET_STRING)?.content.try_into().ok()?;
    let mut certificates = Vec::new();
    let mut signers = None;
    while let Some(part) = signed.next_value() {
        match part.tag {
            of if of == tag::context(0) => {
                let mut list = Reader(part.content);
                while let Some(certificate) = list.next_value() {
                    certificates.push(certificate.whole);
                    if certificates.len() > COUNT_LIMIT {
                        return None;
                    }
                }
            }
            tag::SET => signers = Some(part.content),
            _ => {}
        }
    }
    let mut signer = Reader(Reader(signers?).expect(tag::SEQUENCE)?.content);
    signer.expect(tag::INTEGER)?;
    let mut name = Reader(signer.expect(tag::SEQUENCE)?.content);
    let (issuer, serial) = (name.expect(tag::SEQUENCE)?.whole, name.expect(tag::INTEGER)?.whole);
    if !same_algorithm(&signer.expect(tag::SEQUENCE)?) {
        return None;
    }
    let attributes = signer.expect(tag::context(0))?.content;
    signer.expect(tag::SEQUENCE)?;
    let signature = signer.expect(tag::OCTET_STRING)?.content;
    let (mut content_type, mut message_digest) = (false, None);
    let mut list = Reader(attributes);
    while let Some(attribute) = list.next_value() {
        let mut parts = Reader(attribute.content);
        let (kind, values) = (parts.next_value()?, parts.expect(tag::SET)?);
        if kind.whole == CONTENT_TYPE {
            content_type = values.content == INDIRECT_DATA;
        } else if kind.whole == MESSAGE_DIGEST {
            message_digest = Some(Reader(values.content).expect(tag::OCTET_STRING)?.content);
        }
    }
    let message_digest = message_digest.filter(|_| content_type)?;
    Some(Parsed {
        whole: message.whole,
        image,
        content,
        message_digest,
        certificates,
        issuer,
        serial,
        attributes,
        signature,
    })
}

/// SHA-256, with its NULL or without.
fn same_algorithm(found: &Value<'_>) -> bool {
    let known = Reader(SHA256).next_value().and_then(|value| Reader(value.content).next_value());
    let this = Reader(found.content).next_value();
    matches!((known, this), (Some(known), Some(this)) if known.whole == this.whole)
}

/// A name as people read it, the last part first (RFC 4514, 2.1).
fn name(sequence: &Value<'_>) -> String {
    let mut parts = Vec::new();
    let mut sets = Reader(sequence.content);
    while let Some(set) = sets.next_value() {
        let mut pairs = Reader(set.content);
        while let Some(pair) = pairs.next_value() {
            let mut pair = Reader(pair.content);
            let (Some(kind), Some(text)) = (pair.next_value(), pair.next_value()) else { continue };
            let known = NAME_PARTS.iter().find(|(id, _)| *id == kind.whole).map(|(_, short)| *short);
            let text = String::from_utf8_lossy(text.content).escape_debug().to_string();
            parts.push(format!("{}={text}", known.unwrap_or("?")));
        }
    }
    parts.reverse();
    parts.join(",")
}

/// UTCTime (two digits of the year, 1950 to 2049) or GeneralizedTime.
fn date(time: &Value<'_>) -> String {
    let digits: String = time.content.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_digit).collect();
    let digits = match time.tag {
        0x17 if digits.as_str() >= "50" => format!("19{digits}"),
        0x17 => format!("20{digits}"),
        _ => digits,
    };
    match (digits.get(..4), digits.get(4..6), digits.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
        _ => "unknown".into(),
    }
}
