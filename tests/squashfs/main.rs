//! squashfs images before other judges: unsquashfs, which unpacks them, and the kernel, which mounts them. Both need
//! root for owners, devices and mounts; without it they say so, and fail if `CI` is `true`.
#![allow(clippy::unwrap_used)]

mod extracted;
mod reading;
mod sample;
mod speed;
#[path = "../support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use moby::formats::squashfs::{Compression, Options, Summary, write};
use moby::rootfs::{Content, Kind, Meta, Tree};
use moby::store::Digest;

const ALL: [Compression; 4] = [Compression::Zstd(6), Compression::Gzip(6), Compression::Xz, Compression::None];

fn image(tree: &Tree, path: &Path, options: &Options) -> Summary {
    let mut out = BufWriter::new(File::create(path).unwrap());
    let summary = write(tree, &mut out, options).unwrap();
    out.flush().unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().len(), summary.size);
    summary
}

fn is_root(what: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what} needs root");
    eprintln!("skipped: {what} needs root");
    false
}

/// Whether the kernel took the image; says it if not, and fails in CI.
fn mount(image: &Path, folder: &Path) -> bool {
    let mounted = Command::new("mount")
        .args(["-t", "squashfs", "-o", "loop,ro"])
        .args([image, folder])
        .status()
        .unwrap()
        .success();
    assert!(mounted || std::env::var("CI").as_deref() != Ok("true"), "this machine mounts no squashfs");
    if !mounted {
        eprintln!("skipped: this machine mounts no squashfs");
    }
    mounted
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && errors.is_empty(), "{command:?}: {}\n{out}\n{errors}", output.status);
    out
}

#[test]
fn unsquashfs_unpacks_what_was_written() {
    if !is_root("unpacking owners and devices") || !support::machine::available("unsquashfs") {
        return;
    }
    for (compression, block_size) in ALL.into_iter().zip([128 << 10, 4 << 10, 1 << 20, 64 << 10]) {
        let folder = tempfile::tempdir().unwrap();
        let tree = sample::everything(block_size as usize);
        let path = folder.path().join("image");
        let options = Options { compression, block_size, time: 1_700_000_000, threads: 2 };
        let summary = image(&tree, &path, &options);
        assert_eq!((summary.duplicates >= 7, summary.lost_xattrs.len()), (true, 0));
        run(Command::new("unsquashfs")
            .args(["-no-progress", "-quiet", "-strict-errors", "-d"])
            .args([&folder.path().join("root"), &path]));
        extracted::compare(&tree, &folder.path().join("root"));
        let listed = run(Command::new("unsquashfs").arg("-lln").arg(&path));
        let device = listed.lines().find(|line| line.ends_with("squashfs-root/attributes/device"));
        assert!(
            device.is_some_and(|line| line.starts_with("crw-r----- 7/8 ") && line.contains(" 5,  1 ")),
            "{device:?}"
        );
        assert_eq!(listed.matches('\n').count(), names(&tree) + 1, "a name has a line feed in it");
        let shown = run(Command::new("unsquashfs").arg("-s").arg(&path));
        println!("{compression}: {summary:?}\n{shown}");
        assert!(shown.contains("exportable via NFS") && shown.contains("Always-use-fragments"), "{shown}");
    }
}

#[test]
fn the_kernel_mounts_what_was_written() {
    if !is_root("mounting") {
        return;
    }
    for (compression, block_size) in ALL.into_iter().zip([64 << 10, 1 << 20, 4 << 10, 128 << 10]) {
        let folder = tempfile::tempdir().unwrap();
        let tree = sample::everything(block_size as usize);
        let path = folder.path().join("image");
        image(&tree, &path, &Options { compression, block_size, time: 1, threads: 2 });
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        if !mount(&path, &root) {
            return;
        }
        let result = std::panic::catch_unwind(|| extracted::compare(&tree, &root));
        run(Command::new("umount").arg(&root));
        result.unwrap();
    }
}

/// Most of it is a hole, so that it takes no room; the end is not.
#[test]
fn a_file_larger_than_4_gib() {
    let folder = tempfile::tempdir().unwrap();
    let (host, path, root) = (folder.path().join("large"), folder.path().join("image"), folder.path().join("root"));
    let end = sample::noise(200_000, 7);
    let mut out = File::create(&host).unwrap();
    out.seek(SeekFrom::Start(4 << 30)).unwrap();
    out.write_all(&end).unwrap();
    let mut s = sample::Sample::new();
    let content = Content::host_file(&host).unwrap();
    s.put("large", Meta::root(0o644, 1), Kind::File(content));
    let options = Options { compression: Compression::Zstd(1), block_size: 128 << 10, time: 1, threads: 2 };
    let summary = image(&s.tree, &path, &options);
    assert!(summary.size < 300_000);
    std::fs::create_dir(&root).unwrap();
    if !is_root("mounting") || !mount(&path, &root) {
        return;
    }
    let read = File::open(root.join("large")).and_then(|mut file| {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(4 << 30))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    run(Command::new("umount").arg(&root));
    assert!(read.unwrap() == end);
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let tree = sample::everything(16 << 10);
    let levels = [Compression::Zstd(1), Compression::Zstd(9), Compression::Zstd(15)];
    for compression in levels.into_iter().chain(ALL) {
        let digest = |threads| {
            let mut out = Cursor::new(Vec::new());
            let options = Options { compression, block_size: 16 << 10, time: 5, threads };
            write(&tree, &mut out, &options).unwrap();
            Digest::of(out.get_ref())
        };
        assert_eq!(digest(1), digest(2), "{compression}");
        assert_eq!(digest(1), digest(16), "{compression}");
    }
}

fn names(tree: &Tree) -> usize {
    let mut count = 0;
    tree.walk_all(|_, _| {
        count += 1;
        Ok(())
    })
    .unwrap();
    count
}
