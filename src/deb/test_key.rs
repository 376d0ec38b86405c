//! OpenPGP keys for tests, made from fixed secrets: no random numbers, so the same bytes in every run.

use std::time::{Duration, SystemTime};

use pgp::composed::{ArmorOptions, CleartextSignedMessage, SignedKeyDetails, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::ed25519::{Mode, SecretKey as Ed25519};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    KeyFlags, PubKeyInner, PublicKey, PublicSubkey, RevocationCode, SecretKey, SecretSubkey, Signature,
    SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::ser::Serialize;
use pgp::types::{
    KeyDetails, KeyVersion, PacketHeaderVersion, Password, PlainSecretParams, PublicParams, SecretParams, SignedUser,
    SigningKey, Tag, Timestamp,
};

/// The time at which test keys are made, in seconds since the epoch.
pub const BORN: u32 = 1_700_000_000;

/// A time, in days after [`BORN`].
pub fn day(days: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(BORN) + u64::from(days) * 86_400)
}

/// What is special about a key.
#[derive(Clone, Default)]
pub struct Special {
    /// Days that the primary key lives.
    pub life: Option<u32>,
    /// Days that the subkey lives.
    pub subkey_life: Option<u32>,
    /// When (days) and why the primary key was revoked.
    pub revoked: Option<(u32, RevocationCode)>,
    /// When and why the subkey was revoked.
    pub subkey_revoked: Option<(u32, RevocationCode)>,
    /// The subkey does not say that it may sign.
    pub subkey_for_nothing: bool,
    /// The subkey does not confirm its primary key.
    pub no_back_signature: bool,
}

/// A primary key that certifies only, with a subkey that signs, as Debian's are.
pub struct TestKey {
    primary: SecretKey,
    subkey: SecretSubkey,
    /// The keyring with its public half.
    pub public: Vec<u8>,
}

fn inner(secret: u8) -> (PubKeyInner, SecretParams) {
    let secret = Ed25519::try_from_bytes([secret; 32], Mode::Ed25519).unwrap();
    let public = PublicParams::Ed25519((&secret).into());
    let born = Timestamp::from_secs(BORN);
    let inner = PubKeyInner::new(KeyVersion::V4, PublicKeyAlgorithm::Ed25519, born, None, public).unwrap();
    (inner, SecretParams::Plain(PlainSecretParams::Ed25519(secret)))
}

fn config(typ: SignatureType, by: &impl KeyDetails, days: u32, more: Vec<SubpacketData>) -> SignatureConfig {
    let mut config = SignatureConfig::v4(typ, PublicKeyAlgorithm::Ed25519, HashAlgorithm::Sha512);
    let made = Timestamp::from_secs(BORN + days * 86_400);
    let own = [SubpacketData::SignatureCreationTime(made), SubpacketData::IssuerFingerprint(by.fingerprint())];
    config.hashed_subpackets = own.into_iter().chain(more).map(|data| Subpacket::regular(data).unwrap()).collect();
    config
}

fn life(days: Option<u32>) -> Option<SubpacketData> {
    days.map(|days| SubpacketData::KeyExpirationTime(pgp::types::Duration::from_secs(days * 86_400)))
}

impl TestKey {
    /// A key of its own for every secret.
    pub fn new(secret: u8, special: Special) -> TestKey {
        let none = Password::empty();
        let (public, private) = inner(secret);
        let primary = SecretKey::new(PublicKey::from_inner(public).unwrap(), private).unwrap();
        let (public, private) = inner(secret ^ 0x80);
        let subkey = SecretSubkey::new(PublicSubkey::from_inner(public).unwrap(), private).unwrap();
        let (primary_public, subkey_public) = (primary.public_key().clone(), subkey.public_key().clone());

        let mut certify = KeyFlags::default();
        certify.set_certify(true);
        let id = UserId::from_str(PacketHeaderVersion::New, "Archive <archive@example.org>").unwrap();
        let more = life(special.life).into_iter().chain([SubpacketData::KeyFlags(certify)]).collect();
        let certification = config(SignatureType::CertPositive, &primary, 0, more)
            .sign_certification(&primary, &primary_public, &none, Tag::UserId, &id)
            .unwrap();
        let mut revocations = Vec::new();
        if let Some((days, why)) = special.revoked {
            let more = vec![SubpacketData::RevocationReason(why, Default::default())];
            let config = config(SignatureType::KeyRevocation, &primary, days, more);
            revocations.push(config.sign_key(&primary, &none, &primary_public).unwrap());
        }

        let mut sign = KeyFlags::default();
        sign.set_sign(!special.subkey_for_nothing);
        let mut more: Vec<_> = life(special.subkey_life).into_iter().chain([SubpacketData::KeyFlags(sign)]).collect();
        if !special.no_back_signature {
            let back = config(SignatureType::KeyBinding, &subkey, 0, Vec::new())
                .sign_primary_key_binding(&subkey, &subkey_public, &none, &primary_public)
                .unwrap();
            more.push(SubpacketData::EmbeddedSignature(Box::new(back)));
        }
        let bind = |config: SignatureConfig| {
            config.sign_subkey_binding(&primary, &primary_public, &none, &subkey_public).unwrap()
        };
        let mut bindings = vec![bind(config(SignatureType::SubkeyBinding, &primary, 0, more))];
        if let Some((days, why)) = special.subkey_revoked {
            let more = vec![SubpacketData::RevocationReason(why, Default::default())];
            bindings.push(bind(config(SignatureType::SubkeyRevocation, &primary, days, more)));
        }
        let users = vec![SignedUser::new(id, vec![certification])];
        let details = SignedKeyDetails::new(revocations, Vec::new(), users, Vec::new());
        let subkeys = vec![SignedPublicSubKey::new(subkey_public, bindings)];
        let public = SignedPublicKey::new(primary_public, details, subkeys).to_bytes().unwrap();
        TestKey { primary, subkey, public }
    }

    /// Signs a text with the subkey, so many days after [`BORN`].
    pub fn sign(&self, text: &str, days: u32) -> String {
        armored(text, vec![self.signature(&self.subkey, text, days)])
    }

    /// Signs with the primary key, which may not sign.
    pub fn sign_with_primary(&self, text: &str, days: u32) -> String {
        armored(text, vec![self.signature(&self.primary, text, days)])
    }

    /// Signs with two keys, this one first.
    pub fn sign_both(&self, other: &TestKey, text: &str, days: u32) -> String {
        let signatures = vec![self.signature(&self.subkey, text, days), other.signature(&other.subkey, text, days)];
        armored(text, signatures)
    }

    /// A signature that claims a weak hash.
    pub fn sign_weakly(&self, text: &str, days: u32) -> String {
        let strong = self.signature(&self.subkey, text, days);
        let mut config = strong.config().unwrap().clone();
        config.hash_alg = HashAlgorithm::Sha1;
        let hash = strong.signed_hash_value().unwrap();
        armored(text, vec![Signature::from_config(config, hash, strong.signature().unwrap().clone()).unwrap()])
    }

    fn signature(&self, key: &impl SigningKey, text: &str, days: u32) -> Signature {
        let text = text.replace('\n', "\r\n");
        config(SignatureType::Text, key, days, Vec::new()).sign(key, &Password::empty(), text.as_bytes()).unwrap()
    }
}

fn armored(text: &str, signatures: Vec<Signature>) -> String {
    let message = CleartextSignedMessage::new_many(text, |_| Ok(signatures)).unwrap();
    message.to_armored_string(ArmorOptions::default()).unwrap()
}
