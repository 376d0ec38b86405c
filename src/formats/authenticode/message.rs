//! The PKCS#7 message that says who signed which digest (Microsoft, "Windows Authenticode Portable Executable
//! Signature Format"; PKCS#7 1.5, version 1, which is what firmware takes; CMS libraries write version 3).
//!
//! No time is in it: Secure Boot does not look at times, and the same image gets the same bytes.

use super::der::{tag, value};
use super::{Algorithm, Certificate, Key};
use crate::error::{Error, Result};
use crate::store::Digest;

/// `signedData`, 1.2.840.113549.1.7.2.
pub(super) const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
/// `data`, 1.2.840.113549.1.7.1.
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
/// `SPC_INDIRECT_DATA_OBJID`, 1.3.6.1.4.1.311.2.1.4.
pub(super) const INDIRECT_DATA: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x04";
/// `SPC_PE_IMAGE_DATA_OBJID`, 1.3.6.1.4.1.311.2.1.15.
const PE_IMAGE_DATA: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0f";
/// `contentType`, 1.2.840.113549.1.9.3.
pub(super) const CONTENT_TYPE: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03";
/// `messageDigest`, 1.2.840.113549.1.9.4.
pub(super) const MESSAGE_DIGEST: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";
/// SHA-256, 2.16.840.1.101.3.4.2.1, as an algorithm.
pub(super) const SHA256: &[u8] = b"\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00";
/// `rsaEncryption` as an algorithm.
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// `ecdsa-with-SHA256` as an algorithm.
const ECDSA: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const VERSION_1: &[u8] = b"\x02\x01\x01";

/// The bytes that a key signs for an executable of a digest, as a file for a key elsewhere:
/// `openssl dgst -sha256 -sign KEY FILE`.
pub fn to_be_signed(image: Digest) -> Vec<u8> {
    value(tag::SET, &[&attributes(image)])
}

/// The message, from a signature over [`to_be_signed`]. A signature that the certificate's key did not make is refused.
pub fn message(image: Digest, certificate: &Certificate, signature: &[u8]) -> Result<Vec<u8>> {
    if !certificate.verifies(&to_be_signed(image), signature) {
        return Err(Error::refused("the signature was not made with the certificate's key over this executable")
            .hint("key and certificate must belong together, and the executable must not have changed since"));
    }
    Ok(build(image, certificate, signature))
}

fn build(image: Digest, certificate: &Certificate, signature: &[u8]) -> Vec<u8> {
    let content = value(
        tag::SEQUENCE,
        &[INDIRECT_DATA, &value(tag::context(0), &[&value(tag::SEQUENCE, &[&indirect_data(image)])])],
    );
    let issuer_and_serial = value(tag::SEQUENCE, &[&certificate.issuer, &certificate.serial]);
    let signer = value(
        tag::SEQUENCE,
        &[
            VERSION_1,
            &issuer_and_serial,
            SHA256,
            &value(tag::context(0), &[&attributes(image)]),
            encryption(certificate.algorithm),
            &value(tag::OCTET_STRING, &[signature]),
        ],
    );
    let signed_data = value(
        tag::SEQUENCE,
        &[
            VERSION_1,
            &value(tag::SET, &[SHA256]),
            &content,
            &value(tag::context(0), &[&certificate.der]),
            &value(tag::SET, &[&signer]),
        ],
    );
    value(tag::SEQUENCE, &[SIGNED_DATA, &value(tag::context(0), &[&signed_data])])
}

/// Signs with a key at hand. The same key, certificate and digest give the same bytes.
pub fn sign(image: Digest, certificate: &Certificate, key: &Key) -> Result<Vec<u8>> {
    message(image, certificate, &key.sign(&to_be_signed(image))?)
}

/// Bytes of the longest message that [`message`] makes with a certificate.
pub fn message_size(certificate: &Certificate) -> usize {
    build(Digest::from_bytes([0; 32]), certificate, &vec![0; certificate.signature_size()]).len()
}

/// A signature over bytes that lie elsewhere, as authenticated variables have it: `SignedData` of PKCS#7 without the
/// envelope that says so, without attributes (UEFI 2.10, 8.2.2).
pub fn detached(bytes: &[u8], certificate: &Certificate, key: &Key) -> Result<Vec<u8>> {
    let signature = key.sign(bytes)?;
    if !certificate.verifies(bytes, &signature) {
        return Err(Error::refused("key and certificate do not belong together"));
    }
    let signer = value(
        tag::SEQUENCE,
        &[
            VERSION_1,
            &value(tag::SEQUENCE, &[&certificate.issuer, &certificate.serial]),
            SHA256,
            encryption(certificate.algorithm),
            &value(tag::OCTET_STRING, &[&signature]),
        ],
    );
    Ok(value(
        tag::SEQUENCE,
        &[
            VERSION_1,
            &value(tag::SET, &[SHA256]),
            &value(tag::SEQUENCE, &[DATA]),
            &value(tag::context(0), &[&certificate.der]),
            &value(tag::SET, &[&signer]),
        ],
    ))
}

/// The same in the envelope that says what it is: a file for programs that check signatures.
pub fn detached_file(bytes: &[u8], certificate: &Certificate, key: &Key) -> Result<Vec<u8>> {
    let signed_data = detached(bytes, certificate, key)?;
    Ok(value(tag::SEQUENCE, &[SIGNED_DATA, &value(tag::context(0), &[&signed_data])]))
}

fn encryption(algorithm: Algorithm) -> &'static [u8] {
    match algorithm {
        Algorithm::Rsa => RSA,
        Algorithm::EcdsaP256 => ECDSA,
    }
}

/// What is signed: the kind of file and its digest, without the outer tag, which the inner digest leaves out.
fn indirect_data(image: Digest) -> Vec<u8> {
    let obsolete: Vec<u8> = "<<<Obsolete>>>".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let file = value(tag::context(0), &[&value(tag::context(2), &[&value(0x80, &[&obsolete])])]);
    let flags = value(tag::BIT_STRING, &[&[0]]);
    let data = value(tag::SEQUENCE, &[PE_IMAGE_DATA, &value(tag::SEQUENCE, &[&flags, &file])]);
    let digest = value(tag::SEQUENCE, &[SHA256, &value(tag::OCTET_STRING, &[image.as_bytes()])]);
    [data, digest].concat()
}

/// Content type and digest, in the order that DER wants of a set: by their bytes, which here means by length.
fn attributes(image: Digest) -> Vec<u8> {
    let inner = Digest::of(&indirect_data(image));
    let content_type = value(tag::SEQUENCE, &[CONTENT_TYPE, &value(tag::SET, &[INDIRECT_DATA])]);
    let digest =
        value(tag::SEQUENCE, &[MESSAGE_DIGEST, &value(tag::SET, &[&value(tag::OCTET_STRING, &[inner.as_bytes()])])]);
    [content_type, digest].concat()
}
