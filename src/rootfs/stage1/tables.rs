//! The tables of a kernel's modules in kmod's text form (modules.dep(5), depmod(8)).

use std::collections::{BTreeMap, BTreeSet};

use super::below;
use crate::error::{Context, Error, Result};
use crate::rootfs::{InodeId, Kind, Tree};

/// Debian's biggest table (modules.alias of the generic kernel) has 1.6 MB.
const TABLE_LIMIT: u64 = 32 << 20;

/// One module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its file, relative to the modules' folder.
    pub path: String,
    /// Names of the modules that it needs, as modules.dep orders them: the nearest first.
    pub needs: Vec<String>,
}

/// What the tables say. Modules go by their names with `_` for `-`.
#[derive(Debug, Default)]
pub struct Tables {
    /// modules.dep.
    pub modules: BTreeMap<String, Module>,
    /// Lines of modules.alias: pattern and module.
    pub aliases: Vec<(String, String)>,
    /// Lines of modules.softdep: the module, and the rest of the line.
    pub soft: Vec<(String, String)>,
    /// modules.builtin; `None` if the kernel has no such table, so that nothing is known.
    pub built_in: Option<BTreeSet<String>>,
}

impl Tables {
    /// Reads the tables in `folder`.
    pub fn read(tree: &Tree, folder: InodeId) -> Result<Tables> {
        let text = |name: &str| -> Result<Option<String>> {
            match below(tree, folder, name).map(|id| &tree.inode(id).kind) {
                Some(Kind::File(content)) => {
                    let bytes = content.read(TABLE_LIMIT).context(format_args!("reading {name}"))?;
                    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
                }
                _ => Ok(None),
            }
        };
        let mut tables = Tables::default();
        let has_modules = below(tree, folder, "kernel").is_some_and(|id| tree.names(id).next().is_some());
        match text("modules.dep")? {
            Some(dependencies) => tables.add_dependencies(&dependencies)?,
            None if has_modules => {
                return Err(Error::refused("the kernel's modules have no modules.dep")
                    .hint("depmod writes it when a kernel is installed; a kernel component must contain it"));
            }
            None => {}
        }
        tables.add_aliases(&text("modules.alias")?.unwrap_or_default());
        tables.add_soft(&text("modules.softdep")?.unwrap_or_default());
        let built_in = text("modules.builtin")?;
        tables.built_in = built_in.map(|text| text.lines().map(name_of_path).filter(|name| !name.is_empty()).collect());
        Ok(tables)
    }

    /// Adds lines `path: path path`.
    fn add_dependencies(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let paths = [path].into_iter().chain(needs.split_ascii_whitespace());
            if let Some(path) = paths.into_iter().find(|path| !is_inside(path)) {
                return Err(Error::refused(format!("modules.dep names {path:?}, which is not below its own folder")));
            }
            let needs = needs.split_ascii_whitespace().map(name_of_path).collect();
            self.modules.insert(name_of_path(path), Module { path: path.to_owned(), needs });
        }
        Ok(())
    }

    /// Adds lines `alias PATTERN NAME`. A pattern may hold spaces (some DMI aliases do).
    fn add_aliases(&mut self, text: &str) {
        for line in text.lines() {
            let parts = line.strip_prefix("alias ").and_then(|rest| rest.trim_end().rsplit_once(' '));
            if let Some((pattern, name)) = parts {
                self.aliases.push((pattern.to_owned(), normal(name)));
            }
        }
    }

    /// Adds lines `softdep NAME pre: A B post: C`.
    fn add_soft(&mut self, text: &str) {
        for line in text.lines() {
            let parts = line.strip_prefix("softdep ").and_then(|rest| rest.trim().split_once(' '));
            if let Some((name, rest)) = parts {
                self.soft.push((normal(name), rest.to_owned()));
            }
        }
    }

    /// Whether the kernel has it without a module.
    pub fn has_built_in(&self, name: &str) -> bool {
        self.built_in.as_ref().is_some_and(|names| names.contains(name))
    }

    /// The modules that should be loaded before `name`, if they exist.
    pub fn soft_before(&self, name: &str) -> BTreeSet<String> {
        let mut before = BTreeSet::new();
        for (_, rest) in self.soft.iter().filter(|(module, _)| module == name) {
            let mut wanted = false;
            for word in rest.split_ascii_whitespace() {
                match word {
                    "pre:" => wanted = true,
                    "post:" => wanted = false,
                    word if wanted => before.extend(self.answering(word)),
                    _ => {}
                }
            }
        }
        before
    }

    /// The modules of this name or plain alias (`crc32c` is an alias; patterns are for hardware).
    fn answering(&self, name: &str) -> Vec<String> {
        if self.modules.contains_key(&normal(name)) {
            return vec![normal(name)];
        }
        let same = |pattern: &str| pattern == name || normal(pattern) == normal(name);
        self.aliases.iter().filter(|(pattern, _)| same(pattern)).map(|(_, module)| module.clone()).collect()
    }
}

fn is_inside(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The name by which modules are compared: `-` and `_` are the same.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/drivers/block/virtio_blk.ko.xz` is the module `virtio_blk`.
fn name_of_path(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    normal(file.split(".ko").next().unwrap_or(file))
}
