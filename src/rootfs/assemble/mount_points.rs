//! Mount points that read-only containers lack.
//!
//! The runtime makes missing mount points in the container's root. It cannot where that is read-only: the container then
//! fails at every start, and nothing before shows it. So the build warns. It stays a warning because the source may be a
//! folder that another program fills with the mount point later.

use serde::Deserialize;

use super::Assembly;
use crate::blueprint::{Image, Place};
use crate::rootfs::{Kind, Tree};

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
struct Mount {
    destination: String,
}

impl Assembly<'_> {
    /// Warns of the mounts in a read-only container's `config.json` whose mount points are not in the image's files,
    /// which lie at `root`.
    pub(super) fn warn_of_mount_points(&self, image: &Image, root: &str, config: &str) {
        let Ok(Config { mounts }) = serde_json::from_str::<Config>(config) else { return };
        let inside = |path: &str| mounts.iter().any(|other| is_below(path, &other.destination));
        let destinations = mounts.iter().map(|mount| mount.destination.as_str());
        let missing: Vec<&str> = destinations.filter(|path| !inside(path) && lacks(&self.tree, root, path)).collect();
        let Some(first) = missing.first() else { return };
        self.ui.warn(format!(
            "{}: the container {} is read-only and its image has no {}: what is mounted there cannot be mounted at boot; \
             put empty files or folders of these names into the image, or leave `readonly` away",
            place(image, first),
            *image.name,
            missing.join(", ")
        ));
    }
}

/// Where the blueprint asks for a mount; the container's name if its label does.
fn place<'i>(image: &'i Image, destination: &str) -> &'i Place {
    let settings = &image.settings;
    let binds = settings.binds.iter().chain(&settings.binds_add).flatten();
    let mut binds = binds.filter(|bind| bind.destination == destination).map(|bind| &bind.place);
    let mut mounts = settings.mounts.iter().flatten().filter(|mount| mount.destination == destination);
    binds.next().or_else(|| mounts.next().map(|mount| &mount.place)).unwrap_or(&image.name.place)
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
}

/// Whether `path` is not below `root`. Symbolic links count as leading somewhere, and `..` too.
fn lacks(tree: &Tree, root: &str, path: &str) -> bool {
    let Some(mut at) = tree.lookup(root.as_bytes()) else { return false };
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if name == ".." || matches!(tree.inode(at).kind, Kind::Symlink(_)) {
            return false;
        }
        match tree.child(at, name.as_bytes()) {
            Some(next) => at = next,
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::{Content, Inode, Meta, Origin};

    #[test]
    fn what_is_not_there_is_lacking() {
        let mut tree = Tree::new(0);
        let origin = tree.add_origin(Origin { source: String::new(), location: String::new() });
        for (path, kind) in [
            ("c/rootfs/etc", Kind::folder()),
            ("c/rootfs/etc/resolv.conf", Kind::File(Content::bytes(Vec::new()))),
            ("c/rootfs/lib", Kind::Symlink(b"usr/lib".as_slice().into())),
        ] {
            let inode = Inode { meta: Meta::root(0o755, 0), kind, origin };
            tree.insert(path.as_bytes(), inode, &Meta::root(0o755, 0)).unwrap();
        }
        for there in ["/", "/etc", "/etc/", "/etc/resolv.conf", "/lib", "/lib/x", "/etc/../x"] {
            assert!(!lacks(&tree, "c/rootfs", there), "{there}");
        }
        for missing in ["/x", "/etc/motd", "/etc/resolv.conf/x"] {
            assert!(lacks(&tree, "c/rootfs", missing), "{missing}");
        }
    }

    #[test]
    fn below_is_by_parts() {
        assert!(is_below("/dev/pts", "/dev") && is_below("/x", "/"));
        assert!(!is_below("/device", "/dev") && !is_below("/dev", "/dev") && !is_below("/dev/", "/dev"));
    }
}
