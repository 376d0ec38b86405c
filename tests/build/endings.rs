//! How builds end: the five exit statuses, and that a failed build leaves the old outputs or none.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use moby::store::{Descriptor, Digest};

use super::images;
use super::layers::{Image, Member, layer, noise};
use super::place::{Ended, Place};

/// A registry that nobody can reach: port 1 of loopback.
const UNREACHABLE: &str = "127.0.0.1:1";

/// A place with one image of two layers, in the store as if it had come from a registry that is gone now.
fn lonely() -> (Place, Vec<Descriptor>) {
    let place = Place::new();
    let lower = layer(&[Member::file("lower", &noise(1, 900_000)), Member::folder("d/")]);
    let upper = layer(&[Member::file("upper", &noise(2, 900_000))]);
    let layers = Image::new(&format!("{UNREACHABLE}/app:1"), vec![lower, upper]).put(&place.store);
    place.write("app.yml", format!("init: [\"{UNREACHABLE}/app:1\"]\n"));
    (place, layers)
}

/// Outputs of an earlier build that a failed one must not touch.
fn with_old_outputs(place: &Place) {
    for name in ["app.tar", "app-initrd.img"] {
        place.write(&format!("images-out/{name}"), "old");
    }
}

#[track_caller]
fn old_outputs_are_left(place: &Place) {
    assert_eq!(place.names("images-out"), ["app-initrd.img", "app.tar"]);
    for name in ["app.tar", "app-initrd.img"] {
        assert_eq!(place.read(&format!("images-out/{name}")), b"old");
    }
    assert!(place.names("store/temporary").is_empty());
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_layer_is_refused_and_removed() {
    let (place, layers) = lonely();
    with_old_outputs(&place);
    let blob = place.store.blob_path(&layers[1].digest);
    flip(&blob, 1000);
    // What is wrong with an image of the store is mended by pulling it again, and that does not go here.
    let ended = place.build(&["-f", "tar,kernel+initrd", "app.yml"]);
    ended.with(4, &["app.yml:1:8", UNREACHABLE]);
    assert!(!blob.exists(), "the damaged blob must not be taken again");
    old_outputs_are_left(&place);
}

#[test]
fn a_layer_that_vanished_is_asked_for_again() {
    let (place, layers) = lonely();
    with_old_outputs(&place);
    std::fs::remove_file(place.store.blob_path(&layers[0].digest)).unwrap();
    place.build(&["-f", "tar", "app.yml"]).with(4, &[UNREACHABLE]);
    old_outputs_are_left(&place);
}

/// Damage that shows only while the output is written: the inflated layer has the right length and a wrong byte. Here
/// the blob that it would be made of again is damaged too.
#[test]
fn damage_in_the_middle_of_an_output_leaves_the_old_one() {
    for format in ["tar", "docker", "kernel+initrd", "tar-kernel-initrd"] {
        let (place, layers) = lonely();
        place.build(&["-f", "tar", "--dir", "first", "app.yml"]).well();
        with_old_outputs(&place);
        for entry in std::fs::read_dir(place.path("store/derived/layer-1")).unwrap() {
            flip(&entry.unwrap().path(), 800_000);
        }
        flip(&place.store.blob_path(&layers[0].digest), 1000);
        let ended = place.build(&["-f", format, "app.yml"]);
        ended.with(4, &["store/derived/layer-1/", "store/blobs/sha256/", "is damaged", "app.yml:1:8", UNREACHABLE]);
        old_outputs_are_left(&place);
    }
}

#[test]
fn status_1_is_for_what_has_no_other() {
    let (place, _) = lonely();
    place.write("store/index.json", "{");
    place.build(&["app.yml"]).with(1, &["index.json is damaged"]);
}

#[test]
fn status_2_is_for_wrong_use_and_wrong_blueprints() {
    let place = images::place();
    let blueprint = |name: &str, text: &str| place.write(name, text);
    blueprint("key.yml", "onbot: []\n");
    blueprint("kernel.yml", "kernel: {image: example.com/kernel:1, binary: bzImge, tar: none}\n");
    blueprint("ucode.yml", "kernel: {image: example.com/kernel:1, binary: bzImage, tar: none, ucode: amd.cpio}\n");
    blueprint("tar.yml", "kernel: {image: example.com/kernel:1, binary: bzImage}\n");
    blueprint("source.yml", "files:\n  - path: a\n    source: not-there\n");
    blueprint("folder.yml", "files:\n  - path: a\n    source: store\n");
    blueprint("over.yml", "init: [\"example.com/base:1\"]\nfiles: [{path: usr, contents: x}]\n");
    blueprint("user.yml", "services: [{name: a, image: busybox, uid: nobody}]\n");
    place.write("images-out/dir.tar/file", "");
    for (arguments, words) in [
        (&["key.yml"][..], &["key.yml:1:1", "onboot"][..]),
        (&["missing.yml"], &["missing.yml"]),
        (&["-f", "tar"], &["no blueprint"]),
        (&["store"], &["store is a folder, not a blueprint"]),
        (&["-f", "floppy", "key.yml"], &["unknown format \"floppy\"", "tar-kernel-initrd"]),
        (&["-f", "raw-eif", "key.yml"], &["unknown format \"raw-eif\"", "did you mean raw-efi?"]),
        (&["--name", "../x", "key.yml"], &["--name \"../x\" is no base name", "--dir"]),
        (&["--name", "", "key.yml"], &["--name \"\" is no base name", "--dir"]),
        (&["--dir", "key.yml/below", "everything.yml"], &["key.yml is to be a folder, but it is a file", "--dir"]),
        (&["-f", "kernel+initrd", "-o", "x", "kernel.yml"], &["-o takes one format"]),
        (&["-f", "tar,docker", "-o", "-", "kernel.yml"], &["-o takes one format"]),
        (&["kernel.yml"], &["no file \"bzImge\"", "kernel: binary", "did you mean \"bzImage\"?"]),
        (&["ucode.yml"], &["no file \"amd.cpio\"", "kernel: ucode"]),
        (&["tar.yml"], &["no file \"kernel.tar\"", "kernel: tar"]),
        (&["source.yml"], &["source.yml:3:13", "not-there", "optional: true"]),
        (&["folder.yml"], &["folder.yml:3:13", "is a folder"]),
        (&["-f", "tar", "over.yml"], &["over.yml:2:", "/usr is a folder"]),
        (&["user.yml"], &["user.yml:1:", "nobody"]),
        (&["-f", "tar", "--name", "dir", "everything.yml"], &["dir.tar is a folder"]),
    ] {
        place.build(arguments).with(2, words);
    }
    for (arguments, word) in [
        (
            &["--compression", "zstd:40", "everything.yml"][..],
            "tip: compressions are none, gzip[:1-9], xz[:0-9] and zstd[:1-19]",
        ),
        (&["--no-such-flag"], "unexpected argument"),
        (&["--size", "1X", "x.yml"], "a number of MiB"),
    ] {
        let ended = place.build(arguments);
        assert_eq!(ended.status, Some(2), "{}", ended.err);
        assert!(ended.err.contains(word), "{}", ended.err);
    }
    let ended = place.moby(["build", "--arch", "vax", "x.yml"]);
    assert_eq!(ended.status, Some(2), "{}", ended.err);
    assert!(ended.err.contains("tip: architectures are amd64 and arm64"), "{}", ended.err);
    assert_eq!(place.names("images-out"), ["dir.tar"]);
}

#[test]
fn status_2_is_for_files_that_are_not_there() {
    let place = Place::new();
    place.write("web-efi.img", "");
    place.write("images-out/only-efi.img", "");
    for arguments in [
        &["check", "wbe-efi.img"][..],
        &["verify", "wbe-efi.img", "--lock", "web.lock"],
        &["measure", "wbe-efi.img"],
        &["sign", "wbe-efi.img", "--keys", "keys"],
        &["sign", "attach", "wbe-efi.img", "--signatures", "requests"],
        &["update", "show", "--disk", "wbe-efi.img"],
        &["cache", "import", "wbe-efi.img"],
    ] {
        place.moby(arguments).with(2, &["there is no file wbe-efi.img", "did you mean web-efi.img?"]);
    }
    place.moby(["check", "only-efi.img"]).with(2, &["did you mean images-out/only-efi.img?"]);
    place.moby(["keys", "show", "keys"]).with(2, &["there is no file keys", "moby keys generate keys"]);
}

/// Flags are those of the verb that was called.
#[test]
fn a_signature_without_a_key_says_how_to_name_one() {
    let place = Place::new();
    place.write("x.efi", "");
    place.moby(["sign", "x.efi"]).with(2, &["none is named", "moby sign FILE --keys DIR"]);
}

/// As nobody, since everything is readable to root.
#[test]
fn what_may_not_be_read_is_not_said_to_be_unwritable() {
    let place = Place::new();
    place.write("secret.yml", "init: []\n");
    std::fs::set_permissions(place.path("secret.yml"), PermissionsExt::from_mode(0o000)).unwrap();
    let program = place.path("moby");
    std::fs::copy(env!("CARGO_BIN_EXE_moby"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["build", "secret.yml"]).current_dir(place.path("")).env("MOBY_CACHE", place.store.root());
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        give_away(place.store.root());
        command.uid(65534).gid(65534);
    }
    Ended::of(command.output().unwrap()).with(1, &["secret.yml: Permission denied", "readable"]);
}

/// Layers that no honest tool writes.
#[test]
fn status_3_is_for_inputs_that_are_refused() {
    let place = Place::new();
    let put = |name: &str, members: &[Member<'_>]| {
        Image::new(&format!("docker.io/bad/{name}:1"), vec![layer(members)]).put(&place.store);
        place.write(&format!("{name}.yml"), format!("init: [\"bad/{name}:1\"]\n"));
    };
    put("loop", &[Member::symlink("x", "y"), Member::symlink("y", "x"), Member::file("x/f", "")]);
    put("link", &[Member::hard_link("a", "nowhere")]);
    put("through", &[Member::file("a", ""), Member::file("a/b", "")]);
    put("root", &[Member::file(".", "the root is no file")]);
    for (name, words) in [
        ("loop", &["bad/loop:1", "symbolic links"][..]),
        ("link", &["bad/link:1", "nowhere"]),
        ("through", &["bad/through:1", "no folder"]),
        ("root", &["bad/root:1", "root"]),
    ] {
        let ended = place.build(&["-f", "tar", &format!("{name}.yml")]);
        assert_eq!(ended.status, Some(3), "{name}: {}", ended.err);
        for word in words {
            assert!(ended.err.contains(word), "{name}: {}", ended.err);
        }
        assert!(place.names("images-out").is_empty());
    }
    // Nothing of the host is reached through names.
    put("escape", &[Member::file("../../escaped", "x"), Member::file("/absolute", "x")]);
    let ended = place.build(&["-f", "tar", "escape.yml"]);
    assert!(!place.path("escaped").exists());
    assert!(ended.status == Some(0) || ended.status == Some(3), "{}", ended.err);
    if ended.status == Some(0) {
        let names: Vec<_> =
            super::listing::of_tar(&place.read("images-out/escape.tar")).into_iter().map(|(n, _)| n).collect();
        assert!(names.iter().all(|name| !name.starts_with(b"..") && !name.starts_with(b"/")), "{names:?}");
    }
}

#[test]
fn status_4_is_for_registries() {
    let place = Place::new();
    place.write("gone.yml", format!("init:\n  - {UNREACHABLE}/app:1\n"));
    place.build(&["gone.yml"]).with(4, &["gone.yml:2:5", UNREACHABLE]);
    let server = super::server::Server::honest(super::fixtures::Images::default());
    place.write("none.yml", format!("init:\n  - {}/app:1\n", server.host()));
    place.build(&["none.yml"]).with(4, &["none.yml:2:5", "app:1"]);
    place.build(&[&format!("{}/not/there.yml", server.url())]).with(4, &["not/there.yml"]);
    assert!(!place.path("images-out").exists());
}

/// As nobody, since nothing is unwritable to root.
#[test]
fn status_5_is_for_places_that_cannot_be_written() {
    let (place, _) = lonely();
    std::fs::create_dir(place.path("readable")).unwrap();
    place.write("readable/app.tar", "old");
    std::fs::set_permissions(place.path("readable"), PermissionsExt::from_mode(0o555)).unwrap();
    let program = place.path("moby");
    std::fs::copy(env!("CARGO_BIN_EXE_moby"), &program).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        let mut other = std::process::Command::new(&program);
        other.args(command.get_args()).current_dir(place.path("")).env("MOBY_CACHE", place.store.root());
        command = other;
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        Ended::of(command.output().unwrap())
    };
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        give_away(place.store.root());
    }
    let words = &["readable", "Permission denied", "choose a place that you may write to"];
    for format in ["tar", "docker", "kernel+initrd", "tar-kernel-initrd"] {
        run(&["build", "-f", format, "--dir", "readable", "app.yml"]).with(5, words);
        run(&["build", "-f", format, "--dir", "readable/below", "app.yml"]).with(5, words);
    }
    run(&["build", "-o", "readable/x.tar", "app.yml"]).with(5, words);
    run(&["build", "--cache", "readable/store", "-o", "-", "app.yml"]).with(5, words);
    assert_eq!(place.names("readable"), ["app.tar"]);
    assert_eq!(place.read("readable/app.tar"), b"old");
}

fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(65534), Some(65534)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

#[test]
fn a_standard_output_that_is_full_or_closed_is_an_error() {
    let (place, _) = lonely();
    let mut build = place.command(["build", "-o", "-", "app.yml"]);
    build.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    Ended::of(build.output().unwrap()).with(5, &["No space left"]);
    let mut build = place.command(["build", "-o", "-", "app.yml"]);
    let mut child = build.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    assert!(ended.err.starts_with("error: ") || ended.err.contains("\nerror: "), "{}", ended.err);
}

/// `moby ... | head` has what it wanted.
#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let (place, _) = lonely();
    for arguments in
        [&["schema", "blueprint"][..], &["build", "-f", "list"], &["cache", "ls"], &["build", "--dry-run", "app.yml"]]
    {
        let mut child = place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = Ended::of(child.wait_with_output().unwrap()).well();
        assert_eq!(ended.err, "", "{arguments:?}");
    }
}

/// Scripts that set a variable to nothing mean that it is not set.
#[test]
fn an_empty_moby_cache_is_none() {
    let place = Place::new();
    let ended = Ended::of(place.command(["cache", "ls"]).env("MOBY_CACHE", "").output().unwrap()).well();
    assert_eq!(ended.err, "");
    assert!(place.path(".cache/moby/oci-layout").exists());
}

#[test]
fn timings_lie_beside_the_one_output() {
    let (place, _) = lonely();
    place.build(&["--timings", "-o", "out/x.tar", "app.yml"]).well();
    assert_eq!(place.names("out"), ["app-timings.html", "app-timings.json", "x.tar"]);
    assert!(!place.path("images-out").exists());
}

/// An image whose configuration and layers do not belong together.
#[test]
fn layers_that_are_not_those_of_the_configuration_are_refused() {
    let tar = layer(&[Member::file("x", "x")]);
    let mut images = super::fixtures::Images::default();
    let wrong = Digest::of(b"another layer").to_string();
    images.image_with("app:1", &[tar], super::fixtures::Packing::Gzip, "amd64", &[wrong]);
    let server = super::server::Server::honest(images);
    let place = Place::new();
    place.write("app.yml", format!("init: [\"{}/app:1\"]\n", server.host()));
    place.build(&["app.yml"]).with(3, &["app.yml:1:8", "diff ID"]);
    assert!(!place.path("images-out").exists());
}

/// A second build of the same leaves the files as they are, but for their time; any difference makes them anew.
#[test]
fn outputs_that_are_the_same_are_not_written_again() {
    use std::os::unix::fs::MetadataExt;
    let place = images::place();
    place.build(&["everything.yml"]).well();
    let parts = ["cmdline", "initrd.img", "kernel"].map(|part| format!("images-out/everything-{part}"));
    let good = parts.clone().map(|name| place.read(&name));
    let inodes = || parts.clone().map(|name| place.path(name).metadata().unwrap().ino());
    let first = inodes();
    let old = std::fs::File::open(place.path(&parts[1])).unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let said = place.build(&["everything.yml"]).well().out;
    assert_eq!(String::from_utf8_lossy(&said).lines().count(), 3);
    assert_eq!(inodes(), first);
    assert!(place.path(&parts[1]).metadata().unwrap().mtime() > 0, "it must count as new");
    for (number, name) in parts.iter().enumerate() {
        let path = place.path(name);
        let changes: [&dyn Fn(); 5] = [
            &|| flip(&path, 3),
            &|| flip(&path, good[number].len() - 1),
            &|| std::fs::write(&path, &good[number][1..]).unwrap(),
            &|| std::fs::write(&path, [&good[number][..], b"x"].concat()).unwrap(),
            &|| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap(),
        ];
        for change in changes {
            change();
            place.build(&["everything.yml"]).well();
            assert!(place.read(name) == good[number], "{name}");
            assert_eq!(path.metadata().unwrap().mode(), 0o100_644);
        }
        // A link is replaced, not written through.
        std::fs::rename(&path, place.path("elsewhere")).unwrap();
        std::os::unix::fs::symlink(place.path("elsewhere"), &path).unwrap();
        place.build(&["everything.yml"]).well();
        assert!(path.symlink_metadata().unwrap().is_file());
    }
}

/// Looked at, not read: a segment that is gone from the store is not made again for an output that is there.
#[test]
fn outputs_that_are_the_same_are_not_read() {
    use std::os::unix::fs::MetadataExt;
    let place = images::place();
    for format in ["kernel+initrd", "tar", "docker", "tar-kernel-initrd"] {
        let build = |more: &[&str]| place.build(&[&["-f", format, "everything.yml"], more].concat()).well().out;
        let first = build(&[]);
        let names: Vec<_> = String::from_utf8(first.clone()).unwrap().lines().map(|name| place.path(name)).collect();
        let inodes = || names.iter().map(|name| name.metadata().unwrap().ino()).collect::<Vec<_>>();
        let before = inodes();
        let _ = std::fs::remove_dir_all(place.path("store/derived/cpio-3"));
        assert_eq!(build(&[]), first);
        assert_eq!(inodes(), before, "{format}");
        assert!(!place.path("store/derived/cpio-3").exists(), "{format}: compressed again for nothing");
        // Everything that the bytes depend on counts.
        let bytes = std::fs::read(&names[0]).unwrap();
        let text = place.read("everything.yml");
        let other = String::from_utf8(text.clone()).unwrap().replacen("contents: private", "contents: other", 1);
        place.write("everything.yml", other);
        build(&[]);
        assert_ne!(inodes(), before, "{format}");
        place.write("everything.yml", &text);
        build(&[]);
        assert!(std::fs::read(&names[0]).unwrap() == bytes, "{format}");
    }
}

#[test]
fn timings_tell_what_was_made_and_what_was_reused() {
    let place = images::place();
    let timings = || {
        place.build(&["--timings", "-f", "kernel+initrd,tar", "everything.yml"]).well();
        let page = String::from_utf8(place.read("images-out/everything-timings.html")).unwrap();
        assert!(page.contains("Critical path") && page.ends_with("</html>\n"));
        serde_json::from_slice::<serde_json::Value>(&place.read("images-out/everything-timings.json")).unwrap()
    };
    let first = timings();
    assert!(first["stages"]["compress"]["made"].as_u64().unwrap() > 2, "{first}");
    assert_eq!(first["stages"]["output"]["reused"], 0);
    let second = timings();
    assert_eq!((&second["stages"]["output"]["made"], &second["stages"]["output"]["reused"]), (&0.into(), &2.into()));
    assert_eq!(second["stages"]["compress"], serde_json::Value::Null);
}

/// What an image has beside its blueprint: only where something heeds it, and only what can be used.
#[test]
fn extras_are_checked() {
    let place = images::place();
    place.write("logo.bmp", "BM and more");
    place.write("board.dtb", [&[0xd0, 0x0d, 0xfe, 0xed][..], &[0, 0, 1, 0], b"cut off"].concat());
    for (arguments, words) in [
        (&["--splash", "logo.bmp"][..], &["--splash is for an EFI program"][..]),
        (&["--device-tree", "board.dtb", "-f", "raw-bios"], &["--device-tree is for an EFI program"]),
        (&["--qcow2-compression", "zstd", "-f", "raw-efi"], &["--qcow2-compression is for a qcow2 image"]),
        (&["--device-tree", "board.dtb", "-f", "uki"], &["board.dtb is no flattened device tree"]),
        (&["--splash", "board.dtb", "-f", "uki"], &["board.dtb is no Windows bitmap"]),
        (&["--splash", "missing.bmp", "-f", "uki"], &["missing.bmp"]),
    ] {
        let ended = place.build(&[arguments, &["everything.yml"]].concat());
        assert_ne!(ended.status, Some(0), "{arguments:?}");
        for word in words {
            assert!(ended.err.contains(word), "{arguments:?}: {}", ended.err);
        }
    }
    assert!(!place.path("images-out").exists());
}

/// As root, a rename would put a file in the place of a device.
#[test]
fn an_output_goes_through_links_and_onto_no_device() {
    let place = images::place();
    place.write("real", "old");
    std::os::unix::fs::symlink("real", place.path("inner")).unwrap();
    std::os::unix::fs::symlink("inner", place.path("link")).unwrap();
    std::os::unix::fs::symlink("new", place.path("nowhere")).unwrap();
    for name in ["link", "nowhere"] {
        place.build(&["-f", "tar", "-o", name, "everything.yml"]).well();
        assert!(place.path(name).is_symlink());
    }
    assert!(place.path("inner").is_symlink() && place.read("real").len() > 1000);
    assert!(place.read("new") == place.read("real"));
    std::os::unix::fs::symlink("round", place.path("round")).unwrap();
    place
        .build(&["-f", "tar", "-o", "round", "everything.yml"])
        .with(2, &["round is a symbolic link that leads to no end"]);
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    std::os::unix::fs::symlink("socket", place.path("to-socket")).unwrap();
    for name in ["socket", "to-socket", "/dev/null"] {
        place.build(&["-f", "tar", "-o", name, "everything.yml"]).with(2, &["is no regular file", "-o -"]);
    }
}
