//! Keys and images that will not do: said before anything is written.

use super::*;

#[test]
fn keys_that_will_not_do() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let good = keys(dir.path(), "good");
    let out = dir.path().join("out.efi");
    let check = |keys: &Path, status: i32, text: &str| {
        refused(run(&[&"sign", &program, &"--keys", &keys, &"-o", &out]), status, text);
        let build = dir.path().join("build");
        let words: [&dyn AsRef<OsStr>; 8] =
            [&"build", &"--format", &"uki", &"--dir", &build, &"--sign", &keys, &"blueprints/minimal.yml"];
        refused(run(&words), status, text);
        assert!(!out.exists() && !build.exists(), "{text}: something was written");
    };
    // A folder like the good one, with one file changed.
    let changed = |name: &str, file: &str, bytes: &[u8]| {
        let keys = dir.path().join(name);
        std::fs::create_dir(&keys).unwrap();
        for copied in ["db.key", "db.crt"] {
            std::fs::copy(good.join(copied), keys.join(copied)).unwrap();
        }
        std::fs::write(keys.join(file), bytes).unwrap();
        keys
    };
    let key = std::fs::read(good.join("db.key")).unwrap();
    let certificate = std::fs::read(good.join("db.crt")).unwrap();
    check(&changed("cut-key", "db.key", &key[..key.len() / 2]), 3, "this is no private key");
    check(&changed("cut-certificate", "db.crt", &certificate[..certificate.len() / 2]), 3, "this is no certificate");
    check(&changed("empty", "db.key", b""), 3, "this is no private key");
    check(&changed("exchanged", "db.key", &certificate), 3, "this is no private key");
    let other = std::fs::read(keys(dir.path(), "other").join("db.crt")).unwrap();
    check(&changed("others", "db.crt", &other), 3, "is not the certificate of the key");
    let no_key = changed("no-key", "db.key", b"");
    std::fs::remove_file(no_key.join("db.key")).unwrap();
    check(&no_key, 2, "has no db.key");
    check(&dir.path().join("nowhere"), 2, "no such folder of keys");
    check(&keys_at(dir.path(), "old", KeyKind::P256, 1_000_000_000), 3, "the certificate expired on 2011-09-07");
    check(&keys_at(dir.path(), "future", KeyKind::P256, now() + 10 * 86_400), 3, "is valid from");
    let plain = good.join("db.key");
    for (name, words) in
        [("pkcs8", &["pkcs8", "-topk8", "-v2", "aes-256-cbc"][..]), ("traditional", &["ec", "-aes256"])]
    {
        let more = ["-passout", "pass:secret", "-in", plain.to_str().unwrap()];
        let Some(encrypted) = tool("openssl", words.iter().chain(&more)) else { return };
        check(&changed(name, "db.key", &encrypted), 3, "this private key is encrypted");
    }
    let weak = dir.path().join("weak");
    std::fs::create_dir(&weak).unwrap();
    let (key, certificate) = (weak.join("db.key"), weak.join("db.crt"));
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let arguments =
        ["req", "-x509", "-nodes", "-newkey", "rsa:1024", "-subj", "/CN=weak", "-keyout", key, "-out", certificate];
    tool("openssl", arguments);
    check(&weak, 3, "an RSA key of 1024 bits");
}

#[test]
fn flags_that_make_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let good = keys(dir.path(), "good");
    let build = |more: &[&dyn AsRef<OsStr>]| {
        let mut words: Vec<&dyn AsRef<OsStr>> = vec![&"build", &"blueprints/minimal.yml"];
        words.extend(more);
        run(&words)
    };
    refused(build(&[&"--format", &"uki,tar", &"--sign", &good]), 2, "tar has no EFI program");
    refused(build(&[&"--format", &"uki", &"--sign-prepare", &"x"]), 2, "needs a certificate");
    refused(build(&[&"--format", &"uki", &"--sign-command", &"true"]), 2, "needs a certificate");
    refused(build(&[&"--format", &"uki", &"--sign-attach", &dir.path()]), 2, "has no requests.json");
    refused(run(&[&"sign"]), 2, "FILE");
    refused(run(&[&"run", &"--secure-boot", &good, &"blueprints/minimal.yml"]), 2, "is a blueprint");
}

#[test]
fn commands_that_do_not_sign() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (good, other) = (keys(dir.path(), "good"), keys(dir.path(), "other"));
    let out = dir.path().join("out.efi");
    let wrong = format!("openssl dgst -sha256 -sign '{}'", other.join("db.key").display());
    for (command, status, text) in [
        ("exit 7", 1, "ended with exit status: 7"),
        ("true", 1, "printed nothing"),
        ("cat", 3, "was not made with the certificate's key"),
        (&wrong, 3, "was not made with the certificate's key"),
        ("cat /dev/zero", 1, "ended with "),
    ] {
        let words: [&dyn AsRef<OsStr>; 8] = [&"sign", &program, &"--keys", &good, &"--command", &command, &"-o", &out];
        refused(run(&words), status, text);
        assert!(!out.exists(), "{command}");
    }
}

#[test]
fn images_that_will_not_do() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let good = keys(dir.path(), "good");
    let bytes = std::fs::read(program).unwrap();
    let image = dir.path().join("image.efi");
    for (content, text) in [
        (&bytes[..bytes.len() / 2], "it is cut off"),
        (&bytes[..100], "cannot be signed"),
        (b"MZ", "cannot be signed"),
        (b"", "neither an EFI program nor an image"),
        (&[0; 4096], "neither an EFI program nor an image"),
    ] {
        std::fs::write(&image, content).unwrap();
        refused(run(&[&"sign", &image, &"--keys", &good]), 3, text);
        assert!(std::fs::read(&image).unwrap() == content);
        let finished = run(&[&"measure", &image, &"--stub-version", &"252"]);
        assert_ne!(finished.status, Some(0));
    }
    refused(run(&[&"sign", &dir.path().join("none"), &"--keys", &good]), 2, "there is no file");
}
