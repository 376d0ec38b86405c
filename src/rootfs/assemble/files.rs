//! The files section: single files, folders and links, put in last.

use std::path::{Path, PathBuf};

use super::Assembly;
use crate::blueprint::{self, File};
use crate::error::{Context, Error, Result};
use crate::rootfs::{Content, Inode, Kind, Meta};

impl Assembly<'_> {
    /// Parents that exist keep their owner and mode; missing ones are made with the file's owner and the mode that
    /// its own implies.
    pub(super) fn files(&mut self) -> Result<()> {
        let locked = self.locked;
        for (number, file) in locked.blueprint.files.iter().enumerate() {
            let Some(kind) = self.kind(file)? else { continue };
            let uid = self.ids.resolve_or_root(file.uid.as_ref())?;
            let gid = self.ids.resolve_or_root(file.gid.as_ref())?;
            let origin = self.origin("linuxkit.files", format!("files[{number}]"));
            let meta = |mode| Meta { uid, gid, ..Meta::root(mode, self.time) };
            let (meta, missing) = (meta(file.mode()), meta(file.parent_mode()));
            let there = self.tree.lookup(file.path.as_bytes()).map(|id| &self.tree.inode(id).kind);
            if matches!(there, Some(Kind::Folder(_))) && !matches!(kind, Kind::Folder(_)) {
                return Err(Error::usage(format!("{}: /{} is a folder of the image already", file.place, *file.path))
                    .hint("choose another path, or remove the folder from the image that brings it"));
            }
            self.tree
                .insert(file.path.as_bytes(), Inode { meta, kind, origin }, &missing)
                .context(format_args!("{}", file.place))?;
        }
        Ok(())
    }

    /// What an entry is; nothing for an optional one whose source is not there.
    fn kind(&self, file: &File) -> Result<Option<Kind>> {
        Ok(Some(match &file.content {
            blueprint::Content::Directory => Kind::folder(),
            blueprint::Content::Symlink(target) => Kind::Symlink(target.as_bytes().into()),
            blueprint::Content::Contents(text) => Kind::File(Content::bytes(text.as_bytes())),
            blueprint::Content::Metadata(format) => {
                Kind::File(Content::bytes(self.locked.blueprint.metadata(*format).into_bytes()))
            }
            blueprint::Content::Source(source) => {
                let path = host_path(source);
                if !path.exists() && file.optional {
                    return Ok(None);
                }
                if path.is_dir() {
                    return Err(Error::usage(format!("{}: the source {} is a folder", source.place, path.display()))
                        .hint("an entry of files copies one file; list each of them, or put them into an image"));
                }
                Kind::File(Content::host_file(&path).map_err(|error| {
                    let missing = Error::usage(format!("{}: {}", source.place, error.message()));
                    missing.hint(
                        "sources are relative to the folder in which moby runs; optional: true lets one be missing",
                    )
                })?)
            }
        }))
    }
}

/// A source of `files` as the host names it: `~/` is the home folder.
pub fn host_path(source: &str) -> PathBuf {
    match (source.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(source),
    }
}
