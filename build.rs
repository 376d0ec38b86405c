//! Puts the recipes and guest sources into the program, so that it builds images where there is no checkout.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn main() {
    let top = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut files = Vec::new();
    for folder in ["components", "kernels"] {
        println!("cargo::rerun-if-changed={folder}");
        list(&top.join(folder), folder, &mut files);
    }
    files.sort();
    let mut code = String::from("/// Path, whether it is executable, content.\n");
    let _ = writeln!(code, "pub(super) static FILES: [(&str, bool, &[u8]); {}] = [", files.len());
    for (name, path) in &files {
        let executable = fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
        let _ = writeln!(code, "    ({name:?}, {executable}, include_bytes!({:?})),", path.display().to_string());
    }
    code.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("embedded.rs");
    fs::write(&out, code).expect("OUT_DIR is writable");
}

/// The same files that a component's hash is made from: everything but what cargo and git leave behind.
fn list(folder: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let name = format!("{name}/{file}");
        if path.is_dir() {
            if file != ".git" && file != "target" {
                list(&path, &name, files);
            }
        } else {
            println!("cargo::rerun-if-changed={name}");
            files.push((name, path));
        }
    }
}
