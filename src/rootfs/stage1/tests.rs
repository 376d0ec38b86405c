use super::*;

const DEP: &str = "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n\
                   kernel/lib/libcrc32c.ko:\n\
                   kernel/crypto/crc32c_generic.ko:\n\
                   kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko\n\
                   kernel/drivers/virtio/virtio_ring.ko:\n\
                   kernel/drivers/md/dm-mod.ko:\n\
                   kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-mod.ko\n\
                   kernel/drivers/gpu/drm.ko:\n";
const ALIAS: &str = "# Aliases\nalias virtio:d00000002v* virtio_blk\nalias fs-erofs erofs\nalias crc32c crc32c_generic\n\
                     alias pci:v1 drm\n";
const SOFT: &str = "softdep libcrc32c pre: crc32c\nsoftdep crc32c-generic pre: libcrc32c\nsoftdep drm pre: erofs\n";
const BUILT_IN: &str = "kernel/drivers/nvme/host/nvme.ko\nkernel/fs/ext4/ext4.ko\n";

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new(0);
    for (path, text) in files {
        let origin = tree.inode(tree.root()).origin;
        let kind = Kind::File(Content::bytes(text.as_bytes()));
        tree.insert(path.as_bytes(), Inode { meta: Meta::root(0o755, 0), kind, origin }, &Meta::root(0o755, 0))
            .unwrap();
    }
    tree
}

fn kernel() -> Tree {
    let folder = "usr/lib/modules/6.1.0";
    let mut files = vec![
        (format!("{folder}/modules.dep"), DEP),
        (format!("{folder}/modules.alias"), ALIAS),
        (format!("{folder}/modules.softdep"), SOFT),
        (format!("{folder}/modules.builtin"), BUILT_IN),
    ];
    files.extend(DEP.lines().map(|line| (format!("{folder}/{}", line.split(':').next().unwrap()), "module")));
    tree(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>())
}

fn stage1() -> Tree {
    tree(&[("init", "program")])
}

const EROFS: Purpose = Purpose { root: RootKind::Erofs, storage: Storage::Lz4, verity: true, container: None };

fn text(tree: &Tree, path: &str) -> String {
    match &tree.inode(tree.lookup(path.as_bytes()).unwrap()).kind {
        Kind::File(content) => String::from_utf8(content.read(1 << 20).unwrap()).unwrap(),
        _ => panic!("{path} is no file"),
    }
}

#[test]
fn takes_what_is_needed_and_no_more() {
    let made = initramfs(&stage1(), &kernel(), &EROFS, 7).unwrap();
    let names = ["crc32c_generic", "dm_mod", "dm_verity", "erofs", "libcrc32c", "virtio_blk", "virtio_ring"];
    assert_eq!(made.summary.modules, names);
    assert_eq!(made.summary.built_in, ["nvme"]);
    assert_eq!(made.summary.bytes, 7 * 6);
    assert!(made.summary.absent.contains(&"SATA".to_owned()) && !made.summary.absent.contains(&"NVMe".to_owned()));
    assert_eq!(text(&made.tree, "init"), "program");
    assert_eq!(text(&made.tree, "lib/modules/6.1.0/kernel/drivers/md/dm-verity.ko"), "module");
    assert!(made.tree.lookup(b"lib/modules/6.1.0/kernel/drivers/gpu").is_none());
    let dependencies = text(&made.tree, "lib/modules/6.1.0/modules.dep");
    assert_eq!(dependencies.lines().count(), 7);
    assert!(dependencies.contains("kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-mod.ko\n"));
    let aliases = "alias crc32c crc32c_generic\nalias fs-erofs erofs\nalias virtio:d00000002v* virtio_blk\n";
    assert_eq!(text(&made.tree, "lib/modules/6.1.0/modules.alias"), aliases);
    let soft = "softdep crc32c_generic pre: libcrc32c\nsoftdep libcrc32c pre: crc32c\n";
    assert_eq!(text(&made.tree, "lib/modules/6.1.0/modules.softdep"), soft);
    let summary = made.summary.to_string();
    assert!(summary.starts_with("7 modules of 6.1.0, 1 KiB; no drivers for SATA"), "{summary}");
}

#[test]
fn a_kernel_that_cannot_is_refused() {
    let purpose = Purpose { root: RootKind::Squashfs, storage: Storage::Zstd, verity: false, container: None };
    let error = initramfs(&stage1(), &kernel(), &purpose, 0).unwrap_err();
    assert_eq!(error.message(), "the kernel 6.1.0 has no squashfs, neither as a module nor built in (CONFIG_SQUASHFS)");
    assert_eq!(error.hint_text(), Some("choose root: {type: erofs}, or use a kernel with CONFIG_SQUASHFS"));
    let purpose =
        Purpose { root: RootKind::Ext4, storage: Storage::Plain, verity: false, container: Some(Container::Vfat) };
    assert!(initramfs(&stage1(), &kernel(), &purpose, 0).unwrap_err().message().contains("CONFIG_VFAT_FS"));
    let purpose = Purpose { root: RootKind::Ext4, storage: Storage::Plain, verity: false, container: None };
    let made = initramfs(&stage1(), &kernel(), &purpose, 0).unwrap();
    assert_eq!(made.summary.built_in, ["ext4", "nvme"]);
}

#[test]
fn a_kernel_without_modules() {
    let made = initramfs(&stage1(), &tree(&[("boot/vmlinuz", "")]), &EROFS, 0).unwrap();
    assert!(made.summary.to_string().contains("no modules"));
    // Modules, but no table of what is built in.
    let only_alias = tree(&[("lib/modules/6/modules.alias", "")]);
    let made = initramfs(&stage1(), &only_alias, &EROFS, 0).unwrap();
    assert_eq!(made.summary.unknown, ["erofs", "dm_mod", "dm_verity"]);
}

#[test]
fn damaged_kernels() {
    let error =
        |files: &[(&str, &str)]| initramfs(&stage1(), &tree(files), &EROFS, 0).unwrap_err().message().to_owned();
    assert!(error(&[("lib/modules/1/a", ""), ("lib/modules/2/a", "")]).contains("more than one release"));
    assert!(error(&[("lib/modules/1/kernel/a.ko", "")]).contains("no modules.dep"));
    assert!(error(&[("lib/modules/1/modules.dep", "../../../init:\n")]).contains("not below"));
    assert!(error(&[("lib/modules/1/modules.dep", "a.ko: /etc/passwd\n")]).contains("not below"));
    assert!(error(&[("lib/modules/1/modules.dep", "kernel/erofs.ko:\n")]).contains("no file of the kernel"));
    let broken = "erofs.ko: erofs.ko\n\nnonsense\ndm-mod.ko: dm-verity.ko\ndm-verity.ko: dm-mod.ko gone.ko\n";
    let files = [
        ("modules.dep", broken),
        ("erofs.ko", ""),
        ("dm-mod.ko", ""),
        ("dm-verity.ko", ""),
        ("modules.softdep", "softdep\nsoftdep x\n"),
    ];
    let paths: Vec<(String, &str)> =
        files.iter().map(|(path, text)| (format!("lib/modules/1/{path}"), *text)).collect();
    let kernel = tree(&paths.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
    assert_eq!(initramfs(&stage1(), &kernel, &EROFS, 0).unwrap().summary.modules, ["dm_mod", "dm_verity", "erofs"]);
}

#[test]
fn a_component_without_a_program() {
    let error = initramfs(&tree(&[("sbin/init", "")]), &kernel(), &EROFS, 0).unwrap_err();
    assert_eq!(error.message(), "the stage1 component has no file /init");
}
