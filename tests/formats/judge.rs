//! Foreign tools that judge what the writers make, and pinned dumps of small images.
#![allow(dead_code)] // Every test program uses another part of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use moby::formats::source::Source;
use moby::store::Digest;

/// Runs a tool that has to succeed and gives what it printed. `None` if the machine does not have it: then the test
/// says so and goes on, and fails where everything has to be there (`CI=true`).
pub fn judge(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Option<String> {
    let (success, text) = verdict(program, arguments)?;
    assert!(success, "{program} says:\n{text}");
    Some(text)
}

/// The same for a tool that may find fault.
pub fn verdict(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Option<(bool, String)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let Some(found) = folders.map(|folder| folder.join(program)).find(|file| file.is_file()) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is not installed");
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    let output = Command::new(found).args(arguments).env("MTOOLS_SKIP_CHECK", "0").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text))
}

/// Writes a source to a file.
pub fn write(source: &dyn Source, path: &Path) {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    source.write_to(&mut out).unwrap();
    std::io::Write::flush(&mut out).unwrap();
    drop(out);
    assert_eq!(std::fs::metadata(path).unwrap().len(), source.size());
}

/// Writes a source to memory.
pub fn bytes(source: &dyn Source) -> Vec<u8> {
    let mut out = Vec::new();
    source.write_to(&mut out).unwrap();
    assert_eq!(out.len() as u64, source.size());
    out
}

/// Compares an image with its pinned dump in `tests/formats/FORMAT/NAME.txt`: readable lines, then the digest of the
/// bytes. A difference means that images people have built and verified will differ from those that this version
/// builds. If that is meant, `MOBY_PIN=1 cargo test` writes the new dump.
pub fn pinned(format: &str, name: &str, image: &[u8], dump: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format).join(format!("{name}.txt"));
    let text = format!("{dump}{}\n", Digest::of(image));
    if std::env::var_os("MOBY_PIN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text, "{} differs; now it is:\n{text}", path.display());
}

/// Bytes without a pattern that a misplaced block could repeat.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(size);
    out
}
