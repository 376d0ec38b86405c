//! Disks that are full or read-only: small file systems in a mount namespace of their own, which needs root.

use std::process::Command;

use super::layers::{Image, Member, layer, noise};
use super::place::Place;

/// Whether file systems can be mounted where nobody else sees them.
fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("left out: `unshare -m` and mounting need root");
    }
    can
}

/// Runs a script in a mount namespace of its own; `$moby` is the program. Gives what it printed.
fn script(place: &Place, text: &str) -> String {
    let output = Command::new("unshare")
        .args(["-m", "sh", "-euc", text])
        .current_dir(place.path(""))
        .env("moby", env!("CARGO_BIN_EXE_moby"))
        .env("MOBY_CACHE", place.store.root())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", shown(&output.stdout), shown(&output.stderr));
    shown(&output.stdout)
}

fn place() -> Place {
    let place = Place::new();
    let data = layer(&[Member::file("a", &noise(1, 3_000_000)), Member::file("b", &noise(2, 3_000_000))]);
    Image::new("docker.io/library/large:1", vec![data]).put(&place.store);
    place.write("large.yml", "init: [\"large:1\"]\n");
    place
}

#[test]
fn a_full_disk_leaves_the_old_output() {
    if !can_mount() {
        return;
    }
    for (format, file) in [
        ("tar", "large.tar"),
        ("docker", "large.docker"),
        ("kernel+initrd", "large-initrd.img"),
        ("tar-kernel-initrd", "large-initrd.tar"),
    ] {
        let said = script(
            &place(),
            &format!(
                "mkdir out; mount -t tmpfs -o size=4m none out; echo old > out/{file}\n\
                 $moby build --arch amd64 -f {format} --dir out large.yml 2>&1 && echo status 0 || echo status $?\n\
                 ls -A out; cat out/{file}\n"
            ),
        );
        assert!(said.contains("No space left on device"), "{said}");
        assert!(said.contains("\nhint: free some space"), "{said}");
        assert!(said.ends_with(&format!("status 5\n{file}\nold\n")), "{said}");
        assert!(said.contains(&format!("out/{file}")), "the file is not named: {said}");
    }
}

#[test]
fn a_full_store_is_said_and_stays_usable() {
    if !can_mount() {
        return;
    }
    let said = script(
        &place(),
        "mkdir small; mount -t tmpfs -o size=9m none small; cp -a store/* small/; export MOBY_CACHE=$PWD/small\n\
         $moby build --arch amd64 -f tar --dir out large.yml 2>&1 && echo status 0 || echo status $?\n\
         ls -A small/temporary; ls -d out 2>/dev/null || true\n\
         mount -o remount,size=40m small\n\
         $moby build -q --arch amd64 -f tar --dir out large.yml 2>&1 && echo status 0 || echo status $?\n",
    );
    assert!(said.contains("No space left on device") && said.contains("\nhint: free some space"), "{said}");
    assert!(said.ends_with("status 5\nout/large.tar\nstatus 0\n"), "{said}");
}

#[test]
fn a_read_only_disk_is_said() {
    if !can_mount() {
        return;
    }
    let said = script(
        &place(),
        "mkdir out; mount -t tmpfs none out; echo old > out/large.tar; mount -o remount,ro out\n\
         $moby build --arch amd64 -f tar --dir out large.yml 2>&1 && echo status 0 || echo status $?\n\
         ls -A out; cat out/large.tar\n",
    );
    assert!(said.contains("Read-only file system") && said.contains("\nhint: choose a place"), "{said}");
    assert!(said.ends_with("status 5\nlarge.tar\nold\n"), "{said}");
}
