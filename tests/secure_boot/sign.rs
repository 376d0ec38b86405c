//! `moby sign`, and `moby build` with signatures now, by a command, and on another day.

use super::*;

fn verified(certificate: &Path, program: &Path) {
    if let Some(text) = tool("sbverify", [OsStr::new("--cert"), certificate.as_os_str(), program.as_os_str()]) {
        assert!(String::from_utf8_lossy(&text).contains("Signature verification OK"));
    }
}

#[test]
fn programs_are_signed_by_keys_of_every_kind() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    for kind in [KeyKind::Rsa2048, KeyKind::P256] {
        let keys = keys_at(dir.path(), &kind.to_string(), kind, now());
        let signed = dir.path().join("signed.efi");
        run(&[&"sign", &program, &"--keys", &keys, &"-o", &signed]).succeeded();
        verified(&keys.join("db.crt"), &signed);
        let again = dir.path().join("again.efi");
        let command = format!("openssl dgst -sha256 -sign '{}'", keys.join("db.key").display());
        let certificate = keys.join("db.crt");
        run(&[&"sign", &program, &"--certificate", &certificate, &"--command", &command, &"-o", &again]).succeeded();
        verified(&certificate, &again);
        if kind == KeyKind::Rsa2048 {
            assert!(std::fs::read(&signed).unwrap() == std::fs::read(&again).unwrap());
        } else {
            // As PKCS#11 gives ECDSA's signatures: two numbers of 32 bytes.
            let plain = format!(
                "{command} | openssl asn1parse -inform der | awk -F: '/INTEGER/ {{print $NF}}' \
                                 | while read n; do printf '%064s' $n | tr ' ' 0; done | xxd -r -p"
            );
            if available("xxd") {
                run(&[&"sign", &program, &"--certificate", &certificate, &"--command", &plain, &"-o", &again])
                    .succeeded();
                verified(&certificate, &again);
            }
        }
        refused(run(&[&"sign", &signed, &"--keys", &keys]), 3, "signed already");
    }
}

/// All ways to a signed image end with the same bytes.
#[test]
fn now_and_later_give_equal_images() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys_at(dir.path(), "keys", KeyKind::Rsa2048, now());
    let offline = dir.path().join("offline");
    std::fs::create_dir(&offline).unwrap();
    std::fs::copy(keys.join("db.crt"), offline.join("db.crt")).unwrap();
    let requests = dir.path().join("requests");
    let formats = "raw-efi,uki,iso-efi-initrd";
    let build = |to: &Path, formats: &str, more: &[&dyn AsRef<OsStr>]| {
        let mut words: Vec<&dyn AsRef<OsStr>> =
            vec![&"build", &"--arch", &"amd64", &"--format", &formats, &"--dir", &to];
        words.extend(more);
        words.push(&"blueprints/minimal.yml");
        run(&words).succeeded()
    };
    let (now, later) = (dir.path().join("now"), dir.path().join("later"));
    build(&now, &format!("{formats},qcow2-efi"), &[&"--sign", &keys]);
    verified(&keys.join("db.crt"), &now.join("minimal.efi"));
    let said = build(&later, formats, &[&"--sign", &offline, &"--sign-prepare", &requests]).stderr;
    assert!(said.contains("openssl dgst -sha256 -sign db.key") && said.contains("moby sign attach"), "{said}");
    let files = ["minimal-efi.img", "minimal.efi", "minimal-efi-initrd.iso"];
    let same = |file: &str| std::fs::read(now.join(file)).unwrap() == std::fs::read(later.join(file)).unwrap();
    for file in files {
        assert!(!same(file), "{file}");
        refused(run(&[&"sign", &"attach", &later.join(file), &"--signatures", &requests]), 3, ".sig is missing");
    }
    // The machine with the key has openssl and nothing of ours.
    let mut count = 0;
    for entry in requests.read_dir().unwrap() {
        let bytes = entry.unwrap().path();
        if bytes.extension() == Some(OsStr::new("tbs")) {
            let signature = bytes.with_extension("sig");
            let key = keys.join("db.key");
            let paths = [&key, &signature, &bytes].map(|path| path.to_str().unwrap());
            let [key, signature, bytes] = paths;
            tool(
                "openssl",
                ["pkeyutl", "-sign", "-rawin", "-digest", "sha256", "-inkey", key, "-in", bytes, "-out", signature],
            );
            count += 1;
        }
    }
    // One program in three images.
    assert_eq!(count, 1);
    for file in files {
        let to = later.join(format!("signed-{file}"));
        run(&[&"sign", &"attach", &later.join(file), &"--signatures", &requests, &"-o", &to]).succeeded();
        assert!(!same(file), "-o left the image as it is");
        run(&[&"sign", &"attach", &later.join(file), &"--signatures", &requests]).succeeded();
        assert!(same(file), "{file}");
        assert!(std::fs::read(&to).unwrap() == std::fs::read(now.join(file)).unwrap());
        refused(
            run(&[&"sign", &"attach", &later.join(file), &"--signatures", &requests]),
            3,
            "cannot be signed: it is signed already",
        );
    }
    // Containers are written with the signatures there.
    build(&later, "qcow2-efi", &[&"--sign-attach", &requests]);
    assert!(same("minimal-efi.qcow2"));
    let command = format!("openssl dgst -sha256 -sign '{}'", keys.join("db.key").display());
    build(&later, "uki", &[&"--sign-command", &command, &"--sign-certificate", &keys.join("db.crt")]);
    assert!(same("minimal.efi"));
    refused(
        run(&[&"sign", &now.join("minimal-efi.qcow2"), &"--keys", &keys]),
        2,
        "in which nothing is changed in place",
    );
    grows(dir.path(), &keys, &now, build);
}

/// An image that was built without room: the program takes free clusters.
fn grows(dir: &Path, keys: &Path, now: &Path, build: impl Fn(&Path, &str, &[&dyn AsRef<OsStr>]) -> Finished) {
    let plain = dir.join("plain");
    build(&plain, "raw-efi", &[]);
    let image = plain.join("minimal-efi.img");
    let before = std::fs::read(&image).unwrap();
    run(&[&"sign", &image, &"--keys", &keys]).succeeded();
    let after = std::fs::read(&image).unwrap();
    assert_eq!(before.len(), after.len());
    let volume = dir.join("volume");
    std::fs::write(&volume, &after[1 << 20..after.len() - (1 << 20)]).unwrap();
    let fsck = if Path::new("/usr/sbin/fsck.fat").exists() { "/usr/sbin/fsck.fat" } else { "fsck.fat" };
    let output = Command::new(fsck).arg("-n").arg(&volume).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let program = dir.join("grown.efi");
    let arguments = ["-i", volume.to_str().unwrap(), "::EFI/BOOT/BOOTX64.EFI", program.to_str().unwrap()];
    if tool("mcopy", arguments).is_some() {
        assert!(std::fs::read(&program).unwrap() == std::fs::read(now.join("minimal.efi")).unwrap());
    }
}
