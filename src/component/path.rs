//! Paths that recipes name.

use crate::blueprint::nearest;
use crate::rootfs::Tree;

/// The path of a tree that somebody may have meant by one that is not there: one with the same last name, else one
/// that is written alike.
pub(super) fn meant(tree: &Tree, path: &str) -> Option<String> {
    let wanted = path.rsplit('/').find(|name| !name.is_empty())?;
    let mut known = Vec::new();
    let mut same_name = Vec::new();
    let _ = tree.walk_all(|found, _| {
        if let Ok(found) = std::str::from_utf8(found) {
            if found.rsplit('/').next() == Some(wanted) {
                same_name.push(format!("/{found}"));
            }
            known.push(format!("/{found}"));
        }
        Ok(())
    });
    let near = nearest(path, same_name.iter().map(String::as_str)).or_else(|| same_name.first().map(String::as_str));
    near.or_else(|| nearest(path, known.iter().map(String::as_str))).map(str::to_string)
}

/// A path as messages show it.
pub(super) fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).trim_start_matches('/'))
}
