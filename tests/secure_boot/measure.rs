//! `moby measure`. What it says is compared with a TPM by `tests/boot_secure.rs`.

use super::*;

use std::sync::Arc;

use moby::formats::source::Source;
use moby::formats::uki::{Section, Uki, measure};
use serde_json::Value;

fn measured(words: &[&dyn AsRef<OsStr>]) -> Value {
    let all: Vec<&dyn AsRef<OsStr>> =
        std::iter::once(&"measure" as &dyn AsRef<OsStr>).chain(words.iter().copied()).collect();
    serde_json::from_str(&run(&all).succeeded().stdout).unwrap()
}

#[test]
fn parts_of_an_image_are_as_they_were_put_in() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_at(dir.path(), "keys", KeyKind::Rsa2048, NOW);
    let stub = std::fs::read(&program).unwrap();
    let section = |name: &str, bytes: &[u8]| Section::new(name, Arc::new(bytes.to_vec()));
    // A kernel is a program too: the stub has the firmware load it.
    let uki =
        Uki::new(&stub, vec![section(".cmdline", b"quiet"), section(".initrd", &[7; 5000]), section(".linux", &stub)]);
    let uki = uki.unwrap();
    let path = dir.path().join("image.efi");
    let mut bytes = Vec::new();
    uki.write_to(&mut bytes).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let off = measured(&[&path]);
    let boot = &off["boots"][0];
    assert_eq!(boot["pcrs"]["11"]["sha256"], measure(&uki).unwrap().pcr11.hex());
    assert_eq!(boot["pcrs"]["12"]["sha1"], "0".repeat(40));
    assert_eq!(boot["stub-version"], measure(&uki).unwrap().stub_version);
    // PCR 7 of a machine without keys and without Secure Boot, as EDK II has it everywhere.
    assert_eq!(boot["pcrs"]["7"]["sha1"], "518bd167271fbb64589c61e43d8c0165861431d8");
    let programs = |value: &Value| {
        let events = value["boots"][0]["events"].as_array().unwrap().clone();
        events.into_iter().filter(|event| event["type"] == "EV_EFI_BOOT_SERVICES_APPLICATION").collect::<Vec<_>>()
    };
    assert_eq!(programs(&off).len(), 2);
    // The digest of a program does not change by its signature.
    let keys_of_today = keys_at(dir.path(), "today", KeyKind::Rsa2048, now());
    let signed = dir.path().join("signed.efi");
    run(&[&"sign", &path, &"--keys", &keys_of_today, &"-o", &signed]).succeeded();
    let on = measured(&[&signed, &"--keys", &keys]);
    assert_eq!(programs(&on), programs(&off)[..1]);
    assert_eq!(on["boots"][0]["pcrs"]["11"], boot["pcrs"]["11"]);
    assert_ne!(on["boots"][0]["pcrs"]["7"], boot["pcrs"]["7"]);
    assert_eq!(on["secure-boot"], true);
    // A signed one is cut.
    let bytes = std::fs::read(&signed).unwrap();
    std::fs::write(&signed, &bytes[..bytes.len() - 3000]).unwrap();
    refused(run(&[&"measure", &signed]), 3, "cut off");
}
