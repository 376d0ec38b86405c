//! Signatures for Secure Boot, judged by sbverify.
#![allow(clippy::unwrap_used)]

#[path = "formats/judge.rs"]
mod judge;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use judge::{bytes, noise, verdict, write};
use moby::formats::authenticode::{Algorithm, Certificate, Key, Unsigned, message, sign, to_be_signed};
use moby::formats::pe;
use moby::formats::source::Source;
use moby::formats::uki::{Section, Uki};

/// A key and its certificate, made by openssl.
fn keys(dir: &Path, name: &str, kind: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let key = dir.join(format!("{name}.key"));
    let certificate = dir.join(format!("{name}.crt"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-sha256", "-days", "3650", "-subj", &format!("/CN={name}/O=moby test")])
        .args(kind)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl is needed");
    assert!(output.status.success(), "{output:?}");
    (std::fs::read(key).unwrap(), std::fs::read(certificate).unwrap())
}

const RSA: [&str; 2] = ["-newkey", "rsa:2048"];
const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

fn image() -> Option<Arc<dyn Source>> {
    let stub = std::fs::read("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").ok();
    if stub.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "systemd-boot-efi is not installed");
        eprintln!("skipped: systemd-boot-efi is not installed");
    }
    // A size that is no multiple of eight would need a file alignment below that; none has it.
    let sections =
        vec![Section::new(".linux", Arc::new(noise(1, 100_001))), Section::new(".cmdline", Arc::new(noise(2, 7)))];
    Some(Arc::new(Uki::new(&stub?, sections).unwrap()))
}

#[test]
fn sbverify_accepts_signatures() {
    let Some(image) = image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signed.efi");
    for (name, kind, algorithm) in [
        ("rsa", &RSA[..], Algorithm::Rsa),
        ("large", &["-newkey", "rsa:4096"], Algorithm::Rsa),
        ("ec", &P256, Algorithm::EcdsaP256),
    ] {
        let (key, certificate) = keys(dir.path(), name, kind);
        let (key, certificate) = (Key::from_pem(&key).unwrap(), Certificate::from_pem(&certificate).unwrap());
        assert_eq!((key.algorithm(), certificate.algorithm()), (algorithm, algorithm));
        let unsigned = Unsigned::new(Arc::clone(&image)).unwrap();
        let signed = unsigned.attach(&sign(unsigned.digest(), &certificate, &key).unwrap()).unwrap();
        write(&signed, &path);
        let own = dir.path().join(format!("{name}.crt"));
        let check = |path: &Path| verdict("sbverify", ["--cert".as_ref(), own.as_os_str(), path.as_os_str()]);
        if let Some((success, text)) = check(&path) {
            assert!(success && text.contains("Signature verification OK"), "{name}: {text}");
            assert!(!text.contains("warning"), "{name}: {text}");
        }
        // Its own checksum is right, and so is that of what was signed.
        let bytes = bytes(&signed);
        let headers = pe::read(&mut std::io::Cursor::new(&bytes)).unwrap();
        let mut sum = pe::Checksum::new(headers.checksum());
        sum.update(&bytes);
        assert_eq!(pe::u32_at(&bytes, headers.checksum()), Some(sum.finish()), "{name}");
        // One byte of the kernel, of the headers, and of the signature.
        for at in [bytes.len() - 3000, headers.image_size() + 1, bytes.len() - 40] {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let altered_path = dir.path().join("altered.efi");
            std::fs::write(&altered_path, altered).unwrap();
            if let Some((success, text)) = check(&altered_path) {
                assert!(!success, "{name}: byte {at} was altered and sbverify says {text}");
            }
        }
        // The same bytes again, and with a key that is elsewhere.
        let again = unsigned.attach(&sign(unsigned.digest(), &certificate, &key).unwrap()).unwrap();
        assert_eq!(signed.identity(), again.identity());
        if algorithm == Algorithm::Rsa {
            let request = dir.path().join("request");
            std::fs::write(&request, to_be_signed(unsigned.digest())).unwrap();
            let output = Command::new("openssl")
                .args(["dgst", "-sha256", "-sign"])
                .arg(dir.path().join(format!("{name}.key")))
                .arg(&request)
                .output()
                .unwrap();
            let detached = message(unsigned.digest(), &certificate, &output.stdout).unwrap();
            assert!(bytes == judge::bytes(&unsigned.attach(&detached).unwrap()));
        }
    }
}

/// sbsign's own signature covers the same digest.
#[test]
fn the_digest_is_that_of_sbsign() {
    let Some(image) = image() else { return };
    let dir = tempfile::tempdir().unwrap();
    keys(dir.path(), "rsa", &RSA);
    let unsigned = dir.path().join("unsigned.efi");
    let signed = dir.path().join("signed.efi");
    write(image.as_ref(), &unsigned);
    let (key, certificate) = (dir.path().join("rsa.key"), dir.path().join("rsa.crt"));
    let arguments =
        ["--key", key.to_str().unwrap(), "--cert", certificate.to_str().unwrap(), "--output", signed.to_str().unwrap()];
    if verdict("sbsign", [&arguments[..], &[unsigned.to_str().unwrap()]].concat()).is_none() {
        return;
    }
    let digest = Unsigned::new(image).unwrap().digest();
    let bytes = std::fs::read(&signed).unwrap();
    assert!(bytes.windows(32).any(|window| window == digest.as_bytes()), "{digest} is not in what sbsign wrote");
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let Some(image) = image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (one, certificate) = keys(dir.path(), "one", &RSA);
    let (other, _) = keys(dir.path(), "other", &RSA);
    let certificate = Certificate::from_pem(&certificate).unwrap();
    let unsigned = Unsigned::new(image).unwrap();
    let error = sign(unsigned.digest(), &certificate, &Key::from_pem(&other).unwrap()).unwrap_err();
    assert!(error.message().starts_with("the signature was not made with the certificate's key"), "{error}");
    let signature = sign(unsigned.digest(), &certificate, &Key::from_pem(&one).unwrap()).unwrap();
    let signed = unsigned.attach(&signature).unwrap();
    let error = Unsigned::new(Arc::new(signed)).unwrap_err();
    assert_eq!(error.message(), "cannot be signed: it is signed already");
    let error = Unsigned::new(Arc::new(b"#!/bin/sh\n".to_vec())).unwrap_err();
    assert_eq!(error.message(), "cannot be signed: no \"MZ\" at its start");
    for (name, kind) in
        [("small", &["-newkey", "rsa:1024"][..]), ("curve", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"])]
    {
        let (key, certificate) = keys(dir.path(), name, kind);
        assert!(Key::from_pem(&key).is_err(), "{name}");
        if name == "curve" {
            assert!(Certificate::from_pem(&certificate).is_err());
        }
    }
    assert!(Key::from_pem(b"no key").is_err() && Certificate::from_pem(b"no certificate").is_err());
    let der = Command::new("openssl").args(["x509", "-outform", "der", "-in"]).arg(dir.path().join("one.crt")).output();
    let der = der.unwrap().stdout;
    Certificate::from_der(&der).unwrap();
    for cut in 0..der.len() {
        assert!(Certificate::from_der(&der[..cut]).is_err(), "{cut} of {} bytes", der.len());
    }
}
