//! What a recipe adds to the tree: its program, files and links.
//!
//! Parents are followed through symbolic links of the tree: `/bin/x` lands in `/usr/bin` where `/bin` is a link.

use std::os::unix::fs::PermissionsExt;

use super::Component;
use super::recipe::{File, FileContent};
use crate::blueprint::Spanned;
use crate::error::{Error, Result};
use crate::rootfs::{Content, Inode, Kind, Meta, Tree};

/// Puts the recipe's files and links into the tree, in their order: files, then links.
pub fn install(tree: &mut Tree, component: &Component, time: i64) -> Result<()> {
    for file in &component.recipe.files {
        let (kind, mode) = content(component, file)?;
        let meta = Meta { mode, uid: file.uid, gid: file.gid, ..Meta::root(0, time) };
        put(tree, component, &file.path, Inode { meta, kind, origin: root_origin(tree) }, time)?;
    }
    for link in &component.recipe.symlinks {
        let kind = Kind::Symlink(link.target.as_bytes().into());
        let inode = Inode { meta: Meta::root(0o777, time), kind, origin: root_origin(tree) };
        put(tree, component, &link.path, inode, time)?;
    }
    Ok(())
}

/// Puts a program into the tree.
pub fn program(
    tree: &mut Tree,
    component: &Component,
    path: &Spanned<String>,
    content: Content,
    time: i64,
) -> Result<()> {
    let inode = Inode { meta: Meta::root(0o755, time), kind: Kind::File(content), origin: root_origin(tree) };
    put(tree, component, path, inode, time)
}

fn root_origin(tree: &Tree) -> crate::rootfs::OriginId {
    tree.inode(tree.root()).origin
}

fn content(component: &Component, file: &File) -> Result<(Kind, u32)> {
    Ok(match &file.content {
        FileContent::Directory => (Kind::folder(), file.mode.unwrap_or(0o755)),
        FileContent::Text(text) => (Kind::File(Content::bytes(text.as_bytes())), file.mode.unwrap_or(0o644)),
        FileContent::Source(source) => {
            let path = component.file(source.as_str());
            let found = path.metadata().map_err(|error| {
                mistake(component, source, format!("`source`: {} cannot be read: {error}", path.display()))
            })?;
            if !found.is_file() {
                return Err(mistake(component, source, format!("`source`: {} is no file", path.display())));
            }
            let executable = found.permissions().mode() & 0o111 != 0;
            let mode = file.mode.unwrap_or(if executable { 0o755 } else { 0o644 });
            (Kind::File(Content::host_file(&path)?), mode)
        }
    })
}

fn put(tree: &mut Tree, component: &Component, path: &Spanned<String>, inode: Inode, time: i64) -> Result<()> {
    let is_folder = matches!(inode.kind, Kind::Folder(_));
    let there = tree.resolve(path.as_bytes()).map(|id| matches!(tree.inode(id).kind, Kind::Folder(_)));
    match there {
        Some(true) if !is_folder => Err(mistake(component, path, format!("there is a folder at {}", path.as_str()))),
        Some(false) if is_folder => Err(mistake(component, path, format!("there is a file at {}", path.as_str()))),
        _ => {
            let made = tree.insert(path.as_bytes(), inode, &Meta::root(0o755, time));
            made.map(drop).map_err(|error| mistake(component, path, error.message().to_owned()))
        }
    }
}

fn mistake(component: &Component, what: &Spanned<String>, message: String) -> Error {
    let name = component.recipe.source.name();
    Error::mistakes(format!("1 mistake in {name}"), vec![what.place.mistake(message)])
}
