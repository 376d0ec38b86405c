//! What the format cannot hold is found before any work, and what it loses is listed.

use std::collections::BTreeSet;

use super::format::encode_device;
use super::xattrs::split_name;
use crate::error::{Error, Result};
use crate::rootfs::{Kind, Tree};

/// A symbolic link's target may not be longer: the kernel's limit of a path, without its zero byte.
const TARGET_LIMIT: usize = 4095;
/// Longest name in a folder.
const NAME_LIMIT: usize = 255;
/// The most owners and groups: their number has 16 bits.
const OWNER_LIMIT: usize = u16::MAX as usize;
/// Linux's largest value of an extended attribute (xattr(7)).
const VALUE_LIMIT: usize = 64 << 10;

/// What the walk over a tree found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Owners and groups, sorted.
    pub(super) owners: Vec<u32>,
    /// Path and name of each extended attribute that the format has no place for.
    pub(super) lost_xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Looks at every name and inode.
pub(super) fn check(tree: &Tree) -> Result<Findings> {
    let mut owners = BTreeSet::new();
    let mut lost_xattrs = Vec::new();
    tree.walk_all(|path, id| {
        let inode = tree.inode(id);
        let refuse = |why: String| Err(Error::refused(format!("/{} {why}", path.escape_ascii())));
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        if name.len() > NAME_LIMIT {
            return refuse(format!("has a name of {} bytes; squashfs holds {NAME_LIMIT}", name.len()));
        }
        if name.contains(&0) || name == b"." || name == b".." || (name.is_empty() && !path.is_empty()) {
            return refuse("has a name that no file system can hold".to_string());
        }
        match &inode.kind {
            Kind::Symlink(target) if target.is_empty() || target.len() > TARGET_LIMIT => {
                return refuse(format!(
                    "points to a path of {} bytes; a symbolic link has 1 to {TARGET_LIMIT}",
                    target.len()
                ));
            }
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor }
                if encode_device(*major, *minor).is_none() =>
            {
                return refuse(format!("has the device number {major}:{minor}; the largest is 4095:1048575"));
            }
            _ => {}
        }
        for (attribute, value) in &inode.meta.xattrs {
            if split_name(attribute).is_none() {
                lost_xattrs.push((path.to_vec(), attribute.clone()));
            } else if value.len() > VALUE_LIMIT {
                let attribute = attribute.escape_ascii();
                return refuse(format!("has {} bytes in \"{attribute}\"; Linux holds {VALUE_LIMIT}", value.len()));
            }
        }
        owners.extend([inode.meta.uid, inode.meta.gid]);
        Ok(())
    })?;
    if owners.len() > OWNER_LIMIT {
        return Err(Error::refused(format!(
            "the root has files of {} owners and groups; squashfs holds {OWNER_LIMIT}",
            owners.len()
        )));
    }
    Ok(Findings { owners: owners.into_iter().collect(), lost_xattrs })
}
