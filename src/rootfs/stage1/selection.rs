//! Which modules go in, with what they depend on.

use std::collections::BTreeMap;
use std::fmt;

use super::drivers::{
    DEVICE_MAPPER, DIGESTS, EROFS, EXT4, FAT_NAMES, HARDWARE, ISO9660, LOOP, Needed, SQUASHFS, VERITY, VFAT,
};
use super::tables::{Module, Tables};
use super::{Container, Purpose, RootKind};
use crate::error::{Error, Result};

/// The modules of one initramfs.
#[derive(Debug)]
pub struct Selection {
    /// In the order of their names.
    pub modules: Vec<Module>,
    names: Vec<String>,
    built_in: Vec<&'static str>,
    absent: Vec<&'static str>,
    unknown: Vec<&'static str>,
}

/// What was taken, for people and for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The kernel's release; empty if the kernel has no modules.
    pub release: String,
    /// Names of the modules that went in.
    pub modules: Vec<String>,
    /// Bytes of their files.
    pub bytes: u64,
    /// What was looked for and is built in.
    pub built_in: Vec<String>,
    /// Kinds of hardware that this kernel has no driver for; without modules.builtin they may be built in.
    pub absent: Vec<String>,
    /// What the root needs and may be built in: the kernel has no table that tells.
    pub unknown: Vec<String>,
}

impl Selection {
    /// Chooses from the tables of the kernel `release`.
    pub fn make(release: &str, tables: &Tables, purpose: &Purpose) -> Result<Selection> {
        let mut selection = Selection {
            modules: Vec::new(),
            names: Vec::new(),
            built_in: Vec::new(),
            absent: Vec::new(),
            unknown: Vec::new(),
        };
        let mut chosen = BTreeMap::new();
        for needed in needed(purpose) {
            if !selection.choose(tables, needed.module, &mut chosen) {
                match tables.built_in {
                    None => selection.unknown.push(needed.module),
                    Some(_) => return Err(lacks(release, &needed)),
                }
            }
        }
        let fat: &[&str] = if purpose.container == Some(Container::Vfat) { FAT_NAMES } else { &[] };
        let digests: &[&str] = if purpose.verity { DIGESTS } else { &[] };
        for (kind, names) in HARDWARE {
            let found = names.iter().filter(|name| selection.choose(tables, name, &mut chosen)).count();
            if found == 0 {
                selection.absent.push(kind);
            }
        }
        // Built in, or of the other architecture: of no interest to anyone.
        for name in fat.iter().chain(digests) {
            take(tables, name, &mut chosen);
        }
        for (name, module) in chosen {
            selection.names.push(name);
            selection.modules.push(module);
        }
        Ok(selection)
    }

    /// Takes a module with its dependencies. Returns whether the kernel has it.
    fn choose(&mut self, tables: &Tables, name: &'static str, chosen: &mut BTreeMap<String, Module>) -> bool {
        if take(tables, name, chosen) {
            return true;
        }
        let built_in = tables.has_built_in(name);
        if built_in {
            self.built_in.push(name);
        }
        built_in
    }

    /// The tables for these modules only, by file name. Lines are sorted: the result does not depend on the order in
    /// which the kernel component lists them.
    pub fn tables(&self, tables: &Tables) -> [(&'static str, String); 3] {
        let has = |name: &str| self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        let path = |name: &String| tables.modules.get(name).map(|module| module.path.as_str());
        let dependencies = self.modules.iter().map(|module| {
            let needs = module.needs.iter().filter_map(path).fold(String::new(), |line, path| format!("{line} {path}"));
            format!("{}:{needs}\n", module.path)
        });
        let lines = |lines: &[(String, String)],
                     write: &dyn Fn(&str, &str) -> String,
                     module: fn(&(String, String)) -> &str| {
            let mut found: Vec<String> =
                lines.iter().filter(|line| has(module(line))).map(|(a, b)| write(a, b)).collect();
            found.sort();
            found.dedup();
            found.concat()
        };
        [
            ("modules.dep", dependencies.collect()),
            ("modules.alias", lines(&tables.aliases, &|a, b| format!("alias {a} {b}\n"), |line| &line.1)),
            ("modules.softdep", lines(&tables.soft, &|a, b| format!("softdep {a} {b}\n"), |line| &line.0)),
        ]
    }

    /// What was done, for people.
    pub fn summary(self, release: String, bytes: u64) -> Summary {
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        Summary {
            release,
            modules: self.names,
            bytes,
            built_in: owned(self.built_in),
            absent: owned(self.absent),
            unknown: owned(self.unknown),
        }
    }
}

impl Summary {
    /// Of a kernel that has no modules: everything must be built in.
    pub fn without_modules() -> Summary {
        Summary::default()
    }
}

/// In a line: how much was taken, and what may be missed. The names are in the initramfs.
impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.release.is_empty() {
            return out.write_str("the kernel has no modules: what finding the root takes must be built in");
        }
        let count = self.modules.len();
        let noun = if count == 1 { "module" } else { "modules" };
        write!(out, "{count} {noun} of {}, {} KiB", self.release, self.bytes.div_ceil(1024))?;
        for (what, names) in [("no drivers for ", &self.absent), ("not known to be in this kernel: ", &self.unknown)] {
            if !names.is_empty() {
                write!(out, "; {what}{}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

/// What the root cannot be had without.
pub fn needed(purpose: &Purpose) -> Vec<Needed> {
    let mut needed = vec![match purpose.root {
        RootKind::Erofs => EROFS,
        RootKind::Squashfs => SQUASHFS,
        RootKind::Iso9660 => ISO9660,
        RootKind::Ext4 => EXT4,
    }];
    if purpose.verity {
        needed.extend([DEVICE_MAPPER, VERITY]);
    }
    match purpose.container {
        Some(Container::Iso9660) => needed.extend([ISO9660, LOOP]),
        Some(Container::Vfat) => needed.extend([VFAT, LOOP]),
        None => {}
    }
    needed
}

/// Takes a module and everything below it. Returns whether it exists as a module.
fn take(tables: &Tables, name: &str, chosen: &mut BTreeMap<String, Module>) -> bool {
    let mut pending = vec![name.to_owned()];
    while let Some(name) = pending.pop() {
        // What is chosen already ends the walk, so circles do no harm.
        if let Some(module) = tables.modules.get(&name).filter(|_| !chosen.contains_key(&name)) {
            pending.extend(module.needs.iter().cloned());
            pending.extend(tables.soft_before(&name));
            chosen.insert(name, module.clone());
        }
    }
    tables.modules.contains_key(name)
}

fn lacks(release: &str, needed: &Needed) -> Error {
    let Needed { module, option, instead } = needed;
    Error::refused(format!("the kernel {release} has no {module}, neither as a module nor built in ({option})"))
        .hint(format!("{instead}, or use a kernel with {option}"))
}
