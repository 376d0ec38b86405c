use super::module::tests::{S, module};
use super::*;
use crate::rootfs::Place;
use crate::store::EntryKind;
use crate::ui::Mode;

const VERSION: &str = "6.1.0-7-test";

fn bzimage() -> Vec<u8> {
    let mut bytes = vec![0; 0x300];
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes
}

/// A tree as a package has it, its modules below `above`.
fn packages(above: &str, more: &[(&str, Vec<u8>)]) -> Tree {
    let modules = format!("{above}/lib/modules/{VERSION}");
    let mut files = vec![
        (format!("boot/vmlinuz-{VERSION}"), bzimage()),
        (format!("boot/config-{VERSION}"), b"CONFIG_X=y\n".to_vec()),
        (format!("boot/System.map-{VERSION}"), b"elsewhere".to_vec()),
        (format!("{modules}/kernel/net/virtio_net.ko"), module(62, &["alias=virtio:d1v*"], &[S::Needs("fail")])),
        (format!("{modules}/kernel/net/failover.ko"), module(62, &["softdep=pre: a"], &[S::Has("__ksymtab_fail")])),
        (format!("{modules}/modules.order"), b"kernel/net/virtio_net.ko\nkernel/net/failover.ko\n".to_vec()),
        (format!("{modules}/modules.builtin"), b"kernel/fs/ext4/ext4.ko\n".to_vec()),
        ("usr/share/doc/x".to_string(), b"doc".to_vec()),
    ];
    files.extend(more.iter().map(|(path, bytes)| (path.to_string(), bytes.clone())));
    let mut tree = Tree::new(0);
    let origin = tree.inode(tree.root()).origin;
    for (path, bytes) in files {
        let inode = Inode { meta: Meta::root(0o640, 7), kind: Kind::File(Content::bytes(bytes)), origin };
        tree.insert(path.as_bytes(), inode, &Meta::root(0o755, 3)).unwrap();
    }
    let link = Inode { meta: Meta::root(0o777, 7), kind: Kind::Symlink(b"/usr/src/x".as_slice().into()), origin };
    tree.insert(format!("{modules}/build").as_bytes(), link, &Meta::root(0o755, 3)).unwrap();
    tree
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn made(tree: &Tree, store: &Store) -> Result<Tree> {
    image_of_packages(tree, store, Arch::Amd64, &Ui::new(Mode::Quiet), 9)
}

fn content(image: &Tree, name: &str) -> Content {
    match &image.inode(image.lookup(name.as_bytes()).unwrap()).kind {
        Kind::File(content) => content.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_has_kernel_modules_and_configuration() {
    let (_folder, store) = store();
    let image = made(&packages("", &[]), &store).unwrap();
    let names: Vec<_> = image.names(image.root()).map(|(name, _)| name.to_vec()).collect();
    assert_eq!(names, [b"kernel".to_vec(), b"kernel-config".to_vec(), b"kernel.tar".to_vec()]);
    assert_eq!(content(&image, "kernel").read(4096).unwrap(), bzimage());
    assert_eq!(content(&image, "kernel-config").read(4096).unwrap(), b"CONFIG_X=y\n");
    let tar = content(&image, "kernel.tar");
    let Place::File { file, offset } = &tar.place else { panic!() };
    let layer = store.archive_in_file(file, *offset, tar.size, &tar.digest).unwrap();
    let listed: Vec<String> = (layer.index.entries.iter())
        .map(|entry| {
            let size = match &entry.kind {
                EntryKind::File { size, .. } => size.to_string(),
                EntryKind::Folder => "/".into(),
                other => panic!("{other:?}"),
            };
            let path = String::from_utf8(entry.path.clone()).unwrap();
            format!("{:o} {} {} {size}", entry.mode, entry.mtime, path.trim_start_matches("lib/modules/"))
        })
        .collect();
    let expected = "755 3 lib /
755 3 lib/modules /
755 3 6.1.0-7-test /
755 3 6.1.0-7-test/kernel /
755 3 6.1.0-7-test/kernel/net /
640 7 6.1.0-7-test/kernel/net/failover.ko 504
640 7 6.1.0-7-test/kernel/net/virtio_net.ko 504
644 9 6.1.0-7-test/modules.alias 74
644 9 6.1.0-7-test/modules.alias.bin 48
640 7 6.1.0-7-test/modules.builtin 23
644 9 6.1.0-7-test/modules.builtin.alias.bin 12
644 9 6.1.0-7-test/modules.builtin.bin 31
644 9 6.1.0-7-test/modules.dep 73
644 9 6.1.0-7-test/modules.dep.bin 189
644 9 6.1.0-7-test/modules.devname 0
640 7 6.1.0-7-test/modules.order 48
644 9 6.1.0-7-test/modules.softdep 79
644 9 6.1.0-7-test/modules.symbols 76
644 9 6.1.0-7-test/modules.symbols.bin 46";
    assert_eq!(listed.join("\n"), expected);
    assert_eq!(tar.digest.hex()[..16], *"95472ee09a7687bc", "the bytes of every kernel image's kernel.tar changed");
    assert_eq!(content(&made(&packages("usr", &[]), &store).unwrap(), "kernel.tar").digest, tar.digest);
    // From the store, and anew in another one.
    assert_eq!(content(&made(&packages("", &[]), &store).unwrap(), "kernel.tar").digest, tar.digest);
    let (_folder, other) = self::store();
    assert_eq!(content(&made(&packages("", &[]), &other).unwrap(), "kernel.tar").digest, tar.digest);
}

#[test]
fn compressed_modules_are_read_and_kept_as_they_are() {
    use std::io::Write;
    let (_folder, store) = store();
    let plain = module(62, &["alias=fs-x"], &[]);
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    xz.write_all(&plain).unwrap();
    let xz = xz.finish().unwrap();
    let path = format!("lib/modules/{VERSION}/kernel/fs/x.ko.xz");
    let zst = format!("lib/modules/{VERSION}/kernel/fs/y-z.ko.zst");
    let tree = packages("", &[(&path, xz.clone()), (&zst, zstd::encode_all(plain.as_slice(), 1).unwrap())]);
    let tar = content(&made(&tree, &store).unwrap(), "kernel.tar").read(1 << 20).unwrap();
    let holds = |text: &[u8]| tar.windows(text.len()).any(|part| part == text);
    assert!(holds(&xz) && holds(b"alias fs-x x\nalias fs-x y_z\n"));
}

#[test]
fn what_is_no_kernel_is_refused() {
    let (_folder, store) = store();
    let refused = |tree: &Tree, arch: Arch| {
        let error = image_of_packages(tree, &store, arch, &Ui::new(Mode::Quiet), 9).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Refused);
        error.message().to_string()
    };
    assert!(refused(&Tree::new(0), Arch::Amd64).contains("no kernel"));
    let two = packages("", &[("boot/vmlinuz-5", bzimage())]);
    assert!(refused(&two, Arch::Amd64).contains("5 and 6.1.0-7-test"));
    assert!(refused(&packages("", &[]), Arch::Arm64).contains("not an ARM64 Image"));
    let mut without = packages("", &[]);
    without.remove(format!("lib/modules/{VERSION}").as_bytes());
    assert!(refused(&without, Arch::Amd64).contains("without its folder of modules"));
    let path = format!("lib/modules/{VERSION}/kernel/bad.ko");
    assert!(refused(&packages("", &[(&path, b"bad".to_vec())]), Arch::Amd64).contains("kernel/bad.ko: "));
    assert!(refused(&packages("", &[(&path, module(183, &[], &[]))]), Arch::Amd64).contains("another machine"));
}
