use proptest::prelude::*;

use super::elf::Elf;
use super::elf::tests::program;
use super::*;
use crate::component::skeleton::skeleton;
use crate::error::Exit;
use crate::rootfs::{Content, Origin};

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

fn elf(interpreter: &str, needed: &[&str], runpath: &str) -> Vec<u8> {
    let elf = Elf {
        interpreter: (!interpreter.is_empty()).then(|| interpreter.into()),
        dynamic: true,
        needed: needed.iter().map(|name| name.as_bytes().to_vec()).collect(),
        runpath: (!runpath.is_empty()).then(|| runpath.into()),
        ..Elf::default()
    };
    program(Arch::Amd64, &elf)
}

struct Full(Tree);

impl Full {
    fn put(&mut self, path: &str, mode: u32, kind: Kind) {
        let origin = self.0.add_origin(Origin { source: "package".into(), location: "packages".into() });
        let inode = Inode { meta: Meta { uid: 7, ..Meta::root(mode, 3) }, kind, origin };
        self.0.insert(path.as_bytes(), inode, &Meta::root(0o751, 1)).unwrap();
    }

    fn file(&mut self, path: &str, bytes: impl AsRef<[u8]>) {
        self.put(path, 0o755, Kind::File(Content::bytes(bytes.as_ref())));
    }

    fn link(&mut self, path: &str, target: &str) {
        self.put(path, 0o777, Kind::Symlink(target.as_bytes().into()));
    }
}

/// A small system: a server with a link, a library with a version, one of its own, a shell.
fn full() -> Full {
    let mut full = Full(skeleton(Arch::Amd64, 1));
    full.file("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", elf("", &[], ""));
    full.link("usr/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    full.file("usr/lib/x86_64-linux-gnu/libc.so.6", elf(LOADER, &["ld-linux-x86-64.so.2"], ""));
    full.file("usr/lib/x86_64-linux-gnu/libz.so.1.2.13", elf("", &["libc.so.6"], ""));
    full.link("usr/lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.2.13");
    full.file("usr/lib/x86_64-linux-gnu/libunused.so.1", elf("", &[], ""));
    full.file("usr/lib/server/libown.so", elf("", &["libz.so.1"], ""));
    full.file("usr/bin/server-tool", elf(LOADER, &["libown.so", "libc.so.6"], "$ORIGIN/../lib/server"));
    full.link("usr/bin/server", "server-tool");
    full.file("usr/bin/dash", elf(LOADER, &["libc.so.6"], ""));
    full.link("usr/bin/sh", "dash");
    full.file("usr/share/server/data/a", "a");
    full.file("usr/share/server/data/b", "b");
    full
}

fn show_tree(tree: &Tree) -> Vec<String> {
    let mut shown = Vec::new();
    tree.walk_all(|path, id| {
        let path = String::from_utf8_lossy(path);
        match &tree.inode(id).kind {
            Kind::Folder(names) if !names.is_empty() => {}
            Kind::Folder(_) => shown.push(format!("{path}/")),
            Kind::Symlink(to) => shown.push(format!("{path} -> {}", String::from_utf8_lossy(to))),
            _ => shown.push(path.into_owned()),
        }
        Ok(())
    })
    .unwrap();
    shown
}

fn try_kept(full: &Full, wanted: &[&str], own: &[&str]) -> Result<Vec<String>> {
    keep(&full.0, wanted, own, Arch::Amd64, 9).map(|kept| show_tree(&kept.tree))
}

fn kept(full: &Full, wanted: &[&str]) -> Vec<String> {
    try_kept(full, wanted, &[]).unwrap()
}

fn fails(full: &Full, wanted: &[&str]) -> (Exit, String) {
    let error = try_kept(full, wanted, &[]).unwrap_err();
    (error.exit(), format!("{}; {}", error.message(), error.hint_text().unwrap_or("")))
}

const DASH: [&str; 8] = [
    "bin -> usr/bin",
    "lib -> usr/lib",
    "lib64 -> usr/lib64",
    "usr/bin/dash",
    "usr/bin/sh -> dash",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib64/ld-linux-x86-64.so.2 -> /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
];

#[test]
fn a_program_comes_with_all_that_it_needs() {
    let full = full();
    let expected = [
        "bin -> usr/bin",
        "lib -> usr/lib",
        "lib64 -> usr/lib64",
        "usr/bin/server -> server-tool",
        "usr/bin/server-tool",
        "usr/lib/server/libown.so",
        "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/x86_64-linux-gnu/libz.so.1 -> libz.so.1.2.13",
        "usr/lib/x86_64-linux-gnu/libz.so.1.2.13",
        "usr/lib64/ld-linux-x86-64.so.2 -> /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    ];
    assert_eq!(kept(&full, &["/usr/bin/server"]), expected);
    assert_eq!(kept(&full, &["/bin/server"]), expected);
    let made = keep(&full.0, &["/usr/bin/server"], &[""; 0], Arch::Amd64, 9).unwrap();
    assert_eq!(made.files, 5);
    assert_eq!(made.needed.len(), 4, "{:?}", made.needed);
    assert!(made.needed.contains(&"/usr/lib/server/libown.so".to_string()));
    // Owners, modes, times and origins are those of the full tree, for parents too.
    let meta = |path: &[u8]| made.tree.inode(made.tree.lookup(path).unwrap()).meta.clone();
    assert_eq!(meta(b"usr/lib/server"), Meta::root(0o751, 1));
    assert_eq!(meta(b"usr/bin/server-tool"), Meta { uid: 7, ..Meta::root(0o755, 3) });
    let inode = made.tree.inode(made.tree.lookup(b"usr/bin/server-tool").unwrap());
    assert_eq!(made.tree.origin(inode.origin).source, "package");
}

#[test]
fn folders_patterns_and_data() {
    let mut full = full();
    let data = ["usr/share/server/data/a", "usr/share/server/data/b"];
    assert_eq!(kept(&full, &["/usr/share/server"]), data);
    assert_eq!(kept(&full, &["/usr/share/server/"]), data);
    assert_eq!(kept(&full, &["/usr/share/server/data/*"]), data);
    assert_eq!(kept(&full, &["/usr/share/server/data/a*"]), ["usr/share/server/data/a"]);
    let (exit, message) = fails(&full, &["/usr/*/x"]);
    assert!(exit == Exit::Usage && message.contains("last name"), "{message}");
    full.put("usr/share/server/empty", 0o700, Kind::folder());
    assert_eq!(kept(&full, &["/usr/share/server/empty"]), ["usr/share/server/empty/"]);
    // A link in a folder brings what it leads to; one that leads nowhere is kept.
    full.link("usr/share/server/empty/link", "../data/b");
    full.link("usr/share/server/empty/nowhere", "/run/x");
    full.link("usr/share/server/empty/loop", "loop");
    assert_eq!(
        kept(&full, &["/usr/share/server/empty"]),
        [
            "usr/share/server/data/b",
            "usr/share/server/empty/link -> ../data/b",
            "usr/share/server/empty/loop -> loop",
            "usr/share/server/empty/nowhere -> /run/x"
        ]
    );
    assert!(kept(&full, &["/"]).len() > 15);
    // A link that was passed first and is named later.
    assert!(kept(&full, &["/bin/server", "/lib"]).contains(&"usr/lib/x86_64-linux-gnu/libunused.so.1".into()));
}

#[test]
fn patterns() {
    for (pattern, name) in
        [("*", ""), ("*", "abc"), ("a*c", "ac"), ("a*c*e", "abcde"), ("*.so*", "lib.so.1"), ("**a", "a")]
    {
        assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
    }
    for (pattern, name) in [("a", "ab"), ("a*c", "ab"), ("*.so", "lib.so.1"), ("", "a"), ("a*a", "a")] {
        assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
    }
}

#[test]
fn hard_links_stay_linked() {
    let mut full = full();
    let (origin, missing) = (full.0.inode(full.0.root()).origin, Meta::root(0o755, 0));
    full.0.link(b"usr/share/server/c", b"usr/share/server/data/b", &missing, origin).unwrap();
    let made = keep(&full.0, &["/usr/share/server"], &[""; 0], Arch::Amd64, 9).unwrap();
    assert_eq!(made.tree.lookup(b"usr/share/server/c"), made.tree.lookup(b"usr/share/server/data/b"));
    assert_eq!((made.files, made.bytes), (2, 2));
}

#[test]
fn what_is_not_there_is_named() {
    let full = full();
    let (exit, message) = fails(&full, &["/usr/bin/servr", "/usr/sbin/dash"]);
    assert_eq!(exit, Exit::Usage);
    assert!(message.contains("/usr/bin/servr and /usr/sbin/dash"), "{message}");
    assert!(message.contains("did you mean /usr/bin/server and /usr/bin/dash?"), "{message}");
    let (_, message) = fails(&full, &["/usr/share/nothing*"]);
    assert!(message.contains("/usr/share/nothing*"), "{message}");
}

#[test]
fn a_missing_library_is_named_with_the_folders() {
    let mut full = full();
    full.file("opt/bin/x", elf(LOADER, &["libdeep.so"], "/opt/lib"));
    full.file("opt/lib/libdeep.so", elf("", &["libgone.so.3"], ""));
    let (exit, message) = fails(&full, &["/opt"]);
    assert_eq!(exit, Exit::Usage);
    assert!(
        message.contains("/opt/lib/libdeep.so (a library of /opt/bin/x) needs the library libgone.so.3, which is not in /lib/x86_64-linux-gnu, "),
        "{message}"
    );
    full.file("srv/libgone.so.3", elf("", &[], ""));
    assert!(fails(&full, &["/opt"]).1.contains("/srv/libgone.so.3 is not where the loader looks"));
    // One for another machine is passed over, as the loader does, and so is one that is broken.
    let other = Elf { dynamic: true, ..Elf::default() };
    full.file("usr/lib/x86_64-linux-gnu/libgone.so.3", program(Arch::Arm64, &other));
    assert!(fails(&full, &["/opt"]).1.contains("libgone.so.3"));
    full.file("usr/lib/libgone.so.3", elf("", &[], ""));
    assert!(kept(&full, &["/opt/bin"]).contains(&"usr/lib/libgone.so.3".into()));
    full.file("usr/bin/y", elf("/lib/ld-other.so.1", &[], ""));
    assert!(fails(&full, &["/usr/bin/y"]).1.contains("the program /usr/bin/y needs /lib/ld-other.so.1 as its loader"));
}

#[test]
fn plugins_find_what_their_program_has_loaded() {
    let mut full = full();
    // libown.so is nowhere the plug-in itself looks, but the program has it.
    full.file("usr/lib/server/modules/m.so", elf("", &["libown.so", "libz.so.1"], ""));
    assert!(fails(&full, &["/usr/lib/server/modules"]).1.contains("libown.so"));
    assert!(try_kept(&full, &["/usr/lib/server/modules", "/usr/bin/server"], &[]).is_ok());
}

#[test]
fn loops_of_libraries_end() {
    let mut full = full();
    full.file("usr/lib/liba.so", elf("", &["libb.so"], ""));
    full.file("usr/lib/libb.so", elf("", &["liba.so", "libb.so"], ""));
    full.file("usr/bin/x", elf(LOADER, &["liba.so"], ""));
    assert!(kept(&full, &["/usr/bin/x"]).contains(&"usr/lib/libb.so".into()));
}

#[test]
fn programs_for_another_machine_are_refused() {
    let mut full = full();
    let foreign = |interpreter: Option<&str>, dynamic| {
        program(Arch::Arm64, &Elf { interpreter: interpreter.map(Into::into), dynamic, ..Elf::default() })
    };
    full.file("usr/bin/x", foreign(Some("/lib/ld-linux-aarch64.so.1"), true));
    let (exit, message) = fails(&full, &["/usr/bin/x"]);
    assert_eq!(exit, Exit::Refused);
    assert!(message.contains("/usr/bin/x is for ELF machine 183, and the image is for amd64"), "{message}");
    full.put("usr/lib/firmware/dsp", 0o644, Kind::File(Content::bytes(foreign(None, false))));
    assert_eq!(kept(&full, &["/usr/lib/firmware"]).last().unwrap(), "usr/lib/firmware/dsp");
    full.file("usr/bin/broken", &elf(LOADER, &["libc.so.6"], "")[..100]);
    assert!(fails(&full, &["/usr/bin/broken"]).1.contains("broken"));
}

#[test]
fn scripts_come_with_their_interpreter() {
    let mut full = full();
    full.file("usr/bin/script", "#!/bin/sh -e\necho\n");
    let mut expected = DASH.to_vec();
    expected.insert(4, "usr/bin/script");
    assert_eq!(kept(&full, &["/usr/bin/script"]), expected);
    full.file("usr/sbin/script", "#!/usr/bin/env sh\necho\n");
    assert!(fails(&full, &["/usr/sbin/script"]).1.contains("the script /usr/sbin/script needs /usr/bin/env"));
    full.file("usr/bin/env", elf(LOADER, &["libc.so.6"], ""));
    let found = kept(&full, &["/sbin/script"]);
    assert!(found.contains(&"usr/bin/env".into()) && found.contains(&"usr/bin/dash".into()), "{found:?}");
    full.file("usr/lib/hooks/a", "#!/bin/none\n");
    assert!(fails(&full, &["/usr/lib/hooks"]).1.contains("needs /bin/none as its interpreter"));
    // The recipe makes it, by whatever path.
    assert_eq!(
        try_kept(&full, &["/usr/lib/hooks"], &["/usr/bin/none"]).unwrap(),
        ["lib -> usr/lib", "usr/lib/hooks/a"]
    );
    full.file("usr/lib/hooks/a", "#!/usr/bin/env none\n");
    assert!(fails(&full, &["/usr/lib/hooks"]).1.contains("needs none as its interpreter"));
    assert!(try_kept(&full, &["/usr/lib/hooks"], &["/bin/none"]).is_ok());
    // What may not be executed is text.
    full.put("usr/lib/hooks/a", 0o644, Kind::File(Content::bytes(*b"#!/bin/none\n")));
    assert_eq!(kept(&full, &["/usr/lib/hooks"]), ["lib -> usr/lib", "usr/lib/hooks/a"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn wrong_bytes_in_any_file_never_panic(
        file in 0..3_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut full = full();
        let (path, mut bytes) = [
            ("usr/bin/server-tool", elf(LOADER, &["libown.so", "libc.so.6"], "$ORIGIN/../lib/server")),
            ("usr/lib/server/libown.so", elf("", &["libz.so.1"], "${ORIGIN}:$LIB")),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", elf(LOADER, &["ld-linux-x86-64.so.2"], "")),
        ][file].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        full.file(path, bytes);
        let _ = try_kept(&full, &["/usr"], &[]);
    }
}
