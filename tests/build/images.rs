//! The images of `everything.yml`: all that a layer can hold, and all that a layer can do to the one below.

use std::io::Write;

use moby::formats::cpio::{FileType, Header, Writer};
use moby::store::Store;

use super::layers::{Image, Member, Packing, layer, noise, run_config};
use super::place::Place;

/// A capability set as the kernel stores it (linux/capability.h, revision 2): CAP_NET_RAW.
const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

/// Puts all images into a store.
pub fn put(store: &Store) {
    kernel().put(store);
    base().put(store);
    more().put(store);
    for image in containers() {
        image.put(store);
    }
}

/// A place with the images, the blueprint and the file that it copies.
pub fn place() -> Place {
    let place = Place::new();
    put(&place.store);
    place.write("everything.yml", include_str!("everything.yml"));
    place.write("copied.txt", "copied\n");
    place
}

/// Microcode as the kernel looks for it; the length is no multiple of four.
pub fn microcode() -> Vec<u8> {
    let mut cpio = Writer::new(Vec::new());
    let header = Header { ino: 1, mode: FileType::Regular.bits() | 0o644, nlink: 1, size: 50, ..Header::default() };
    cpio.start(b"kernel/x86/microcode/GenuineIntel.bin", header).unwrap().write_all(&noise(9, 50)).unwrap();
    cpio.pad().unwrap();
    let mut bytes = cpio.finish().unwrap();
    bytes.push(0);
    bytes
}

pub fn kernel_bytes() -> Vec<u8> {
    noise(1, 300_001)
}

fn kernel() -> Image<'static> {
    let modules = layer(&[
        Member::folder("lib/"),
        Member::folder("lib/modules/"),
        Member::folder("lib/modules/6.1.0/"),
        Member::file("lib/modules/6.1.0/virtio.ko", &noise(2, 70_000)),
        Member::file("lib/modules/6.1.0/modules.dep", "virtio.ko:\n"),
        Member::symlink("lib/modules/6.1.0/build", "/usr/src/linux"),
        // In an archive that is no layer, this is a file like others.
        Member::file("lib/modules/6.1.0/.wh.virtio.ko", "no whiteout"),
        Member::file("boot/board.dtb", "tree of devices"),
    ]);
    Image::new(
        "example.com/kernel:1",
        vec![layer(&[
            Member::file("bzImage", &kernel_bytes()).mode(0o600),
            Member::file("modules.tar", &modules),
            Member::file("intel-ucode.cpio", &microcode()),
            Member::file("System.map", "not taken"),
        ])],
    )
}

fn base() -> Image<'static> {
    // One name fits into a ustar header in two parts, the other in none.
    let deep = format!("names/{}/{}/leaf", "a".repeat(60), "b".repeat(60));
    let long = format!("names/{}", "long".repeat(50));
    let lowest = layer(&[
        Member::folder("./").mode(0o755),
        Member::folder("usr/"),
        Member::folder("usr/bin/"),
        Member::folder("usr/lib/"),
        Member::symlink("bin", "usr/bin"),
        Member::symlink("lib", "/usr/lib"),
        Member::file("usr/bin/su", &noise(3, 40_000)).mode(0o4755),
        Member::file("usr/bin/wall", "group").mode(0o2755).owner(0, 5),
        Member::file("usr/bin/ping", "ping").mode(0o755).xattr("security.capability", CAPABILITY),
        Member::hard_link("usr/bin/su-too", "usr/bin/su"),
        Member::folder("tmp/").mode(0o1777),
        Member::folder("etc/").mode(0o751).owner(3, 4),
        Member::file("etc/hostname", "left out"),
        Member::file("etc/hosts", "replaced"),
        Member::file("etc/mtab", "kept"),
        Member::file(".dockerenv", ""),
        Member::file("Dockerfile", "left out"),
        Member::folder("opt/"),
        Member::file("opt/gone", "gone"),
        Member::file("opt/kept", "kept"),
        Member::folder("opt/old/"),
        Member::folder("opt/old/below/"),
        Member::file("opt/old/below/x", "hidden by the opaque folder"),
        Member::folder("types/"),
        Member::file("types/file-to-folder", "f"),
        Member::folder("types/folder-to-file/"),
        Member::file("types/folder-to-file/x", "x"),
        Member::symlink("types/link-to-file", "nowhere"),
        Member::file("types/file-to-link", "f"),
        Member::folder("types/folder-to-link/"),
        Member::file("types/folder-to-link/lost", "lost"),
        Member::file("types/file-to-device", "f"),
        Member::file("lib/apk/db/installed", "P:base\n"),
        Member::device("dev/null", false, (1, 3)).mode(0o666),
        Member::device("dev/loop300", true, (7, 300)),
        Member::device("dev/console", false, (5, 1)),
        Member::fifo("run/fifo"),
    ]);
    let middle = layer(&[
        Member::file("bin/through-the-link", "lies in usr/bin").mode(0o755),
        Member::file("lib/through-the-absolute-link", "lies in usr/lib"),
        Member::file("opt/.wh.gone", ""),
        Member::file("opt/.wh.never-there", ""),
        // The new file stands before the mark that empties the folder.
        Member::file("opt/old/new", "new"),
        Member::file("opt/old/.wh..wh..opq", ""),
        Member::folder("types/file-to-folder/"),
        Member::file("types/file-to-folder/y", "y"),
        Member::file("types/folder-to-file", "now a file"),
        Member::file("types/link-to-file", "now a file"),
        Member::symlink("types/file-to-link", "link-to-file"),
        Member::symlink("types/folder-to-link", "/tmp"),
        Member::device("types/file-to-device", false, (1, 5)),
        // One of two names is replaced: the other one keeps what it had.
        Member::file("usr/bin/su-too", "another program").mode(0o755),
        Member::hard_link("usr/bin/su-three", "usr/bin/su"),
    ]);
    let odd = b"names/\xff\xfe not text \n\x01".to_vec();
    let highest = layer(&[
        Member::folder("names/"),
        Member::file(&odd, "bytes"),
        Member::file("names/ümläut ☃", "utf-8"),
        Member::file("names/back\\slash \"quote\" 'and' $x", "shell"),
        Member::file("names/-rf", "flag"),
        Member::file(&deep, "deep"),
        Member::file(&long, "long"),
        Member::symlink("names/to-long", &long),
        Member::hard_link("names/long-too", &long),
        Member::symlink("names/dangling", "no/such\nplace\\"),
        Member::file("times/far", "2242").record("mtime", "8589934592.5"),
        Member::file("times/before", "1969").record("mtime", "-1.25"),
        Member::file("times/zero", "1970").record("mtime", "0"),
        Member::file("owners/large", "").record("uid", "4000000000").record("gid", "2097152"),
        Member::file("attributes", "x").xattr("user.note", "caf\u{e9} =\0!").xattr("user.empty", ""),
        Member::folder("attributes.d/").xattr("user.folder", "yes"),
        Member::file("empty", ""),
    ]);
    Image::new("example.com/base:1", vec![lowest, middle, highest])
}

fn more() -> Image<'static> {
    let only = layer(&[
        Member::folder("bin/"),
        Member::file("bin/init", &noise(4, 9_000)).mode(0o755),
        Member::file("lib/apk/db/installed", "P:more\n"),
        Member::file("empty", "filled by the second image"),
    ]);
    Image::new("example.com/more:1", vec![only]).packed(Packing::Zstd)
}

fn containers() -> Vec<Image<'static>> {
    let app = layer(&[
        Member::file("bin/app", &noise(5, 20_000)).mode(0o755),
        Member::hard_link("bin/again", "bin/app"),
        Member::file("etc/resolv.conf", "replaced"),
        Member::device("dev/tty9", false, (4, 9)),
    ]);
    let mut config = run_config(&["/bin/app"], &["--serve"], "");
    config.env = vec!["PATH=/bin".into(), "LEVEL=1".into()];
    config.working_dir = "/var/lib".into();
    let label = r#"{"capabilities": ["CAP_SYS_ADMIN"], "binds": ["/etc/sysctl.d:/etc/sysctl.d"], "pid": "host",
        "readonly": true, "tmpfs": ["/run"], "runtime": {"mkdir": ["/var/x"], "bindNS": {"net": "/run/net"}}}"#;
    let ignored = r#"{"capabilities": ["all"], "hostname": "label", "env": ["FROM=label"], "net": "new",
        "runtime": {"mkdir": ["/var/label"], "namespace": "label"}}"#;
    vec![
        Image::new("example.com/team/app:1.2", vec![app]).config(config),
        Image::new("example.com/team/other:1", vec![layer(&[Member::file("bin/app", "other").mode(0o755)])])
            .packed(Packing::Plain)
            .config(run_config(&["/bin/app"], &[], ignored)),
        Image::new("docker.io/linuxkit/sysctl:v1", vec![layer(&[Member::file("bin/sysctl", "sysctl").mode(0o755)])])
            .config(run_config(&["/bin/sysctl"], &[], label)),
        Image::new("docker.io/library/busybox", vec![layer(&[Member::file("bin/sh", "sh").mode(0o755)]), layer(&[])])
            .config(run_config(&[], &["sh"], "")),
    ]
}
