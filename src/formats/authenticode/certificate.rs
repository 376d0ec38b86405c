//! Certificates (RFC 5280): reading what signing needs, and writing self-signed ones.

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::der::{Reader, Value, tag, value};
use super::{Algorithm, Key};
use crate::error::{Error, Result};
use crate::formats::calendar::Civil;
use crate::store::Digest;

/// `rsaEncryption` with its NULL.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// `id-ecPublicKey` on the curve P-256.
const EC_P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// `sha256WithRSAEncryption` as an algorithm.
const RSA_SHA256: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
/// `ecdsa-with-SHA256` as an algorithm.
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
/// `id-ce-subjectKeyIdentifier`, 2.5.29.14.
const SUBJECT_KEY_IDENTIFIER: &[u8] = b"\x06\x03\x55\x1d\x0e";
/// `id-ce-basicConstraints`, 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = b"\x06\x03\x55\x1d\x13";
/// The last bytes of what names are made of (2.5.4.x), and how they are written.
const NAME_PARTS: [(u8, &str); 6] = [(3, "CN"), (6, "C"), (7, "L"), (8, "ST"), (10, "O"), (11, "OU")];
/// UTCTime, years 1950 to 2049.
const UTC_TIME: u8 = 0x17;
/// GeneralizedTime, any year.
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate, as far as a signature needs it.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub(super) der: Vec<u8>,
    /// Its issuer's name, in DER.
    pub(super) issuer: Vec<u8>,
    /// Its serial number, in DER.
    pub(super) serial: Vec<u8>,
    subject: Vec<u8>,
    validity: (i64, i64),
    pub(super) algorithm: Algorithm,
    public_key: Vec<u8>,
}

impl Certificate {
    /// A certificate from PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Certificate> {
        let der = CertificateDer::from_pem_slice(pem)
            .map_err(|error| Error::refused(format!("this is no certificate in PEM: {error}")))?;
        Certificate::from_der(&der)
    }

    /// A certificate from DER (RFC 5280, 4.1).
    pub fn from_der(der: &[u8]) -> Result<Certificate> {
        parse(der).ok_or_else(|| {
            Error::refused("this is no certificate of an RSA key or a key on P-256")
                .hint("a certificate for signing has the key itself; it cannot be one of an authority with another kind of key")
        })
    }

    /// All of it, in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The kind of key that it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key: `RSAPublicKey` of PKCS#1 in DER, or a point of the curve, uncompressed.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Bits of an RSA modulus, or 256.
    pub fn bits(&self) -> usize {
        match self.algorithm {
            Algorithm::EcdsaP256 => 256,
            Algorithm::Rsa => {
                let modulus = Reader(&self.public_key)
                    .expect(tag::SEQUENCE)
                    .and_then(|key| Reader(key.content).expect(tag::INTEGER))
                    .map_or(&[][..], |modulus| modulus.content);
                let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
                let first = modulus.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
                ((modulus.len() - zeros) * 8).saturating_sub(first)
            }
        }
    }

    /// First and last second at which it is valid, since the epoch.
    pub fn validity(&self) -> (i64, i64) {
        self.validity
    }

    /// Whom it is for, such as `CN=moby db`.
    pub fn subject(&self) -> String {
        name_text(&self.subject)
    }

    /// The digest of all of it, by which people compare certificates.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// Whether it is for this key.
    pub fn is_for(&self, key: &Key) -> bool {
        self.algorithm == key.algorithm() && self.public_key == key.public_key()
    }

    /// Bytes of the longest signature that its key makes. Those of RSA keys all have this length; those of ECDSA are a
    /// few bytes shorter now and then.
    pub fn signature_size(&self) -> usize {
        match self.algorithm {
            Algorithm::Rsa => self.bits().div_ceil(8),
            // Two integers of up to 33 bytes, with three headers of two bytes.
            Algorithm::EcdsaP256 => 72,
        }
    }

    /// Whether a signature over bytes was made with its key.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::Rsa => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key).verify(bytes, signature).is_ok()
            }
            Algorithm::EcdsaP256 => {
                let key = VerifyingKey::from_sec1_bytes(&self.public_key);
                let signature = DerSignature::try_from(signature);
                matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(bytes, &signature).is_ok())
            }
        }
    }
}

/// What a self-signed certificate says.
#[derive(Clone, Copy, Debug)]
pub struct SelfSigned<'a> {
    /// Its common name, at most 64 characters.
    pub name: &'a str,
    /// Its serial number: no two certificates of a name may have the same.
    pub serial: [u8; 16],
    /// First second at which it is valid, since the epoch.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl SelfSigned<'_> {
    /// The certificate of a key, signed by it.
    pub fn issue(&self, key: &Key) -> Result<Certificate> {
        if self.name.is_empty() || self.name.chars().count() > 64 {
            return Err(Error::usage(format!("the name \"{}\" has not 1 to 64 characters", self.name.escape_debug())));
        }
        let (public_key_algorithm, signature_algorithm) = match key.algorithm() {
            Algorithm::Rsa => (RSA, RSA_SHA256),
            Algorithm::EcdsaP256 => (EC_P256, ECDSA_SHA256),
        };
        let public_key = key.public_key();
        // A positive number that keeps its length: the first bit clear, the second one set.
        let mut serial = self.serial;
        serial[0] = serial[0] & 0x3f | 0x40;
        let attribute = value(tag::SEQUENCE, &[COMMON_NAME, &value(0x0c, &[self.name.as_bytes()])]);
        let name = value(tag::SEQUENCE, &[&value(tag::SET, &[&attribute])]);
        // RFC 7093, 2: the leftmost 160 bits of the SHA-256 of the key.
        let identifier = value(tag::OCTET_STRING, &[&Digest::of(&public_key).as_bytes()[..20]]);
        let octets = |bytes: &[u8]| value(tag::OCTET_STRING, &[bytes]);
        let extensions = [
            value(tag::SEQUENCE, &[SUBJECT_KEY_IDENTIFIER, &octets(&identifier)]),
            // Critical, and an authority: else openssl and what uses it do not take it as the end of a chain.
            value(tag::SEQUENCE, &[BASIC_CONSTRAINTS, b"\x01\x01\xff", &octets(b"\x30\x03\x01\x01\xff")]),
        ]
        .concat();
        let to_be_signed = value(
            tag::SEQUENCE,
            &[
                &value(tag::context(0), &[b"\x02\x01\x02"]),
                &value(tag::INTEGER, &[&serial]),
                signature_algorithm,
                &name,
                &value(tag::SEQUENCE, &[&time(self.not_before), &time(self.not_after)]),
                &name,
                &value(
                    tag::SEQUENCE,
                    &[&value(tag::SEQUENCE, &[public_key_algorithm]), &value(tag::BIT_STRING, &[&[0], &public_key])],
                ),
                &value(tag::context(3), &[&value(tag::SEQUENCE, &[&extensions])]),
            ],
        );
        let signature = key.sign(&to_be_signed)?;
        let whole =
            value(tag::SEQUENCE, &[&to_be_signed, signature_algorithm, &value(tag::BIT_STRING, &[&[0], &signature])]);
        Certificate::from_der(&whole)
    }
}

/// A time as certificates want it: two digits of the year until 2049 (RFC 5280, 4.1.2.5).
fn time(time: i64) -> Vec<u8> {
    let Civil { year, month, day, hour, minute, second } = Civil::of(time);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if (1950..2050).contains(&year) {
        value(UTC_TIME, &[format!("{:02}{rest}", year % 100).as_bytes()])
    } else {
        value(GENERALIZED_TIME, &[format!("{year:04}{rest}").as_bytes()])
    }
}

fn read_time(value: Value<'_>) -> Option<i64> {
    let text = std::str::from_utf8(value.content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match value.tag {
        UTC_TIME => text.split_at_checked(2)?,
        GENERALIZED_TIME => text.split_at_checked(4)?,
        _ => return None,
    };
    let year = match (value.tag, year.parse::<i64>().ok()?) {
        (UTC_TIME, year) if year < 50 => 2000 + year,
        (UTC_TIME, year) => 1900 + year,
        (_, year) => year,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    if rest.len() != 10 {
        return None;
    }
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    Some(Civil { year, month, day, hour, minute, second }.time())
}

fn name_text(name: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut sets = Reader(Reader(name).next_value().map_or(&[][..], |name| name.content));
    while let Some(set) = sets.next_value() {
        let Some(attribute) = Reader(set.content).next_value() else { continue };
        let mut attribute = Reader(attribute.content);
        let (Some(kind), Some(text)) = (attribute.next_value(), attribute.next_value()) else { continue };
        let known = NAME_PARTS.iter().find(|(number, _)| kind.content == [0x55, 4, *number]);
        let kind = known.map_or("?", |(_, kind)| kind);
        parts.push(format!("{kind}={}", String::from_utf8_lossy(text.content).escape_debug()));
    }
    parts.join(", ")
}

fn parse(der: &[u8]) -> Option<Certificate> {
    let whole = Reader(der).expect(tag::SEQUENCE)?;
    let mut to_be_signed = Reader(Reader(whole.content).expect(tag::SEQUENCE)?.content);
    let mut first = to_be_signed.next_value()?;
    if first.tag == tag::context(0) {
        first = to_be_signed.next_value()?;
    }
    let serial = Some(first).filter(|value| value.tag == tag::INTEGER)?;
    to_be_signed.expect(tag::SEQUENCE)?; // algorithm of the signature
    let issuer = to_be_signed.expect(tag::SEQUENCE)?;
    let mut validity = Reader(to_be_signed.expect(tag::SEQUENCE)?.content);
    let validity = (read_time(validity.next_value()?)?, read_time(validity.next_value()?)?);
    let subject = to_be_signed.expect(tag::SEQUENCE)?;
    let mut key = Reader(to_be_signed.expect(tag::SEQUENCE)?.content);
    let algorithm = match key.expect(tag::SEQUENCE)?.content {
        RSA => Algorithm::Rsa,
        EC_P256 => Algorithm::EcdsaP256,
        _ => return None,
    };
    // The first byte counts unused bits.
    let (0, public_key) = key.expect(tag::BIT_STRING)?.content.split_first().map(|(unused, key)| (*unused, key))?
    else {
        return None;
    };
    Some(Certificate {
        der: whole.whole.to_vec(),
        issuer: issuer.whole.to_vec(),
        serial: serial.whole.to_vec(),
        subject: subject.whole.to_vec(),
        validity,
        algorithm,
        public_key: public_key.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, text) in
            [(0, "700101000000Z"), (2_524_607_999, "491231235959Z"), (2_524_608_000, "20500101000000Z")]
        {
            let bytes = time(seconds);
            assert_eq!(&bytes[2..], text.as_bytes());
            assert_eq!(read_time(Reader(&bytes).next_value().unwrap()), Some(seconds));
        }
        for bad in ["", "Z", "7001010000Z", "70010100000xZ", "700101000000"] {
            let bytes = value(UTC_TIME, &[bad.as_bytes()]);
            assert_eq!(read_time(Reader(&bytes).next_value().unwrap()), None, "{bad}");
        }
    }

    #[test]
    fn a_certificate_reads_back() {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let key = Key::EcdsaP256(Box::new(p256::ecdsa::SigningKey::from(secret)));
        let certificate = SelfSigned { name: "a name", serial: [0xff; 16], not_before: 5, not_after: 4_000_000_000 }
            .issue(&key)
            .unwrap();
        assert_eq!(certificate.subject(), "CN=a name");
        assert_eq!(certificate.validity(), (5, 4_000_000_000));
        assert_eq!((certificate.bits(), certificate.serial.as_slice()[2]), (256, 0x7f));
        assert!(certificate.is_for(&key) && certificate.subject == certificate.issuer);
        assert!(SelfSigned { name: "", serial: [0; 16], not_before: 0, not_after: 0 }.issue(&key).is_err());
    }
}
