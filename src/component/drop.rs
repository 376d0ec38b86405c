//! What of packages is left out.

use super::path::meant;
use crate::error::{Error, Result};
use crate::rootfs::{Kind, Tree};

/// What nothing that runs reads: documentation, translations (without which programs speak English), completions of
/// interactive shells, notes for Debian's own tools, and the databases of package tools that are not run here.
/// `var/cache` as a whole stays: there are servers that work in a folder of it (BIND).
const DOCUMENTATION: [&str; 27] = [
    "etc/bash_completion.d",
    "usr/share/apport",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/fish/vendor_completions.d",
    "usr/share/gnome/help",
    "usr/share/gtk-doc",
    "usr/share/help",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/linda",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/omf",
    "usr/share/zsh/site-functions",
    "usr/share/zsh/vendor-completions",
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "var/cache/man",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/log/apt",
    "var/log/dpkg.log",
];

/// Takes documentation and the like out of a tree, with the folders that are empty by that. Not for recipes that say
/// what to `keep`: what they name may be among it.
pub fn documentation(tree: &mut Tree) {
    for path in DOCUMENTATION {
        if tree.remove(path.as_bytes()) {
            remove_empty_parents(tree, path.as_bytes());
        }
    }
}

/// Takes out what a recipe's `drop:` names, each with everything below it. Folders that are empty after it stay.
///
/// # Errors
/// Exit status 2 if a path is not there.
pub fn paths(tree: &mut Tree, paths: &[impl AsRef<str>]) -> Result<()> {
    for path in paths.iter().map(AsRef::as_ref) {
        let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
        let clean = names.collect::<Vec<_>>().join("/");
        if clean.is_empty() {
            return Err(Error::usage(format!("`drop:` names \"{path}\", which would leave nothing")));
        }
        if tree.resolve_parent(clean.as_bytes()).is_none() {
            let error = Error::usage(format!("`drop:` names {path}, which no package has"));
            return Err(match meant(tree, path) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error,
            });
        }
        tree.remove(clean.as_bytes());
    }
    Ok(())
}

fn remove_empty_parents(tree: &mut Tree, path: &[u8]) {
    let mut path = path;
    while let Some(at) = path.iter().rposition(|byte| *byte == b'/') {
        path = path.get(..at).unwrap_or_default();
        match tree.lookup(path).map(|id| &tree.inode(id).kind) {
            Some(Kind::Folder(names)) if names.is_empty() => tree.remove(path),
            _ => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::{Content, Inode, Meta};

    fn tree(files: &[&str]) -> Tree {
        let mut tree = Tree::new(0);
        let origin = tree.inode(tree.root()).origin;
        let meta = Meta::root(0o755, 0);
        for file in files {
            let kind = if file.ends_with('/') { Kind::folder() } else { Kind::File(Content::bytes(*b"x")) };
            tree.insert(file.trim_end_matches('/').as_bytes(), Inode { meta: meta.clone(), kind, origin }, &meta)
                .unwrap();
        }
        tree
    }

    fn names(tree: &Tree) -> Vec<String> {
        let mut names = Vec::new();
        tree.walk_all(|path, _| {
            names.push(String::from_utf8(path.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        names
    }

    #[test]
    fn documentation_goes_with_the_folders_that_only_held_it() {
        let mut all = tree(&[
            "usr/bin/a",
            "usr/share/doc/a/copyright",
            "usr/share/zsh/vendor-completions/_a",
            "usr/share/a/data",
            "var/lib/dpkg/status",
            "var/cache/bind/",
            "var/cache/apt/x",
        ]);
        documentation(&mut all);
        let expected =
            ["", "usr", "usr/bin", "usr/bin/a", "usr/share", "usr/share/a", "usr/share/a/data", "var", "var/cache"];
        assert_eq!(names(&all), [&expected[..], &["var/cache/bind"]].concat());
    }

    #[test]
    fn what_is_dropped_must_be_there() {
        let mut all = tree(&["usr/bin/redis-server", "usr/bin/redis-cli", "usr/lib/x/y"]);
        paths(&mut all, &["/usr/bin/redis-cli", "usr/lib/"]).unwrap();
        assert_eq!(names(&all), ["", "usr", "usr/bin", "usr/bin/redis-server"]);
        let hint = |path: &str| {
            let error = paths(&mut all.clone(), &[path]).unwrap_err();
            assert_eq!(error.exit(), crate::error::Exit::Usage);
            error.hint_text().unwrap_or("").to_string()
        };
        assert_eq!(hint("/usr/bin/redis-sever"), "did you mean /usr/bin/redis-server?");
        assert_eq!(hint("/usr/sbin/redis-server"), "did you mean /usr/bin/redis-server?");
        assert_eq!(hint("/opt/quite/something-else/altogether"), "");
        assert_eq!(hint("/"), "");
    }
}
