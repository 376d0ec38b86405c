//! modules.dep, modules.alias and modules.softdep, as depmod writes them (modules.dep(5)).

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Doing, Result};
use crate::modules::pattern::matches;

/// Where a module lies and what must be loaded before it, both relative to the modules folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Path of the module's file.
    pub path: String,
    /// Paths of what it needs, the nearest first.
    pub dependencies: Vec<String>,
}

/// The module tables of one kernel. Aliases (the biggest table, megabytes) are read when asked for, not kept.
#[derive(Debug, Default)]
pub struct ModuleIndex {
    modules: HashMap<String, Module>,
    soft: HashMap<String, Vec<String>>,
}

impl ModuleIndex {
    /// Reads the tables in `folder`. Tables that are missing are empty.
    pub fn read(folder: &Path) -> Result<ModuleIndex> {
        let mut index = ModuleIndex::default();
        index.add_dependencies(&read_optional(&folder.join("modules.dep"))?);
        index.add_soft_dependencies(&read_optional(&folder.join("modules.softdep"))?);
        Ok(index)
    }

    /// Adds lines `path: path path`. Lines of another form are passed over.
    pub fn add_dependencies(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((path, dependencies)) = line.split_once(':') {
                let dependencies = dependencies.split_ascii_whitespace().map(str::to_owned).collect();
                self.modules.insert(name_of_path(path), Module { path: path.trim().to_owned(), dependencies });
            }
        }
    }

    /// Adds lines `softdep NAME pre: A B post: C`. What comes after (`post:`) is loaded by the kernel on demand.
    pub fn add_soft_dependencies(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let Some(name) = words.next() else { continue };
            let mut before = false;
            for word in words {
                match word {
                    "pre:" => before = true,
                    "post:" => before = false,
                    word if before => self.soft.entry(normal_name(name)).or_default().push(word.to_owned()),
                    _ => {}
                }
            }
        }
    }

    /// The module of this name.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.get(&normal_name(name))
    }

    /// What should be loaded before `name` if it exists: names or aliases.
    pub fn soft_dependencies(&self, name: &str) -> Vec<String> {
        self.soft.get(&normal_name(name)).cloned().unwrap_or_default()
    }

    /// The modules that `aliases` stand for: module names are themselves, everything else goes through
    /// modules.alias. Sorted, so that the order does not depend on the hardware's.
    pub fn modules_of(&self, folder: &Path, aliases: &[String]) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        let mut rest = Vec::new();
        for alias in aliases {
            match self.module(alias) {
                Some(_) => drop(names.insert(normal_name(alias))),
                None => rest.push(alias.as_str()),
            }
        }
        if !rest.is_empty() {
            match_aliases(&read_optional(&folder.join("modules.alias"))?, &rest, &mut names);
        }
        Ok(names)
    }
}

/// Adds the modules of every line `alias PATTERN NAME` whose pattern matches one of `aliases`.
fn match_aliases(table: &str, aliases: &[&str], names: &mut BTreeSet<String>) {
    for line in table.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some("alias"), Some(pattern), Some(name)) = (words.next(), words.next(), words.next()) {
            // Most patterns differ before their first star: that is quick to see.
            let fixed = pattern.find(['*', '?', '[']).and_then(|at| pattern.get(..at)).unwrap_or(pattern);
            let hit = aliases.iter().any(|alias| alias.starts_with(fixed) && matches(pattern, alias));
            if hit {
                names.insert(normal_name(name));
            }
        }
    }
}

fn read_optional(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).at("reading", path),
    }
}

/// The name by which modules are compared: `-` and `_` are the same.
pub fn normal_name(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/drivers/block/virtio_blk.ko.xz` is the module `virtio_blk`.
pub fn name_of_path(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    normal_name(file.split(".ko").next().unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n\
                       kernel/net/core/failover.ko:\nnonsense\n: x\nkernel/drivers/md/dm-mod.ko: a.ko\n";

    #[test]
    fn dependencies() {
        let mut index = ModuleIndex::default();
        index.add_dependencies(DEP);
        let module = index.module("virtio-net").unwrap();
        assert_eq!(module.path, "kernel/drivers/net/virtio_net.ko.xz");
        assert_eq!(module.dependencies, ["kernel/drivers/net/net_failover.ko", "kernel/net/core/failover.ko"]);
        assert_eq!(index.module("dm_mod").unwrap().dependencies, ["a.ko"]);
        assert!(index.module("nonsense").is_none());
    }

    #[test]
    fn soft_dependencies_before() {
        let mut index = ModuleIndex::default();
        index.add_soft_dependencies("# softdeps\nsoftdep libcrc32c pre: crc32c  aes post: late\nsoftdep x\nsoftdep\n");
        assert_eq!(index.soft_dependencies("libcrc32c"), ["crc32c", "aes"]);
        assert!(index.soft_dependencies("x").is_empty());
    }

    #[test]
    fn aliases() {
        let table = "# Aliases\nalias virtio:d00000001v* virtio_net\nalias fs-overlay overlay\nalias broken\n";
        let mut names = BTreeSet::new();
        match_aliases(table, &["virtio:d00000001v00001AF4", "fs-overlay", "broken"], &mut names);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["overlay", "virtio_net"]);
    }

    #[test]
    fn names() {
        assert_eq!(name_of_path("kernel/crypto/crc32c-intel.ko.zst"), "crc32c_intel");
        assert_eq!(name_of_path(""), "");
    }
}
