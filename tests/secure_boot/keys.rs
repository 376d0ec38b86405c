//! `moby keys`.

use std::os::unix::fs::MetadataExt;

use super::*;

#[test]
fn what_is_generated_is_taken_by_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["rsa2048", "rsa4096", "p256"] {
        let keys = dir.path().join(kind);
        run(&[&"keys", &"generate", &keys, &"--algorithm", &kind, &"--name", &"test", &"--days", &"30"]).succeeded();
        let owner = std::fs::read_to_string(keys.join("owner.guid")).unwrap();
        for (role, signer) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
            let file = |extension: &str| keys.join(format!("{role}.{extension}"));
            assert_eq!(file("key").metadata().unwrap().mode() & 0o777, 0o600);
            assert_eq!(file("crt").metadata().unwrap().mode() & 0o777, 0o644);
            let (key, certificate) = (file("key"), file("crt"));
            let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
            tool("openssl", ["pkey", "-in", key, "-noout", "-check"]);
            tool("openssl", ["verify", "-CAfile", certificate, certificate]);
            let public = tool("openssl", ["pkey", "-in", key, "-pubout"]);
            assert_eq!(public, tool("openssl", ["x509", "-in", certificate, "-noout", "-pubkey"]));
            let text = tool("openssl", ["x509", "-in", certificate, "-noout", "-subject", "-checkend", "2505600"]);
            let text = String::from_utf8(text.unwrap()).unwrap();
            assert!(text.contains(&format!("CN = test {role}")), "{text}");
            let der = tool("openssl", ["x509", "-in", certificate, "-outform", "der"]).unwrap();
            assert!(der == std::fs::read(file("der")).unwrap());
            // The list as sbsigntool makes it.
            let list = dir.path().join("list.esl");
            let (made, own) = (list.to_str().unwrap(), file("der"));
            let arguments = ["--owner", owner.trim(), "--type", "x509", "--output", made, own.to_str().unwrap()];
            if tool("sbsiglist", arguments).is_some() {
                assert!(std::fs::read(&list).unwrap() == std::fs::read(file("esl")).unwrap(), "{kind} {role}");
            }
            verify_write(&keys, role, signer, dir.path());
        }
        let shown = run(&[&"keys", &"show", &keys]).succeeded().stdout;
        assert!(shown.contains("CN=test db") && shown.contains("db.key") && !shown.contains("another"), "{shown}");
        refused(run(&[&"keys", &"generate", &keys]), 3, "PK.key is there already");
    }
    let p256 = dir.path().join("p256");
    let before = std::fs::read(p256.join("db.key")).unwrap();
    run(&[&"keys", &"generate", &p256, &"--algorithm", &"p256", &"--force"]).succeeded();
    assert!(before != std::fs::read(p256.join("db.key")).unwrap());
}

/// A signed write: openssl takes the signature over name, vendor, attributes, time and data (UEFI 2.10, 8.2.2).
fn verify_write(keys: &Path, role: &str, signer: &str, dir: &Path) {
    let write = std::fs::read(keys.join(format!("{role}.auth"))).unwrap();
    let list = std::fs::read(keys.join(format!("{role}.esl"))).unwrap();
    let length = u32::from_le_bytes(write[16..20].try_into().unwrap()) as usize;
    assert!(write[16 + length..] == list);
    let signed_data = &write[16 + 24..16 + length];
    // OpenSSL wants the envelope that UEFI leaves out.
    let mut inner = vec![0xa0, 0x82];
    inner.extend((signed_data.len() as u16).to_be_bytes());
    inner.extend(signed_data);
    let mut envelope = vec![0x30, 0x82];
    envelope.extend((inner.len() as u16 + 11).to_be_bytes());
    envelope.extend(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02");
    envelope.extend(inner);
    let mut content: Vec<u8> = role.encode_utf16().flat_map(u16::to_le_bytes).collect();
    content.extend(match role {
        "db" => b"\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f",
        _ => b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c",
    });
    content.extend(0x27u32.to_le_bytes());
    content.extend(&write[..16]);
    content.extend(&list);
    let (message, signed) = (dir.join("message"), dir.join("content"));
    std::fs::write(&message, envelope).unwrap();
    std::fs::write(&signed, content).unwrap();
    let certificate = keys.join(format!("{signer}.crt"));
    let arguments: [&OsStr; 14] = [
        "smime".as_ref(),
        "-verify".as_ref(),
        "-binary".as_ref(),
        "-inform".as_ref(),
        "der".as_ref(),
        "-in".as_ref(),
        message.as_ref(),
        "-content".as_ref(),
        signed.as_ref(),
        "-CAfile".as_ref(),
        certificate.as_ref(),
        "-purpose".as_ref(),
        "any".as_ref(),
        "-no_check_time".as_ref(),
    ];
    tool("openssl", arguments);
}

#[test]
fn what_does_not_belong_together_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (keys(dir.path(), "one"), keys(dir.path(), "other"));
    std::fs::copy(other.join("db.key"), one.join("db.key")).unwrap();
    let finished = run(&[&"keys", &"show", &one]);
    assert!(finished.stdout.contains("db.key is another certificate's"), "{}", finished.stdout);
    refused(finished, 3, "is not the certificate of the key");
    std::fs::remove_file(one.join("db.key")).unwrap();
    let shown = run(&[&"keys", &"show", &one]).succeeded().stdout;
    assert!(shown.contains("elsewhere"), "{shown}");
    let shown = run(&[&"keys", &"show", &one.join("db.der")]).succeeded().stdout;
    assert!(shown.contains("CN=one db") && shown.contains("P-256"), "{shown}");
    let old = keys_at(dir.path(), "old", KeyKind::P256, 1_000_000_000);
    assert!(run(&[&"keys", &"show", &old]).succeeded().stdout.contains("2001-09-08 to 2011-09-07, EXPIRED"));
    refused(run(&[&"keys", &"show", &dir.path().join("none")]), 2, "there is no file");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    refused(run(&[&"keys", &"show", &dir.path().join("empty")]), 3, "has no certificates");
    refused(run(&[&"keys", &"generate", &one.join("x"), &"--algorithm", &"rsa1024"]), 2, "one of rsa2048");
}
