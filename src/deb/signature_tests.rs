use super::super::test_key::{Special, TestKey, day};
use super::*;

const TEXT: &str = "Origin: Debian\n- a line that is escaped\nSuite: x";

fn keyring(keys: &[&TestKey]) -> Keyring {
    let bytes: Vec<u8> = keys.iter().flat_map(|key| key.public.clone()).collect();
    Keyring::parse(&bytes, "test keyring").unwrap()
}

/// What is said about a message signed by a special key on day 10 and read on day 20.
fn verdict(special: Special) -> String {
    let key = TestKey::new(1, special);
    match keyring(&[&key]).verify(key.sign(TEXT, 10).as_bytes(), "it", day(20)) {
        Ok(_) => "good".to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_good_signature_gives_the_text() {
    let (key, other) = (TestKey::new(1, Special::default()), TestKey::new(2, Special::default()));
    let ring = keyring(&[&other, &key]);
    let text = ring.verify(key.sign(TEXT, 10).as_bytes(), "it", day(20)).unwrap();
    assert_eq!(text, TEXT.replace('\n', "\r\n"));
    // One good signature of several suffices, wherever it stands.
    for message in [key.sign_both(&other, TEXT, 10), other.sign_both(&key, TEXT, 10)] {
        assert!(keyring(&[&key]).verify(message.as_bytes(), "it", day(20)).is_ok());
    }
}

#[test]
fn armoured_keyrings_are_read() {
    let key = TestKey::new(1, Special::default());
    let public = SignedPublicKey::from_bytes(key.public.as_slice()).unwrap();
    let armoured = public.to_armored_bytes(Default::default()).unwrap();
    let ring = Keyring::parse(&armoured, "it").unwrap();
    assert!(ring.verify(key.sign(TEXT, 10).as_bytes(), "it", day(20)).is_ok());
    assert!(Keyring::parse(b"nonsense", "it").is_err());
    assert!(Keyring::parse(b"", "it").is_err());
}

#[test]
fn other_keys_and_altered_texts_are_refused() {
    let (key, other) = (TestKey::new(1, Special::default()), TestKey::new(2, Special::default()));
    let message = key.sign(TEXT, 10);
    let refusal = |ring: &TestKey, message: &str| {
        let error = keyring(&[ring]).verify(message.as_bytes(), "it", day(20)).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Refused);
        error.to_string()
    };
    assert!(refusal(&other, &message).contains("not in the keyring"));
    assert!(refusal(&key, &message.replace("Suite: x", "Suite: y")).contains("altered"));
    assert!(refusal(&key, &format!("Suite: y\n{message}")).contains("no signed message"));
    assert!(refusal(&key, &format!("{message}Suite: y\n")).contains("no signed message"));
    assert!(refusal(&key, "<html>log in</html>").contains("no signed message"));
    assert!(refusal(&key, &key.sign_with_primary(TEXT, 10)).contains("may not sign"));
    assert!(refusal(&key, &key.sign_weakly(TEXT, 10)).contains("weak hash"));
    assert!(refusal(&key, &key.sign(TEXT, 21)).contains("in the future"));
    for length in 0..message.len() {
        assert!(
            keyring(&[&key]).verify(&message.as_bytes()[..length], "it", day(20)).is_err()
                || length + 2 > message.len()
        );
    }
}

#[test]
fn expired_and_revoked_keys_are_refused() {
    let special = Special::default;
    assert_eq!(verdict(special()), "good");
    assert!(verdict(Special { life: Some(9), ..special() }).contains("key had expired"));
    assert!(verdict(Special { subkey_life: Some(9), ..special() }).contains("subkey had expired"));
    // Expired since, but not when it signed.
    assert_eq!(verdict(Special { life: Some(11), subkey_life: Some(12), ..special() }), "good");
    for (why, days, expected) in [
        (RevocationCode::KeySuperseded, 9, "is revoked"),
        (RevocationCode::KeySuperseded, 11, "good"),
        (RevocationCode::KeyRetired, 11, "good"),
        (RevocationCode::KeyCompromised, 11, "is revoked"),
        (RevocationCode::NoReason, 11, "is revoked"),
    ] {
        assert!(verdict(Special { revoked: Some((days, why)), ..special() }).contains(expected));
        assert!(verdict(Special { subkey_revoked: Some((days, why)), ..special() }).contains(expected));
    }
}

#[test]
fn subkeys_must_be_bound_for_signing() {
    assert!(verdict(Special { subkey_for_nothing: true, ..Special::default() }).contains("may not sign"));
    assert!(verdict(Special { no_back_signature: true, ..Special::default() }).contains("does not confirm"));
}

proptest::proptest! {
    #[test]
    fn nothing_panics(at: usize, byte: u8) {
        let key = TestKey::new(1, Special::default());
        let mut message = key.sign(TEXT, 10).into_bytes();
        let at_message = at % message.len();
        message[at_message] = byte;
        let _ = keyring(&[&key]).verify(&message, "it", day(20));
        let mut ring = key.public.clone();
        let at_ring = at % ring.len();
        ring[at_ring] = byte;
        let _ = Keyring::parse(&ring, "it").map(|ring| ring.verify(key.sign(TEXT, 10).as_bytes(), "it", day(20)));
    }
}
