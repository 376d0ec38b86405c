//! How the blueprint's `root:` has files stored, in images that are a root and nothing else.

use std::process::Command;

use super::images;
use super::support::machine::available;

/// What a judge says of a file.
fn judged(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

#[test]
fn squashfs_is_compressed_as_the_blueprint_says() {
    let place = images::place();
    let everything = String::from_utf8(place.read("everything.yml")).unwrap();
    let image = place.path("images-out/at.squashfs");
    let image = image.to_str().unwrap();
    let mut listed = None;
    for (said, expected) in [
        ("", "zstd"),
        ("root: {type: squashfs, compression: gzip}\n", "gzip"),
        ("root: {type: squashfs, compression: xz}\n", "xz"),
        ("root: {type: squashfs, compression: zstd}\n", "zstd"),
        ("root: {type: squashfs, compression: none}\n", "gzip"),
        // Of another file system, which this format is not; that nothing is to be compressed counts for all.
        ("root: {type: erofs, compression: lz4}\n", "zstd"),
        ("root: {type: erofs, compression: none}\n", "gzip"),
    ] {
        place.write("at.yml", format!("{everything}{said}"));
        place.build(&["-f", "squashfs", "at.yml"]).well();
        if !available("unsquashfs") {
            continue;
        }
        let about = judged("unsquashfs", &["-s", image]);
        assert!(about.contains(&format!("Compression {expected}\n")), "{said}: {about}");
        let stored = about.contains("Data is uncompressed");
        assert_eq!(stored, said.contains("none"), "{said}: {about}");
        // Names only: the blueprint is in the image too.
        let list = judged("unsquashfs", &["-ls", image]);
        assert!(&list == listed.get_or_insert_with(|| list.clone()), "{said}");
        if rustix::process::getuid().is_root() {
            let folder = place.path("unpacked");
            judged("unsquashfs", &["-d", folder.to_str().unwrap(), image]);
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

#[test]
fn erofs_is_stored_as_the_blueprint_says() {
    let place = images::place();
    let everything = String::from_utf8(place.read("everything.yml")).unwrap();
    let mut sizes = Vec::new();
    for said in ["", "root: {type: erofs, compression: lz4}\n", "root: {type: erofs, compression: none}\n"] {
        place.write("at.yml", format!("{everything}{said}"));
        place.build(&["-f", "erofs", "at.yml"]).well();
        if available("fsck.erofs") {
            judged("fsck.erofs", &["--extract", place.path("images-out/at.erofs").to_str().unwrap()]);
        }
        sizes.push(place.read("images-out/at.erofs").len());
    }
    assert!(sizes[0] == sizes[1] && sizes[1] < sizes[2], "{sizes:?}");
}
