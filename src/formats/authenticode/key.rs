//! Private keys.

use std::fmt;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{Error, Result};

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
        if is_encrypted(pem) {
            return Err(Error::refused("this private key is encrypted, and moby asks for no passphrase").hint(
                "openssl pkey -in KEY -out PLAIN.key decrypts it; or leave it where it is, with --sign-command",
            ));
        }
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

    /// The public key as certificates have it: `RSAPublicKey` of PKCS#1 in DER, or a point, uncompressed.
    pub fn public_key(&self) -> Vec<u8> {
        match self {
            Key::Rsa(key) => key.public_key().as_ref().to_vec(),
            Key::EcdsaP256(key) => key.verifying_key().to_encoded_point(false).as_bytes().to_vec(),
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

/// Whether a PEM file says that it needs a passphrase: PKCS#8 by its label, the older forms by a header (RFC 1421,
/// 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).lines().any(|line| {
        line.trim() == "-----BEGIN ENCRYPTED PRIVATE KEY-----"
            || line.strip_prefix("Proc-Type:").is_some_and(|rest| rest.contains("ENCRYPTED"))
    })
}
