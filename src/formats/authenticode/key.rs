//! Keys and certificates.

use std::fmt;

use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::DecodePrivateKey;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::der::{Reader, tag};
use crate::error::{Error, Result};

/// `rsaEncryption` with its NULL.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// `id-ecPublicKey` on the curve P-256.
const EC_P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with PKCS#1 v1.5 padding: what every firmware checks.
    Rsa,
    /// ECDSA on P-256. Firmware of the PC world mostly checks RSA only.
    EcdsaP256,
}

/// A private key.
pub enum Key {
    /// RSA of 2048 to 4096 bits.
    Rsa(Box<RsaKeyPair>),
    /// P-256.
    EcdsaP256(Box<SigningKey>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key itself.
        f.debug_tuple("Key").field(&self.algorithm()).finish()
    }
}

impl Key {
    /// A key from PEM: PKCS#8, or the older forms "RSA PRIVATE KEY" and "EC PRIVATE KEY".
    pub fn from_pem(pem: &[u8]) -> Result<Key> {
        let refused = |why: String| {
            Error::refused(format!("this is no private key that can sign for Secure Boot: {why}"))
                .hint("RSA keys of 2048 to 4096 bits and keys on P-256 are taken, unencrypted, as PEM")
        };
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| refused(error.to_string()))?;
        let ec = |key: p256::SecretKey| Key::EcdsaP256(Box::new(SigningKey::from(key)));
        match &der {
            PrivateKeyDer::Pkcs1(bytes) => RsaKeyPair::from_der(bytes.secret_pkcs1_der())
                .map(|key| Key::Rsa(Box::new(key)))
                .map_err(|error| refused(error.to_string())),
            PrivateKeyDer::Sec1(bytes) => p256::SecretKey::from_sec1_der(bytes.secret_sec1_der())
                .map(ec)
                .map_err(|error| refused(error.to_string())),
            PrivateKeyDer::Pkcs8(bytes) => match RsaKeyPair::from_pkcs8(bytes.secret_pkcs8_der()) {
                Ok(key) => Ok(Key::Rsa(Box::new(key))),
                Err(rsa) => p256::SecretKey::from_pkcs8_der(bytes.secret_pkcs8_der())
                    .map(ec)
                    .map_err(|ec| refused(format!("as RSA {rsa}, as P-256 {ec}"))),
            },
            _ => Err(refused("its form is unknown".into())),
        }
    }

    /// The key's algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Key::Rsa(_) => Algorithm::Rsa,
            Key::EcdsaP256(_) => Algorithm::EcdsaP256,
        }
    }

    /// Signs the SHA-256 digest of bytes. The same bytes give the same signature.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        match self {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                // The random numbers blind the computation, they do not reach its result.
                key.sign(&RSA_PKCS1_SHA256, &ring::rand::SystemRandom::new(), bytes, &mut signature)
                    .map_err(|_| Error::failed("signing with the RSA key failed"))?;
                Ok(signature)
            }
            Key::EcdsaP256(key) => {
                let signature: DerSignature = key
                    .try_sign(bytes)
                    .map_err(|error| Error::failed(format!("signing with the P-256 key: {error}")))?;
                Ok(signature.as_bytes().to_vec())
            }
        }
    }
}

/// A certificate, as far as a signature needs it.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub(super) der: Vec<u8>,
    /// Its issuer's name, in DER.
    pub(super) issuer: Vec<u8>,
    /// Its serial number, in DER.
    pub(super) serial: Vec<u8>,
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

    /// The kind of key that it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
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
    to_be_signed.expect(tag::SEQUENCE)?; // validity
    to_be_signed.expect(tag::SEQUENCE)?; // subject
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
        algorithm,
        public_key: public_key.to_vec(),
    })
}
