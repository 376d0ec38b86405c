//! Reading a `.deb`: an `ar` archive of `debian-binary`, `control.tar` and `data.tar` (deb(5)).
//!
//! Tars may be plain or compressed with gzip, xz or zstd; lzma and bzip2, which dpkg stopped writing in 2014, are
//! refused. Maintainer scripts are never run; of `control.tar` only the file `control` is read.

use std::io::Read;

use super::stanza::Stanza;
use crate::error::{Error, Result};
use crate::store::{PendingLayer, Store, decompress};

/// The largest inflated `control.tar`. The largest of Debian, with the checksums of 100,000 files, has 10 MiB.
const CONTROL_LIMIT: u64 = 16 << 20;

/// The largest `control` file.
const CONTROL_FILE_LIMIT: u64 = 1 << 20;

const MAGIC: &[u8; 8] = b"!<arch>\n";

/// What a `.deb` says about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Control {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
}

/// Reads a `.deb` up to the end of its files, and inflates these into a layer that is not yet in the store. What follows
/// them (signatures, which Debian's archive does not use) is left unread: the file's digest is its reader's to check.
pub fn read(store: &Store, mut file: impl Read + Send) -> Result<(Control, PendingLayer)> {
    let mut magic = [0; 8];
    read_exact(&mut file, &mut magic)?;
    if magic != *MAGIC {
        return Err(wrong("it does not start as one"));
    }
    let (name, size) = member(&mut file)?.ok_or_else(|| wrong("it is empty"))?;
    if name != "debian-binary" {
        return Err(wrong(&format!("its first member is \"{name}\", not \"debian-binary\"")));
    }
    let mut version = Vec::new();
    (&mut file).take(size.min(64)).read_to_end(&mut version).map_err(unreadable)?;
    if !version.starts_with(b"2.") {
        return Err(wrong("its format is not 2.x"));
    }
    skip(&mut file, size - size.min(64) + size % 2)?;
    let mut control = None;
    while let Some((name, size)) = member(&mut file)? {
        if name.starts_with("data.tar") {
            supported(&name)?;
            let control = control.ok_or_else(|| wrong("its data come before its control information"))?;
            return Ok((control, store.inflate((&mut file).take(size))?));
        }
        if name.starts_with("control.tar") && control.is_none() {
            supported(&name)?;
            let mut part = (&mut file).take(size);
            control = Some(read_control(&mut part)?);
            let rest = part.limit();
            skip(&mut file, rest + size % 2)?;
        } else {
            // Members of unknown names are to be passed over (deb(5)).
            skip(&mut file, size + size % 2)?;
        }
    }
    Err(wrong("it has no data.tar"))
}

/// Reads a member's header: its name and size. The name may end in a slash (System V's form).
fn member(file: &mut impl Read) -> Result<Option<(String, u64)>> {
    let mut header = [0; 60];
    let mut filled = 0;
    while filled < header.len() {
        match file.read(&mut header[filled..]).map_err(unreadable)? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(wrong("it ends inside of a member's header")),
            count => filled += count,
        }
    }
    let text = std::str::from_utf8(&header).ok().filter(|text| text.is_ascii() && text.ends_with("`\n"));
    let text = text.ok_or_else(|| wrong("a member's header is malformed"))?;
    let size = text[48..58].trim_end().parse().map_err(|_| wrong("a member's size is no number"))?;
    Ok(Some((text[..16].trim_end().trim_end_matches('/').to_string(), size)))
}

fn supported(name: &str) -> Result<()> {
    match name.rsplit_once(".tar").map(|(_, suffix)| suffix) {
        Some("" | ".gz" | ".xz" | ".zst") => Ok(()),
        _ => Err(wrong(&format!("the compression of \"{}\" is not supported", name.escape_debug()))),
    }
}

fn read_control(part: impl Read + Send) -> Result<Control> {
    let inflated = decompress(part).map_err(unreadable)?.take(CONTROL_LIMIT);
    let mut archive = tar::Archive::new(inflated);
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !matches!(&*entry.path_bytes(), b"./control" | b"control") {
            continue;
        }
        let mut text = String::new();
        entry.take(CONTROL_FILE_LIMIT).read_to_string(&mut text).map_err(unreadable)?;
        let stanza = Stanza::new(&text);
        let field = |name: &str| {
            stanza
                .field(name)
                .map(str::to_string)
                .ok_or_else(|| wrong(&format!("its control file lacks the field {name}")))
        };
        return Ok(Control {
            package: field("Package")?,
            version: field("Version")?,
            architecture: field("Architecture")?,
        });
    }
    Err(wrong("it has no control file"))
}

fn read_exact(file: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    file.read_exact(bytes).map_err(unreadable)
}

fn skip(file: &mut impl Read, size: u64) -> Result<()> {
    let skipped = std::io::copy(&mut file.take(size), &mut std::io::sink()).map_err(unreadable)?;
    // The byte that makes a member's size even may be missing at the very end.
    match size - skipped {
        0 | 1 => Ok(()),
        missing => Err(wrong(&format!("it ends {missing} bytes early"))),
    }
}

fn unreadable(error: std::io::Error) -> Error {
    wrong(&format!("it is damaged: {error}"))
}

fn wrong(what: &str) -> Error {
    Error::refused(format!("the file is no Debian package: {what}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    pub fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, content) in members {
            writeln!(bytes, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, content.len()).unwrap();
            bytes.extend_from_slice(content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    pub fn deb(name: &str, version: &str, files: &[(&str, &str)]) -> Vec<u8> {
        let control = format!("Package: {name}\nVersion: {version}\nArchitecture: all\n");
        let control = zstd::encode_all(tar(&[("md5sums", "x"), ("control", &control)]).as_slice(), 1).unwrap();
        let mut data = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        data.write_all(&tar(files)).unwrap();
        ar(&[
            ("debian-binary", b"2.0\n"),
            ("_extra", b"odd"),
            ("control.tar.zst", &control),
            ("data.tar.xz/", &data.finish().unwrap()),
        ])
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn files_become_a_layer() {
        let (_folder, store) = store();
        let (control, pending) = read(&store, deb("a", "1-2", &[("./usr/bin/a", "hello")]).as_slice()).unwrap();
        assert_eq!(
            (control.package.as_str(), control.version.as_str(), control.architecture.as_str()),
            ("a", "1-2", "all")
        );
        let layer = pending.commit(None).unwrap();
        assert_eq!(layer.index.entries.len(), 1);
        assert_eq!(layer.index.entries[0].path, b"usr/bin/a");
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let (_folder, store) = store();
        let binary: (&str, &[u8]) = ("debian-binary", b"2.0\n");
        let control = tar(&[("./control", "Package: a\nVersion: 1\nArchitecture: all\n")]);
        let data = tar(&[("x", "y")]);
        let cases: [(&str, Vec<u8>); 10] = [
            ("damaged", b"!<a".to_vec()),
            ("does not start", vec![7; 100]),
            ("is empty", ar(&[])),
            ("first member", ar(&[("data.tar", &data)])),
            ("not 2.x", ar(&[("debian-binary", b"3.0\n")])),
            ("before its control", ar(&[binary, ("data.tar", &data)])),
            ("no data.tar", ar(&[binary, ("control.tar", &control)])),
            ("not supported", ar(&[binary, ("control.tar", &control), ("data.tar.lzma", &data)])),
            ("lacks the field Version", ar(&[binary, ("control.tar", &tar(&[("control", "Package: a\n")]))])),
            ("no control file", ar(&[binary, ("control.tar", &data)])),
        ];
        for (expected, bytes) in cases {
            let error = read(&store, bytes.as_slice()).unwrap_err();
            assert!(error.message().contains(expected), "{expected}: {error}");
        }
        let whole = deb("a", "1", &[("a", "b")]);
        for length in 0..whole.len() - 1 {
            // Cut anywhere, it is refused or, if only the tar's padding is gone, read.
            let _ = read(&store, &whole[..length]);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(at in 0usize..4096, byte: u8) {
            let (_folder, store) = store();
            let mut bytes = deb("a", "1", &[("a", "b")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&store, bytes.as_slice());
        }
    }
}
