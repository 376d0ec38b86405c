//! What a build says, and where: results on standard output, everything else on standard error.

use super::images;
use super::place::{Ended, Place};

fn events(ended: &Ended) -> Vec<serde_json::Value> {
    ended.err.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn quiet_says_nothing_but_warnings() {
    let place = images::place();
    place.write("calm.yml", "init: [\"example.com/more:1\"]\nservices: [{name: a, image: busybox}]\n");
    for format in ["tar", "kernel+initrd"] {
        let ended = place.build(&["-q", "-f", format, "calm.yml"]).well();
        assert_eq!(ended.err, "");
    }
    let ended = place.build(&["-q", "everything.yml"]).well();
    let lines: Vec<_> = ended.err.lines().collect();
    assert!(lines.iter().all(|line| line.starts_with("warning: ")), "{}", ended.err);
    assert_eq!(lines.iter().filter(|line| line.contains("loses its file capabilities")).count(), 1);
    assert_eq!(lines.iter().filter(|line| line.contains("the container everything is read-only")).count(), 1);
}

#[test]
fn json_is_one_event_a_line() {
    let place = images::place();
    let ended = place.build(&["--json", "-f", "tar,kernel+initrd", "everything.yml"]).well();
    let events = events(&ended);
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert!(of("start") >= 2 && of("start") == of("end") && of("warning") >= 1, "{}", ended.err);
    let out = String::from_utf8(ended.out).unwrap();
    assert_eq!(out.lines().count(), 4, "{out}");
}

#[test]
fn json_has_the_error_with_its_places() {
    let place = Place::new();
    place.write("bad.yml", "services:\n  - name: a\n    imge: busybox\n");
    let ended = place.build(&["--json", "bad.yml"]);
    assert_eq!(ended.status, Some(2));
    let events = events(&ended);
    let error = events.iter().find(|event| event["event"] == "error").expect("an error");
    assert_eq!(error["status"], 2);
    assert_eq!(error["message"].as_str(), Some("2 mistakes in bad.yml"), "{error}");
    let mistake = error["mistakes"].as_array().unwrap().iter().find(|mistake| mistake["line"] == 3).expect("a place");
    assert_eq!((mistake["column"].as_u64(), mistake["file"].as_str()), (Some(5), Some("bad.yml")), "{mistake}");

    place.write("gone.yml", "init: [\"127.0.0.1:1/app:1\"]\n");
    let ended = place.build(&["--json", "gone.yml"]);
    assert_eq!(ended.status, Some(4));
    let events = self::events(&ended);
    let error = events.last().unwrap();
    assert_eq!((error["event"].as_str(), error["status"].as_u64()), (Some("error"), Some(4)));
    assert!(error["message"].as_str().unwrap().contains("gone.yml:1:8") && error["hint"].is_string(), "{error}");
}

/// The machine would say it at every start of the container, and nothing before.
#[test]
fn a_mount_point_that_a_read_only_container_lacks_is_told() {
    let place = images::place();
    place.write(
        "calm.yml",
        "services:\n  - name: a\n    image: busybox\n    readonly: true\n    binds:\n      - /etc/motd:/etc/mtd\n      - /dev/x:/dev/x\n",
    );
    let ended = place.build(&["-q", "-f", "tar", "calm.yml"]).well();
    assert!(ended.err.starts_with("warning: calm.yml:6:9: the container a is read-only"), "{}", ended.err);
    assert!(ended.err.contains("has no /etc/mtd") && ended.err.lines().count() == 1, "{}", ended.err);
    let text = String::from_utf8(place.read("calm.yml")).unwrap().replace("    readonly: true\n", "");
    place.write("calm.yml", text);
    assert_eq!(place.build(&["-q", "-f", "tar", "calm.yml"]).well().err, "");
}

/// One failure is told once.
#[test]
fn an_error_is_printed_once() {
    let place = Place::new();
    place.write("gone.yml", "init: [\"127.0.0.1:1/app:1\"]\n");
    for flags in [&[][..], &["-q"]] {
        let ended = place.build(&[flags, &["gone.yml"]].concat()).with(4, &[]);
        assert_eq!(ended.err.matches("error: ").count(), 1, "{}", ended.err);
        assert!(ended.out.is_empty());
    }
}

#[test]
fn a_dry_run_prints_the_blueprint_and_makes_nothing() {
    let place = images::place();
    let ended = place.build(&["--dry-run", "-o", "x.tar", "everything.yml"]).well();
    let text = String::from_utf8(ended.out).unwrap();
    assert!(text.contains("example.com/kernel:1") && text.contains("rlimits:"), "{text}");
    place.write("again.yml", &text);
    assert!(place.build(&["--dry-run", "again.yml"]).well().out == text.as_bytes());
    assert!(!place.path("x.tar").exists() && !place.path("images-out").exists());
    let (one, two) =
        (place.build(&["-o", "-", "everything.yml"]).well(), place.build(&["-o", "-", "again.yml"]).well());
    assert_eq!(
        super::listing::show(&super::listing::of_tar(&one.out)),
        super::listing::show(&super::listing::of_tar(&two.out))
    );
}

/// An initrd holds no file of 4 GiB: that is said by its size, before anything is pulled or read.
#[test]
fn a_file_that_an_initrd_cannot_hold_is_told_at_once() {
    let place = Place::new();
    std::fs::File::create(place.path("five")).unwrap().set_len(5 << 30).unwrap();
    place.write("large.yml", "init: [\"127.0.0.1:1/app:1\"]\nfiles:\n  - {path: var/five, source: five}\n");
    let ended = place.build(&["--format", "tar,raw-efi", "large.yml"]);
    assert_eq!(ended.status, Some(2));
    for text in ["large.yml:3:5: raw-efi: /var/five has 5368709120 bytes", "erofs", "root: {type: erofs}"] {
        assert!(ended.err.contains(text), "{}", ended.err);
    }
    // Nothing stands in the way of a tar archive but the image, which is nowhere.
    assert_eq!(place.build(&["--format", "tar", "large.yml"]).status, Some(4));
}
