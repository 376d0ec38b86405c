//! The certificates of authorities as one file.

use crate::error::{Context, Error, Result};
use crate::rootfs::{Content, Inode, Kind, Meta, Tree};

use super::path::show;

/// Where packages and people put certificates, in update-ca-certificates(8)'s order.
const FOLDERS: [&str; 2] = ["usr/share/ca-certificates", "usr/local/share/ca-certificates"];

/// The file that programs read.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// The largest certificate file. Debian's have 3 KiB at most.
const CERTIFICATE_LIMIT: u64 = 1 << 20;

/// The largest bundle. Debian's has 220 KiB.
const BUNDLE_LIMIT: usize = 16 << 20;

/// Writes `/etc/ssl/certs/ca-certificates.crt` as update-ca-certificates(8) does: every `.crt` file below
/// `/usr/share/ca-certificates`, in byte order of their paths, then those below `/usr/local/share/ca-certificates`,
/// each ending with a newline.
///
/// The links by name and by OpenSSL's subject hash (`5ed36f99.0`) beside it are not made: programs that verify with
/// OpenSSL's `certs` folder alone, without the bundle, have to be told of the bundle (`SSL_CERT_FILE`).
///
/// # Errors
/// Exit status 2 if there is no certificate, 3 if there are too large ones.
pub fn bundle(tree: &mut Tree, time: i64) -> Result<()> {
    let mut bundle = Vec::new();
    for folder in FOLDERS {
        let mut files = Vec::new();
        tree.walk_all(|path, id| {
            let below = path.strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
            if below
                && path.ends_with(b".crt")
                && let Kind::File(content) = &tree.inode(id).kind
            {
                files.push((path.to_vec(), content.clone()));
            }
            Ok(())
        })?;
        files.sort_by(|(left, _), (right, _)| left.cmp(right));
        for (path, content) in files {
            bundle.extend(content.read(CERTIFICATE_LIMIT).context(show(&path))?);
            if bundle.last().is_some_and(|last| *last != b'\n') {
                bundle.push(b'\n');
            }
            if bundle.len() > BUNDLE_LIMIT {
                return Err(Error::refused(format!("the certificates have more than {BUNDLE_LIMIT} bytes")));
            }
        }
    }
    if bundle.is_empty() {
        return Err(Error::usage("`ca-certificates: true`, and no package has certificates")
            .hint("add ca-certificates to `packages:`"));
    }
    let origin = tree.inode(tree.root()).origin;
    let inode = Inode { meta: Meta::root(0o644, time), kind: Kind::File(Content::bytes(bundle)), origin };
    tree.insert(BUNDLE.as_bytes(), inode, &Meta::root(0o755, time)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new(0);
        let origin = tree.inode(tree.root()).origin;
        for (path, text) in files {
            let kind = Kind::File(Content::bytes(text.as_bytes()));
            let meta = Meta::root(0o644, 0);
            tree.insert(path.as_bytes(), Inode { meta, kind, origin }, &Meta::root(0o755, 0)).unwrap();
        }
        tree
    }

    #[test]
    fn certificates_become_one_file() {
        let mut tree = tree(&[
            ("usr/share/ca-certificates/mozilla/b.crt", "b\n"),
            ("usr/share/ca-certificates/mozilla/a.crt", "a"),
            ("usr/share/ca-certificates/mozilla.crt", "m\n"),
            ("usr/share/ca-certificates/mozilla/readme", "no"),
            ("usr/share/ca-certificates-java/c.crt", "no"),
            ("usr/local/share/ca-certificates/0.crt", "own\n"),
        ]);
        bundle(&mut tree, 5).unwrap();
        let inode = tree.inode(tree.lookup(BUNDLE.as_bytes()).unwrap());
        assert_eq!((inode.meta.mode, inode.meta.mtime), (0o644, 5));
        let Kind::File(content) = &inode.kind else { panic!() };
        assert_eq!(content.read(100).unwrap(), b"m\na\nb\nown\n");
    }

    #[test]
    fn no_certificate_is_a_mistake() {
        let error = bundle(&mut tree(&[("etc/x.crt", "x")]), 0).unwrap_err();
        assert!(error.hint_text().unwrap().contains("packages"));
        let large = "x".repeat(CERTIFICATE_LIMIT as usize + 1);
        let error = bundle(&mut tree(&[("usr/share/ca-certificates/x.crt", &large)]), 0).unwrap_err();
        assert!(error.message().contains("/usr/share/ca-certificates/x.crt"), "{error}");
    }
}
