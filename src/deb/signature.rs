//! The OpenPGP signature over an `InRelease` file (RFC 9580 section 7, "Cleartext Signature Framework").
//!
//! What counts as good is decided here; the `pgp` crate only does the arithmetic. One good signature suffices: during
//! a change of keys Debian signs with the old and the new. A signature is good when
//! - it is over the text, its hash is SHA-256 or stronger, and it was not made in the future nor has expired;
//! - it was made by a key of the keyring or by a subkey bound to one, and that key may sign;
//! - neither was expired when it was made, nor revoked by then (or ever, if the key is said to be compromised).
//!
//! Trust is the keyring: certifications by third parties mean nothing here.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{RevocationCode, Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};

use crate::error::{Error, IoContext, Result};

/// The environment variable that names another keyring.
pub const KEYRING_VARIABLE: &str = "MOBY_DEB_KEYRING";

/// Where Debian's package debian-archive-keyring puts its keyring (`.pgp` since trixie).
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// Debian's keyring has 56 KiB.
const KEYRING_LIMIT: usize = 16 << 20;

/// More signatures than any archive makes; each may cost a verification per key.
const SIGNATURES_LIMIT: usize = 32;

/// How far the clock of this machine may be behind that of the archive.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60 * 60);

/// The keys that may sign the archive.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
    /// Where they are from, for messages.
    from: String,
}

impl Keyring {
    /// The keyring that `MOBY_DEB_KEYRING` names, else that of Debian's package debian-archive-keyring.
    pub fn of_machine() -> Result<Keyring> {
        let path = match std::env::var_os(KEYRING_VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => KEYRINGS.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or_else(|| {
                Error::usage(format!(
                    "the keys of the Debian archive are not on this machine ({} is not there), so nothing from it can be trusted",
                    KEYRINGS.join(" and ")
                ))
                .hint(format!(
                    "install the package debian-archive-keyring (most distributions have it), or point {KEYRING_VARIABLE} at its debian-archive-keyring.gpg"
                ))
            })?,
        };
        let size = path.metadata().at("reading the keyring", &path)?.len();
        if size > KEYRING_LIMIT as u64 {
            return Err(Error::refused(format!("{} has {size} bytes, too many for a keyring", path.display())));
        }
        Keyring::parse(&std::fs::read(&path).at("reading the keyring", &path)?, &path.display().to_string())
    }

    /// Reads a keyring, binary or armoured. Keys of kinds that the crate does not know are passed over.
    pub fn parse(bytes: &[u8], from: &str) -> Result<Keyring> {
        let unreadable = |error: pgp::errors::Error| Error::refused(format!("{from} is no OpenPGP keyring: {error}"));
        let keys: Vec<SignedPublicKey> = if bytes.starts_with(b"-----") {
            SignedPublicKey::from_armor_many(bytes).map_err(unreadable)?.0.flatten().collect()
        } else {
            SignedPublicKey::from_bytes_many(bytes).map_err(unreadable)?.flatten().collect()
        };
        if keys.is_empty() {
            return Err(Error::refused(format!("{from} has no OpenPGP key that is understood")));
        }
        Ok(Keyring { keys, from: from.to_string() })
    }

    /// Checks a cleartext-signed message at the time `now` and returns its text, lines ending in `\r\n`. `what` names
    /// the message.
    pub fn verify(&self, message: &[u8], what: &str, now: SystemTime) -> Result<String> {
        let malformed = |error: &dyn std::fmt::Display| {
            Error::refused(format!("{what} is no signed message: {error}"))
                .hint("a proxy or a login page may have answered in the mirror's place")
        };
        let text = std::str::from_utf8(message).map_err(|error| malformed(&error))?;
        let (message, _) = CleartextSignedMessage::from_string(text).map_err(|error| malformed(&error))?;
        let text = message.signed_text();
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut reasons = Vec::new();
        for signature in message.signatures().iter().take(SIGNATURES_LIMIT) {
            match self.judge(signature, text.as_bytes(), now) {
                Ok(()) => return Ok(text),
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() {
            reasons.push("there is no signature".to_string());
        }
        Err(Error::refused(format!("no signature of {what} is good: {}", reasons.join("; ")))
            .hint(format!("the keys are those of {}; a newer debian-archive-keyring may have newer ones", self.from)))
    }

    /// Whether one signature is good; if not, why.
    fn judge(&self, signature: &Signature, text: &[u8], now: u64) -> Result<(), String> {
        if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
            return Err("a signature is not one of a text".to_string());
        }
        let issuer = issuer(signature);
        if !strong(signature) {
            return Err(format!("the signature by {issuer} uses a weak hash"));
        }
        let made = created(signature).ok_or_else(|| format!("the signature by {issuer} has no date"))?;
        if made > now.saturating_add(CLOCK_TOLERANCE.as_secs()) {
            return Err(format!("the signature by {issuer} was made in the future; is the clock right?"));
        }
        if expired(made, signature.signature_expiration_time(), now) {
            return Err(format!("the signature by {issuer} has expired"));
        }
        let mut reason = format!("{issuer} is not in the keyring");
        for key in &self.keys {
            for (candidate, subkey) in components(key) {
                if !could_be_by(signature, candidate) {
                    continue;
                }
                reason = match check(key, subkey, made).and_then(|()| verifies(signature, key, subkey, text)) {
                    Ok(()) => return Ok(()),
                    Err(what) => format!("{issuer}: {what}"),
                };
            }
        }
        Err(reason)
    }
}

/// The primary key and every subkey.
fn components(key: &SignedPublicKey) -> impl Iterator<Item = (&dyn KeyDetails, Option<&SignedPublicSubKey>)> {
    let primary: (&dyn KeyDetails, _) = (&key.primary_key, None);
    std::iter::once(primary)
        .chain(key.public_subkeys.iter().map(|subkey| (&subkey.key as &dyn KeyDetails, Some(subkey))))
}

/// Whether the signature names this key as its issuer. One that names nobody is nobody's.
fn could_be_by(signature: &Signature, key: &dyn KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    match fingerprints.is_empty() {
        true => signature.issuer_key_id().contains(&&key.legacy_key_id()),
        false => fingerprints.contains(&&key.fingerprint()),
    }
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("key {fingerprint}"));
    fingerprint
        .or_else(|| signature.issuer_key_id().first().map(|id| format!("key {id}")))
        .unwrap_or_else(|| "an unnamed key".to_string())
}

fn verifies(
    signature: &Signature,
    key: &SignedPublicKey,
    subkey: Option<&SignedPublicSubKey>,
    text: &[u8],
) -> Result<(), String> {
    let verified = match subkey {
        Some(subkey) => signature.verify(&subkey.key, text),
        None => signature.verify(&key.primary_key, text),
    };
    verified.map_err(|_| "the text was altered, or the signature is not by this key".to_string())
}

/// Whether the key, or its subkey, may have signed something at the time `made`.
fn check(key: &SignedPublicKey, subkey: Option<&SignedPublicSubKey>, made: u64) -> Result<(), String> {
    let primary = &key.primary_key;
    let born = u64::from(primary.created_at().as_secs());
    // The newest statement that the key makes about itself, bound to a user or to the key as a whole. It counts even if
    // it is newer than what was signed: keyrings are often stripped of older ones.
    let users = key.details.users.iter().flat_map(|user| user.signatures.iter().map(move |s| (s, Some(user))));
    let own = users.chain(key.details.direct_signatures.iter().map(|s| (s, None)));
    let own = own.filter(|(s, _)| strong(s) && could_be_by(s, primary));
    let mut own: Vec<_> = own.collect();
    own.sort_by_key(|(s, _)| std::cmp::Reverse(created(s)));
    let statement = own.into_iter().find(|(s, user)| match user {
        Some(user) => s.is_certification() && s.verify_certification(primary, Tag::UserId, &user.id).is_ok(),
        None => s.typ() == Some(SignatureType::Key) && s.verify_key(primary).is_ok(),
    });
    let (statement, _) = statement.ok_or("the key has no valid signature over itself")?;
    if expired(born, statement.key_expiration_time(), made) {
        return Err("the key had expired when the signature was made".to_string());
    }
    let revocations = key.details.revocation_signatures.iter();
    if revocations.filter(|s| revokes(s, made)).any(|s| s.verify_key(primary).is_ok()) {
        return Err("the key is revoked".to_string());
    }
    let Some(subkey) = subkey else {
        return match statement.key_flags().sign() {
            true => Ok(()),
            false => Err("the key may not sign".to_string()),
        };
    };
    let born = u64::from(subkey.key.created_at().as_secs());
    let mut bindings: Vec<&Signature> = subkey.signatures.iter().collect();
    bindings.retain(|s| s.typ() == Some(SignatureType::SubkeyBinding) && strong(s));
    bindings.sort_by_key(|s| std::cmp::Reverse(created(s)));
    let binding = bindings.into_iter().find(|s| s.verify_subkey_binding(primary, &subkey.key).is_ok());
    let binding = binding.ok_or("the subkey is not bound to its key")?;
    if expired(born, binding.key_expiration_time(), made) {
        return Err("the subkey had expired when the signature was made".to_string());
    }
    if !binding.key_flags().sign() {
        return Err("the subkey may not sign".to_string());
    }
    // Without it, anybody could adopt somebody else's signing key as a subkey.
    let back = binding.embedded_signature().filter(|s| strong(s));
    if back.is_none_or(|s| s.verify_primary_key_binding(&subkey.key, primary).is_err()) {
        return Err("the subkey does not confirm that it belongs to its key".to_string());
    }
    let mut revocations = subkey.signatures.iter().filter(|s| s.typ() == Some(SignatureType::SubkeyRevocation));
    if revocations.any(|s| revokes(s, made) && s.verify_subkey_binding(primary, &subkey.key).is_ok()) {
        return Err("the subkey is revoked".to_string());
    }
    Ok(())
}

/// Whether a revocation concerns what was signed at the time `made`. A key that was superseded or retired was good
/// before; for any other reason, or none, it never was (RFC 9580 section 5.2.3.31).
fn revokes(revocation: &Signature, made: u64) -> bool {
    let harmless =
        matches!(revocation.revocation_reason_code(), Some(RevocationCode::KeySuperseded | RevocationCode::KeyRetired));
    !harmless || created(revocation).is_none_or(|revoked| revoked <= made)
}

fn created(signature: &Signature) -> Option<u64> {
    signature.created().map(|time| u64::from(time.as_secs()))
}

/// Whether something from the time `from` that lives for `life` (0 and none: for ever) is over at the time `at`.
fn expired(from: u64, life: Option<pgp::types::Duration>, at: u64) -> bool {
    life.map(|life| u64::from(life.as_secs())).is_some_and(|life| life > 0 && from.saturating_add(life) <= at)
}

fn strong(signature: &Signature) -> bool {
    matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
