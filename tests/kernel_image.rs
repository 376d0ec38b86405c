//! Kernel images out of the machine's real Debian archive, with kmod's depmod as judge. A machine that knows no Debian
//! mirror, or has no network or no depmod, cannot run these: they say so, and fail if `CI` is set.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use moby::Arch;
use moby::component::{kernel, microcode};
use moby::deb::{self, Sources, Wanted};
use moby::error::Exit;
use moby::net::{Net, NetOptions};
use moby::rootfs::{Content, Kind, Place, Tree, merge_layer};
use moby::store::{EntryKind, Layer, Store};
use moby::ui::{Mode, Ui};

/// What a test needs of the machine's mirror, or why it cannot run.
fn needed<T>(what: moby::Result<T>, lacks: Exit) -> Option<T> {
    match what {
        Ok(value) => Some(value),
        Err(error) if std::env::var_os("CI").is_none() && error.exit() == lacks => {
            eprintln!("not run: {error} ({})", error.hint_text().unwrap_or(""));
            None
        }
        Err(error) => panic!("{error} ({})", error.hint_text().unwrap_or("")),
    }
}

/// A store that is kept between runs: a kernel is 25 MB to fetch.
fn kept() -> Store {
    Store::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel-store")).unwrap()
}

/// The packages that `choose` wants, merged into a tree.
fn tree_of(
    store: &Store,
    suite: &str,
    areas: &[&str],
    arch: Arch,
    choose: impl Fn(&deb::Archive<'_>) -> moby::Result<Vec<deb::Package>>,
) -> Option<Tree> {
    let ui = Ui::new(Mode::Plain);
    let http = Net::new(NetOptions::default(), &ui).unwrap();
    let sources = needed(Sources::of_machine(), Exit::Usage)?;
    let areas = areas.iter().map(|area| area.to_string()).collect();
    let wanted = Wanted { suite: suite.into(), areas, arch };
    let archive = needed(deb::Archive::open(store, &http, &ui, &sources, &wanted), Exit::Network)?;
    let packages = choose(&archive).unwrap_or_else(|error| panic!("{error} ({:?})", error.hint_text()));
    eprintln!("{packages:?}", packages = packages.iter().map(|package| package.to_string()).collect::<Vec<_>>());
    let layers = needed(archive.fetch_all(&packages), Exit::Network)?;
    let mut tree = Tree::new(0);
    let origin = tree.inode(tree.root()).origin;
    for layer in &layers {
        merge_layer(&mut tree, layer, false, 0, origin).unwrap();
    }
    Some(tree)
}

fn content(tree: &Tree, path: &[u8]) -> Content {
    match &tree.inode(tree.resolve(path).unwrap()).kind {
        Kind::File(content) => content.clone(),
        other => panic!("{}: {other:?}", path.escape_ascii()),
    }
}

fn image(tree: &Tree, store: &Store, arch: Arch) -> Tree {
    let started = std::time::Instant::now();
    let image = kernel::image_of_packages(tree, store, arch, &Ui::new(Mode::Plain), 1_700_000_000).unwrap();
    eprintln!("{arch}: image in {:?}", started.elapsed());
    image
}

fn index(store: &Store, tar: &Content) -> Layer {
    let Place::File { file, offset } = &tar.place else { panic!() };
    store.archive_in_file(file, *offset, tar.size, &tar.digest).unwrap()
}

/// The bytes of a file of the archive.
fn read(layer: &Layer, path: &str) -> Vec<u8> {
    let entry = layer.index.entries.iter().find(|entry| entry.path == path.as_bytes());
    match entry.map(|entry| &entry.kind) {
        Some(EntryKind::File { offset, size, digest }) => {
            Content::part(Arc::clone(&layer.file), *offset, *size, *digest).read(1 << 30).unwrap()
        }
        other => panic!("{path}: {other:?}"),
    }
}

/// Checks an image against the packages that it is made of; the version and the archive of modules.
fn check(packages: &Tree, image: &Tree, store: &Store) -> (String, Layer) {
    let boot = packages.resolve(b"boot").unwrap();
    let names: Vec<String> = packages.names(boot).map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    let version = names.iter().find_map(|name| name.strip_prefix("vmlinuz-")).unwrap().to_string();
    assert_eq!(
        content(image, b"kernel").digest,
        content(packages, format!("boot/vmlinuz-{version}").as_bytes()).digest
    );
    let config = String::from_utf8(content(image, b"kernel-config").read(1 << 20).unwrap()).unwrap();
    assert!(config.contains("\nCONFIG_OVERLAY_FS=m\n"));
    assert_eq!(image.names(image.root()).count(), 3);

    let layer = index(store, &content(image, b"kernel.tar"));
    let base = format!("lib/modules/{version}/");
    let mut shipped = 0;
    let folder = ["lib/modules", "usr/lib/modules"]
        .iter()
        .find(|above| packages.lookup(format!("{above}/{version}").as_bytes()).is_some())
        .unwrap();
    for entry in &layer.index.entries {
        if let EntryKind::File { digest, .. } = &entry.kind {
            let name = String::from_utf8_lossy(&entry.path).strip_prefix(&base).unwrap().to_string();
            if packages.resolve(format!("{folder}/{version}/{name}").as_bytes()).is_some() {
                let theirs = content(packages, format!("{folder}/{version}/{name}").as_bytes());
                assert_eq!(theirs.digest, *digest, "{name} was changed");
                shipped += usize::from(name.contains(".ko"));
            }
        }
    }
    assert!(shipped > 900, "{shipped} modules");
    (version, layer)
}

/// All that `module` needs, by name.
fn needs(dep: &str, module: &str) -> Vec<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap().split('.').next().unwrap().replace('-', "_");
    let line =
        dep.lines().find(|line| name(line.split(':').next().unwrap()) == module).unwrap_or_else(|| panic!("{module}"));
    line.split_once(':').unwrap().1.split_whitespace().map(name).collect()
}

/// Writes the modules to a folder, runs the real depmod there, and compares what it makes.
fn compare_with_depmod(layer: &Layer, version: &str) {
    let folder = tempfile::tempdir().unwrap();
    for entry in &layer.index.entries {
        let path = folder.path().join(std::str::from_utf8(&entry.path).unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        match &entry.kind {
            EntryKind::Folder => fs::create_dir(&path).unwrap(),
            EntryKind::File { .. }
                if name.contains(".ko")
                    || ["modules.order", "modules.builtin", "modules.builtin.modinfo"].contains(&name) =>
            {
                fs::write(&path, read(layer, std::str::from_utf8(&entry.path).unwrap())).unwrap();
            }
            _ => {}
        }
    }
    let mut command = Command::new("depmod");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg("-b").arg(folder.path()).arg(version);
    match command.status() {
        Ok(status) => assert!(status.success()),
        Err(error) if std::env::var_os("CI").is_none() => return eprintln!("not judged: depmod: {error}"),
        Err(error) => panic!("depmod, which the package kmod has: {error}"),
    }
    let texts = ["dep", "alias", "softdep", "devname", "symbols"];
    let tries = ["dep.bin", "alias.bin", "symbols.bin", "builtin.bin", "builtin.alias.bin"];
    for name in texts.into_iter().chain(tries) {
        let name = format!("modules.{name}");
        let path = format!("lib/modules/{version}/{name}");
        let (ours, theirs) = (read(layer, &path), fs::read(folder.path().join(&path)).unwrap());
        if name.ends_with(".bin") {
            let different = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
            assert!(ours == theirs, "{name}: {} and {} bytes, first different {different:?}", ours.len(), theirs.len());
            continue;
        }
        let (ours, theirs) = (String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
        if name == "modules.symbols" {
            let sorted = |text: &str| text.lines().map(str::to_string).collect::<BTreeSet<_>>();
            assert_eq!(sorted(&ours), sorted(&theirs), "{name}");
            continue;
        }
        let different = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
        assert!(ours == theirs, "{name} differs, first in {different:?}");
    }
}

fn debian_kernel(suite: &str, arch: Arch) {
    let store = kept();
    let package = format!("linux-image-cloud-{arch}");
    let Some(tree) = tree_of(&store, suite, &[], arch, |archive| kernel::packages(archive, &package)) else { return };
    let first = image(&tree, &store, arch);
    let (version, layer) = check(&tree, &first, &store);
    let dep = String::from_utf8(read(&layer, &format!("lib/modules/{version}/modules.dep"))).unwrap();
    // Users stand before what they use.
    let net = needs(&dep, "virtio_net");
    let place = |name: &str| net.iter().position(|need| need == name).unwrap_or_else(|| panic!("{name}: {net:?}"));
    assert!(place("net_failover") < place("failover"));
    assert!(needs(&dep, "dm_verity").contains(&"dm_mod".to_string()));
    assert!(needs(&dep, "erofs").contains(&"libcrc32c".to_string()));
    assert_eq!(needs(&dep, "overlay"), Vec::<String>::new());
    compare_with_depmod(&layer, &version);

    // In a store that has nothing derived yet, and from what is there.
    let folder = tempfile::tempdir().unwrap();
    let other = Store::open(folder.path()).unwrap();
    for again in [image(&tree, &other, arch), image(&tree, &store, arch)] {
        assert_eq!(content(&again, b"kernel.tar").digest, content(&first, b"kernel.tar").digest);
    }
}

#[test]
fn bookworm_amd64() {
    debian_kernel("bookworm", Arch::Amd64);
}

#[test]
fn bookworm_arm64() {
    debian_kernel("bookworm", Arch::Arm64);
}

/// Compressed modules below `usr/lib/modules`.
#[test]
fn trixie_amd64() {
    debian_kernel("trixie", Arch::Amd64);
}

#[test]
fn microcode_of_both_vendors() {
    let store = kept();
    let tree = tree_of(&store, "bookworm", &["non-free-firmware"], Arch::Amd64, |archive| {
        let names = ["intel-microcode", "amd64-microcode"];
        names.iter().map(|name| Ok(archive.package(name)?.unwrap())).collect()
    });
    let Some(tree) = tree else { return };
    let image = microcode::image(&tree, &store, 1).unwrap();
    let bytes = content(&image, b"ucode.cpio").read(64 << 20).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ucode.cpio");
    fs::write(&file, &bytes).unwrap();
    let listed = match Command::new("cpio").arg("-it").stdin(fs::File::open(&file).unwrap()).output() {
        Ok(output) => String::from_utf8(output.stdout).unwrap(),
        Err(error) if std::env::var_os("CI").is_none() => return eprintln!("not judged: cpio: {error}"),
        Err(error) => panic!("cpio: {error}"),
    };
    let expected = "kernel\nkernel/x86\nkernel/x86/microcode\nkernel/x86/microcode/AuthenticAMD.bin\n\
                    kernel/x86/microcode/GenuineIntel.bin\n";
    assert_eq!(listed, expected);
    // AMD's container magic (Linux, arch/x86/include/asm/microcode_amd.h); Intel's header version is 1.
    let at = |name: &[u8]| {
        let start = bytes.windows(name.len()).position(|part| part == name).unwrap() + name.len();
        start + bytes[start..].iter().position(|byte| *byte != 0).unwrap()
    };
    assert_eq!(bytes[at(b"AuthenticAMD.bin")..][..4], *b"DMA\0");
    let intel = at(b"GenuineIntel.bin");
    assert_eq!((intel % 16, &bytes[intel..][..4]), (0, &b"\x01\0\0\0"[..]));
    eprintln!("{} bytes of microcode", bytes.len());
}

/// The recipe `kernels/tiny`, compiled: minutes of all processors and 4 GiB of disk, so only on request, with
/// `MOBY_TEST_COMPILE` set to the architectures (`amd64,arm64`). `MOBY_TEST_KEEP` names a folder for the kernels.
#[test]
fn the_tiny_kernel_is_compiled() {
    let Ok(wanted) = std::env::var("MOBY_TEST_COMPILE") else {
        return eprintln!("not run: it takes ten minutes; MOBY_TEST_COMPILE=amd64 runs it");
    };
    let store = kept();
    for arch in wanted.split(',').map(|name| name.parse::<Arch>().unwrap()) {
        let source =
            tree_of(&store, "trixie", &[], arch, |archive| Ok(vec![archive.package("linux-source-6.12")?.unwrap()]));
        let Some(source) = source else { return };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/tiny");
        let options = ["common.config".to_string(), format!("{arch}.config")]
            .map(|name| kernel::OptionFile { text: fs::read_to_string(folder.join(&name)).unwrap(), name });
        let order = kernel::Order { source: &source, options: &options, arch, time: 1_700_000_000 };
        let started = std::time::Instant::now();
        let tree = kernel::compile(&order, &store, &Ui::new(Mode::Plain)).unwrap_or_else(|error| {
            panic!("{error}\n{}", error.hint_text().unwrap_or(""));
        });
        eprintln!("{arch}: compiled in {:?}", started.elapsed());
        let image = image(&tree, &store, arch);
        let content = content(&image, b"kernel");
        eprintln!("{arch}: {} bytes, {}", content.size, content.digest);
        assert!(content.size < 32 << 20);
        let tar = index(&store, &self::content(&image, b"kernel.tar"));
        let names: Vec<_> = tar.index.entries.iter().map(|entry| String::from_utf8_lossy(&entry.path)).collect();
        assert!(names.iter().any(|name| name.ends_with("-tiny/modules.builtin")), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with("-tiny/modules.dep")), "{names:?}");
        if let Ok(folder) = std::env::var("MOBY_TEST_KEEP") {
            fs::write(Path::new(&folder).join(format!("kernel-{arch}")), content.read(1 << 30).unwrap()).unwrap();
        }
    }
}
