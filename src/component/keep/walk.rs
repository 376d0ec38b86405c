//! Following a path through a tree, with the symbolic links that were passed.

use crate::rootfs::{InodeId, Kind, Tree};

/// As in the kernel (path_resolution(7)).
const SYMLINK_LIMIT: u32 = 40;

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The path from the root on without any link, no slash in front.
    pub path: Vec<u8>,
    /// What is there.
    pub id: InodeId,
    /// The links on the way, as paths without any link.
    pub links: Vec<Vec<u8>>,
}

/// Follows a path from the root on. A link at its end is followed with `to_the_end`, else it is what is found.
pub(super) fn walk(tree: &Tree, path: &[u8], to_the_end: bool) -> Option<Found> {
    let mut budget = SYMLINK_LIMIT;
    // Each folder with the length of its own path.
    let mut chain = vec![(tree.root(), 0)];
    let mut found = Vec::new();
    let mut links = Vec::new();
    let mut pending: Vec<&[u8]> = parts(path).rev().collect();
    while let Some(name) = pending.pop() {
        if name == b".." {
            if chain.len() > 1 {
                chain.pop();
            }
            found.truncate(chain.last()?.1);
            continue;
        }
        let (folder, length) = *chain.last()?;
        let next = tree.child(folder, name)?;
        if !found.is_empty() {
            found.push(b'/');
        }
        found.extend_from_slice(name);
        if let Kind::Symlink(target) = &tree.inode(next).kind
            && (to_the_end || !pending.is_empty())
        {
            budget = budget.checked_sub(1)?;
            links.push(found.clone());
            if target.starts_with(b"/") {
                chain.truncate(1);
                found.clear();
            } else {
                found.truncate(length);
            }
            pending.extend(parts(target).rev());
            continue;
        }
        chain.push((next, found.len()));
    }
    Some(Found { path: found, id: chain.last()?.0, links })
}

/// A path's folder and its last name; neither has a slash at the end.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}
