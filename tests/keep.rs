//! Packages of the machine's real Debian archive, merged and cut down to what recipes keep; the programs that are left
//! must run in a root of nothing else. A machine without a Debian mirror or network cannot run these: they say so, and
//! fail if `CI` is set.

#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use moby::Arch;
use moby::component::keep::{Kept, keep};
use moby::component::packages::merge_package;
use moby::component::skeleton::skeleton;
use moby::component::{certificates, drop};
use moby::deb::{Archive, ResolveOptions, Sources, Wanted};
use moby::error::Exit;
use moby::net::{Net, NetOptions};
use moby::rootfs::{Kind, Tree};
use moby::store::Store;
use moby::ui::{Mode, Ui};

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

/// The files of packages and all that they depend on, in the order of names.
fn packages(suite: &str, arch: Arch, names: &[&str]) -> Option<Tree> {
    let sources = needed(Sources::of_machine(), Exit::Usage)?;
    let net = Net::new(NetOptions::default(), &Ui::new(Mode::Plain)).unwrap();
    let store = Store::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-store")).unwrap();
    let wanted = Wanted { suite: suite.into(), areas: Vec::new(), arch };
    let archive = needed(Archive::open(&store, &net, &Ui::new(Mode::Plain), &sources, &wanted), Exit::Network)?;
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut packages = archive.resolve(&names, &ResolveOptions::default()).unwrap();
    packages.sort_by(|left, right| left.name.cmp(&right.name));
    let layers = archive.fetch_all(&packages).unwrap();
    let mut tree = skeleton(arch, 0);
    for (package, layer) in packages.iter().zip(&layers) {
        merge_package(&mut tree, &package.name, layer, 0).unwrap();
    }
    Some(tree)
}

fn kept(tree: &Tree, arch: Arch, wanted: &[&str], own: &[&str]) -> Kept {
    let kept = keep(tree, wanted, own, arch, 0)
        .unwrap_or_else(|error| panic!("{} ({})", error.message(), error.hint_text().unwrap_or("")));
    eprintln!("{arch} {wanted:?}: {} files, {} bytes, needed {:?}", kept.files, kept.bytes, kept.needed);
    kept
}

fn extract(tree: &Tree, root: &Path) {
    tree.walk_all(|path, id| {
        let to = root.join(OsStr::from_bytes(path));
        let inode = tree.inode(id);
        match &inode.kind {
            Kind::Folder(_) => fs::create_dir_all(&to).unwrap(),
            Kind::Symlink(target) => symlink(OsStr::from_bytes(target), &to).unwrap(),
            Kind::File(content) => {
                content.copy_to(&mut fs::File::create(&to).unwrap())?;
                fs::set_permissions(&to, fs::Permissions::from_mode(inode.meta.mode)).unwrap();
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    })
    .unwrap();
}

/// Runs a program in a root that has only the tree, where that is possible, and looks for `expected` in what it says.
fn run(kept: &Kept, arch: Arch, command: &[&str], expected: &str) {
    if Arch::host() != Some(arch) || !rustix::process::geteuid().is_root() {
        return eprintln!("not run: {command:?} on {arch}");
    }
    let root = tempfile::tempdir().unwrap();
    extract(&kept.tree, root.path());
    // crun opens itself through /proc. The mount ends with the namespace.
    fs::create_dir(root.path().join("proc")).unwrap();
    let script = "mount --rbind /proc \"$0/proc\" && exec chroot \"$0\" \"$@\"";
    let mut unshare = Command::new("unshare");
    let output = unshare.args(["-m", "sh", "-c", script]).arg(root.path()).args(command).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains(expected), "{command:?}: {} {said}", output.status);
    eprintln!("{}", said.lines().next().unwrap_or(""));
}

#[test]
fn servers_and_runtimes_run_with_what_is_kept() {
    for arch in Arch::ALL {
        for (package, wanted, command, expected) in [
            ("redis-server", "/usr/bin/redis-server", &["/bin/redis-server", "--version"][..], "Redis server v="),
            ("nginx", "/usr/sbin/nginx", &["/usr/sbin/nginx", "-v"], "nginx version"),
            ("crun", "/usr/bin/crun", &["/usr/bin/crun", "--version"], "crun version"),
            ("runc", "/usr/sbin/runc", &["/sbin/runc", "--version"], "runc version"),
            ("busybox-static", "/bin/busybox", &["/bin/busybox", "sh", "-c", "echo well"], "well"),
        ] {
            let Some(mut tree) = packages("bookworm", arch, &[package]) else { return };
            let kept = kept(&tree, arch, &[wanted], &[]);
            assert!(kept.bytes < 20 << 20, "{package}: {} bytes", kept.bytes);
            run(&kept, arch, command, expected);
            let names = |tree: &Tree| tree.link_counts().unwrap().iter().sum::<u32>();
            let before = names(&tree);
            drop::documentation(&mut tree);
            assert!(names(&tree) < before && tree.lookup(b"usr/share/doc").is_none());
            assert_eq!(keep(&tree, &[wanted], &[""; 0], arch, 0).unwrap().bytes, kept.bytes);
        }
    }
}

#[test]
fn a_program_with_scripts_needs_a_shell() {
    for arch in Arch::ALL {
        let Some(mut tree) = packages("trixie", arch, &["dhcpcd-base", "busybox-static"]) else { return };
        drop::paths(&mut tree, &["/usr/lib/dhcpcd/dhcpcd-hooks/50-timesyncd.conf"]).unwrap();
        let wanted = ["/usr/sbin/dhcpcd", "/usr/lib/dhcpcd", "/usr/bin/busybox"];
        if tree.resolve(b"bin/sh").is_none() {
            let error = keep(&tree, &wanted, &[""; 0], arch, 0).unwrap_err();
            assert!(error.message().contains("/bin/sh"), "{error}");
        }
        let kept = kept(&tree, arch, &wanted, &["/bin/sh"]);
        run(&kept, arch, &["/sbin/dhcpcd", "--version"], "dhcpcd 10");
    }
}

/// The machine's own bundle is the judge, if it was made from the same version of the package.
#[test]
fn the_bundle_is_that_of_update_ca_certificates() {
    let Some(arch) = Arch::host() else { return };
    let Some(mut tree) = packages("bookworm", arch, &["ca-certificates"]) else { return };
    certificates::bundle(&mut tree, 0).unwrap();
    let kept = kept(&tree, arch, &["/etc/ssl/certs/ca-certificates.crt"], &[]);
    let id = kept.tree.lookup(b"etc/ssl/certs/ca-certificates.crt").unwrap();
    let Kind::File(content) = &kept.tree.inode(id).kind else { panic!() };
    let ours = content.read(1 << 20).unwrap();
    let Ok(theirs) = fs::read("/etc/ssl/certs/ca-certificates.crt") else { return eprintln!("not judged: no bundle") };
    let certificates = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_string).collect::<Vec<_>>()
    };
    let (mut ours, mut theirs) = (certificates(&ours), certificates(&theirs));
    assert!(ours.len() > 100);
    let same_order = ours == theirs;
    ours.sort();
    theirs.sort();
    if ours != theirs {
        return eprintln!("not judged: the machine has other certificates, {} and {}", ours.len(), theirs.len());
    }
    assert!(same_order, "the same certificates in another order");
}
