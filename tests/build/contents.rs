//! What is in the archives: one blueprint with every section, entry by entry.

use super::images;
use super::listing::{contents_of_tar, of_tar, show};
use super::place::Place;
use super::snapshot::compare;

fn tar(place: &Place) -> Vec<u8> {
    place.build(&["-o", "-", "everything.yml"]).well().out
}

#[test]
fn every_entry_of_the_root_is_as_expected() {
    compare("everything.txt", &show(&of_tar(&tar(&images::place()))));
}

/// What the containers are run with, for everything that a blueprint can say about it.
#[test]
fn every_bundle_is_as_expected() {
    let contents = contents_of_tar(&tar(&images::place()));
    let mut shown = String::new();
    for (path, content) in &contents {
        let path = String::from_utf8_lossy(path);
        if path.ends_with("/config.json") || path.ends_with("/runtime.json") {
            let content = std::str::from_utf8(content).unwrap();
            serde_json::from_str::<serde_json::Value>(content).unwrap();
            shown += &format!("=== {path}\n{}\n", without_seccomp(content));
        }
    }
    assert_eq!(shown.matches("===").count(), 12);
    compare("bundles.txt", &shown);
    for (path, expected) in [
        ("etc/text", "one\n\n  two\n"),
        ("etc/copy", "copied\n"),
        ("usr/lib/apk/db/installed", "P:base\n\n\nP:more\n\n\n"),
        ("boot/cmdline", "console=ttyS0 quiet"),
        ("empty", "filled by the second image"),
    ] {
        assert_eq!(String::from_utf8_lossy(&contents[path.as_bytes()]), expected, "{path}");
    }
    assert!(contents[b"boot/kernel".as_slice()] == images::kernel_bytes());
    compare("metadata.yml", std::str::from_utf8(&contents[b"etc/linuxkit.yml".as_slice()]).unwrap());
}

/// The 600 lines of a seccomp profile as one with their digest.
fn without_seccomp(config: &str) -> String {
    let start = "        \"seccomp\": {\n";
    let Some((before, rest)) = config.split_once(start) else { return config.to_string() };
    let (profile, after) = rest.split_once("\n        }").unwrap();
    let digest = moby::store::Digest::of(profile.as_bytes()).hex();
    format!("{before}        \"seccomp\": {{ {} }}{after}", &digest[..12])
}

/// bsdtar is another reader of the same archive: it must see the same names.
#[test]
fn another_tar_program_reads_the_archive() {
    if !super::support::machine::available("bsdtar") {
        return;
    }
    let place = images::place();
    let bytes = tar(&place);
    place.write("it.tar", &bytes);
    let mut list = std::process::Command::new("bsdtar");
    let output = list.args(["-tf", "it.tar"]).current_dir(place.path("")).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), of_tar(&bytes).len());
}

#[test]
fn docker_is_the_same_with_a_dockerfile_in_front() {
    let place = images::place();
    let docker = of_tar(&place.build(&["-f", "docker", "-o", "-", "everything.yml"]).well().out);
    assert_eq!(docker[0].0, b"Dockerfile");
    let expected = of_tar(&tar(&place));
    assert!(docker[1..] == expected[..], "{}", show(&docker));
}

/// Nothing of the machine reaches an output: other folder, umask, language, zone, date, number of threads.
#[test]
fn the_bytes_depend_on_the_blueprint_only() {
    let formats = "tar,docker,kernel+initrd,tar-kernel-initrd";
    let (one, other) = (images::place(), images::place());
    one.build(&["-f", formats, "everything.yml"]).well();
    let program = env!("CARGO_BIN_EXE_moby");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "umask 077; exec \"$@\"", "sh", program, "build", "--arch", "amd64", "-f", formats])
        .args(["--dir", "elsewhere/deeper", "everything.yml"])
        .current_dir(other.path(""))
        .envs([("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Pacific/Kiritimati"), ("RAYON_NUM_THREADS", "1")])
        .envs([("USER", "somebody"), ("HOME", "/nonexistent"), ("HOSTNAME", "there")])
        .env("MOBY_CACHE", other.store.root())
        .env_remove("SOURCE_DATE_EPOCH");
    super::place::Ended::of(shell.output().unwrap()).well();
    let names = one.names("images-out");
    assert_eq!(names.len(), 6, "{names:?}");
    assert_eq!(names, other.names("elsewhere/deeper"));
    for name in &names {
        let (a, b) = (format!("images-out/{name}"), format!("elsewhere/deeper/{name}"));
        assert!(one.read(&a) == other.read(&b), "{name}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&other.path(&b).metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o644, "{name}");
    }
}

/// What was generated has the time that SOURCE_DATE_EPOCH says, what images bring keeps its own.
#[test]
fn the_time_is_an_argument() {
    let place = images::place();
    let mut build = place.command(["build", "--arch", "amd64", "-o", "-", "everything.yml"]);
    let output = build.env("SOURCE_DATE_EPOCH", "86400").output().unwrap();
    let items = of_tar(&super::place::Ended::of(output).well().out);
    let time = |path: &str| items.iter().find(|(name, _)| name == path.as_bytes()).unwrap().1.mtime;
    assert_eq!(time("etc/text"), 86400);
    assert_eq!(time("boot/kernel"), 86400);
    assert_eq!(time("containers/services/plain/config.json"), 86400);
    assert_eq!(time("usr/bin/ping"), 1_600_000_000);
    assert_eq!(time("times/before"), -2);
    let mut build = place.command(["build", "-o", "-", "everything.yml"]);
    let output = build.env("SOURCE_DATE_EPOCH", "yesterday").output().unwrap();
    super::place::Ended::of(output).with(2, &["SOURCE_DATE_EPOCH is \"yesterday\""]);
}
