//! The outputs with a kernel and an initrd: what Linux would unpack.

use std::io::{BufRead, Read, Write};
use std::process::{Command, Stdio};

use moby::formats::cpio;

use super::images;
use super::listing::{as_cpio, of_cpio, of_tar, show};
use super::place::Place;
use super::support::machine::available;

/// Undoes the compression of an initrd behind its microcode with the system's own program.
fn inflated(compression: &str, bytes: &[u8]) -> Vec<u8> {
    let mut command = match compression {
        "none" => return bytes.to_vec(),
        name => Command::new(name),
    };
    filter(command.arg("-dc"), bytes)
}

fn filter(command: &mut Command, bytes: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Counts what is read.
struct Counting<'a>(&'a [u8], std::rc::Rc<std::cell::Cell<usize>>);

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.set(self.1.get() + count);
        Ok(count)
    }
}

impl BufRead for Counting<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        Ok(self.0)
    }

    fn consume(&mut self, count: usize) {
        self.0 = &self.0[count..];
        self.1.set(self.1.get() + count);
    }
}

/// Cuts a run of archives behind their trailers.
fn archives(bytes: &[u8]) -> Vec<&[u8]> {
    let position = std::rc::Rc::new(std::cell::Cell::new(0));
    let mut reader = cpio::Reader::new(Counting(bytes, position.clone()));
    let (mut parts, mut start) = (Vec::new(), 0);
    while let Some(member) = reader.next_member().unwrap() {
        if member.name == b"TRAILER!!!" {
            parts.push(&bytes[start..position.get()]);
            start = position.get();
        }
    }
    parts
}

/// The names in all archives by `cpio -t`, but for those that a list cannot show: line breaks, bytes that are no text.
fn cpio_names(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for part in archives(bytes) {
        let listed = filter(Command::new("cpio").args(["-t", "--quiet"]).env("LC_ALL", "C"), part);
        // A name with a line break in it is two lines here, of which neither is looked at.
        names.extend(listed.split(|byte| *byte == b'\n').map(|name| String::from_utf8_lossy(name).into_owned()));
    }
    names.retain(|name| !name.is_empty() && plain(name.as_bytes()));
    names.sort();
    names
}

fn plain(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\' && *byte != b'"')
}

fn initrd(place: &Place, compression: &str) -> Vec<u8> {
    let arguments = ["--compression", compression, "-f", "kernel+initrd", "--name", compression, "everything.yml"];
    let ended = place.build(&arguments).well();
    let names = ["kernel", "initrd.img", "cmdline"].map(|part| format!("images-out/{compression}-{part}\n"));
    assert_eq!(String::from_utf8_lossy(&ended.out), names.concat());
    let warning = "warning: /usr/bin/ping loses its file capabilities";
    assert!(ended.err.contains(warning), "{}", ended.err);
    assert!(place.read(&format!("images-out/{compression}-kernel")) == images::kernel_bytes());
    assert_eq!(place.read(&format!("images-out/{compression}-cmdline")), b"console=ttyS0 quiet");
    place.read(&format!("images-out/{compression}-initrd.img"))
}

#[test]
fn an_initrd_holds_what_the_tar_holds() {
    let place = images::place();
    let expected = as_cpio(&of_tar(&place.build(&["-o", "-", "everything.yml"]).well().out));
    let microcode = images::microcode();
    for compression in ["none", "gzip", "xz", "zstd"] {
        let bytes = initrd(&place, compression);
        let rest = bytes.strip_prefix(microcode.as_slice()).expect("microcode stands first, as it is");
        let rest = rest.strip_prefix(&[0; 3]).expect("up to a multiple of four");
        if !available(if compression == "none" { "cpio" } else { compression }) {
            continue;
        }
        let whole = inflated(compression, rest);
        let mut found = of_cpio(&whole);
        let root = found.iter().position(|(path, _)| path == b".").expect("the root itself");
        assert_eq!(found.remove(root).1.mode, 0o755);
        assert_eq!(show(&found), show(&expected), "{compression}");
        if available("cpio") {
            let mut names: Vec<String> = expected
                .iter()
                .filter(|(path, _)| plain(path))
                .map(|(path, _)| String::from_utf8(path.clone()).unwrap())
                .chain([".".to_string()])
                .collect();
            names.sort();
            assert_eq!(cpio_names(&whole), names);
        }
        // Folders stand before what is in them.
        let mut reader = cpio::Reader::new(whole.as_slice());
        let mut known: std::collections::HashSet<Vec<u8>> = [b".".to_vec()].into();
        while let Some(member) = reader.next_member().unwrap() {
            if let Some(slash) = member.name.iter().rposition(|byte| *byte == b'/') {
                assert!(known.contains(&member.name[..slash]), "{}", member.name.escape_ascii());
            }
            known.insert(member.name);
        }
    }
}

#[test]
fn one_archive_holds_the_three_files_and_microcode() {
    let place = images::place();
    let whole = initrd(&place, "zstd");
    place.build(&["-f", "tar-kernel-initrd", "everything.yml"]).well();
    let items = super::listing::contents_of_tar(&place.read("images-out/everything-initrd.tar"));
    let names: Vec<_> = items.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(names, ["cmdline", "initrd.img", "kernel", "ucode.cpio"]);
    assert!(items[b"kernel".as_slice()] == images::kernel_bytes());
    assert!(items[b"ucode.cpio".as_slice()] == images::microcode());
    assert_eq!(items[b"cmdline".as_slice()], b"console=ttyS0 quiet");
    assert!(whole.ends_with(&items[b"initrd.img".as_slice()]));
    assert_eq!(whole.len(), items[b"initrd.img".as_slice()].len() + images::microcode().len() + 3);
}

/// LinuxKit gives the initrd alone where there is no kernel.
#[test]
fn a_blueprint_without_a_kernel_gives_an_initrd() {
    let place = images::place();
    place.write("bare.yml", "init: [\"example.com/more:1\"]\n");
    place.build(&["bare.yml"]).well();
    assert_eq!(place.names("images-out"), ["bare-initrd.img"]);
}
