//! The tables beside the modules that depmod(8) makes when a kernel is installed: which module needs which, and which
//! names stand for a module (modules.dep(5)). The text is depmod's, byte for byte, except that the lines of
//! `modules.symbols` are sorted, where depmod's have the order of its hash table. Beside the text is the same as a
//! [`Trie`], which kmod's modprobe reads; its bytes are depmod's too.
//!
//! What a module needs is told from its symbols, as depmod does; `depends=` of `.modinfo` is what the kernel's build
//! found out in the same way and is taken where symbols were stripped off.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::module::{Facts, parse_info};
use super::trie::{Trie, normal_alias};
use crate::error::{Error, Result};

/// Limits of what is taken for a kernel: Debian's largest has 4,300 modules and 14,000 dependencies.
const MODULE_LIMIT: usize = 50_000;
const DEPENDENCY_LIMIT: usize = 4_000_000;

/// Symbols by number: modules name the same few thousand again and again.
#[derive(Debug, Default)]
pub struct Symbols {
    numbers: HashMap<Vec<u8>, u32>,
}

impl Symbols {
    fn number(&mut self, name: Vec<u8>) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(name).or_insert(next)
    }
}

/// A module with what the tables are made from.
#[derive(Debug)]
pub struct Module {
    /// The path below `lib/modules/VERSION`.
    pub path: Vec<u8>,
    /// The name by which it is known: that of the file with `_` for every `-`, without endings.
    pub name: Vec<u8>,
    info: Vec<(Key, Vec<u8>)>,
    exports: Vec<u32>,
    needs: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Alias,
    SoftDependency,
    Depends,
}

impl Module {
    /// Keeps what the tables need.
    pub fn new(path: &[u8], facts: Facts, symbols: &mut Symbols) -> Module {
        let info = facts.info.into_iter().filter_map(|(key, value)| {
            let key = match key.as_slice() {
                b"alias" => Key::Alias,
                b"softdep" => Key::SoftDependency,
                b"depends" => Key::Depends,
                _ => return None,
            };
            // A line break would make a line of its own.
            (!value.contains(&b'\n')).then_some((key, value))
        });
        Module {
            path: path.to_vec(),
            name: name_of(path),
            info: info.collect(),
            exports: facts.exports.into_iter().map(|name| symbols.number(name)).collect(),
            needs: facts.needs.into_iter().map(|name| symbols.number(name)).collect(),
        }
    }

    fn values(&self, wanted: Key) -> impl Iterator<Item = &[u8]> {
        self.info.iter().filter(move |(key, _)| *key == wanted).map(|(_, value)| value.as_slice())
    }
}

/// The name of the module that lies at `path`: `kernel/drivers/md/dm-mod.ko.xz` is `dm_mod`.
pub fn name_of(path: &[u8]) -> Vec<u8> {
    let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let stem = file.split(|byte| *byte == b'.').next().unwrap_or(file);
    stem.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect()
}

/// Whether a file is a module, compressed or not, by its name.
pub fn is_module(path: &[u8]) -> bool {
    [&b".ko"[..], b".ko.gz", b".ko.xz", b".ko.zst"].iter().any(|ending| path.ends_with(ending))
}

/// Modules in the order in which the tables list them.
#[derive(Debug)]
pub struct Modules {
    modules: Vec<Module>,
    symbols: Symbols,
    /// The place of each module in a list in which users stand before what they use.
    rank: Vec<u32>,
    /// What each module needs itself.
    direct: Vec<Vec<u32>>,
}

impl Modules {
    /// Orders modules as the kernel's `modules.order` lists them, those that it does not list behind them by path,
    /// and finds out what needs what.
    ///
    /// # Errors
    /// Exit status 3 if two modules have one name, if some need each other in a circle, or if there are too many.
    pub fn new(mut modules: Vec<Module>, symbols: Symbols, order: &[u8]) -> Result<Modules> {
        if modules.len() > MODULE_LIMIT {
            return Err(Error::refused(format!("{} modules, more than {MODULE_LIMIT}", modules.len())));
        }
        let listed: HashMap<&[u8], usize> =
            order.split(|byte| *byte == b'\n').enumerate().map(|(at, line)| (line, at)).collect();
        modules.sort_by_cached_key(|module| {
            let place = listed.get(uncompressed(&module.path)).copied().unwrap_or(usize::MAX);
            (place, module.path.clone())
        });
        let mut names: HashMap<&[u8], &[u8]> = HashMap::new();
        for module in &modules {
            if let Some(other) = names.insert(&module.name, &module.path) {
                return Err(Error::refused(format!(
                    "two modules have one name: {} and {}",
                    other.escape_ascii(),
                    module.path.escape_ascii()
                )));
            }
        }
        let direct = direct_needs(&modules, &symbols);
        let rank = ranks(&modules, &direct)?;
        Ok(Modules { modules, symbols, rank, direct })
    }

    /// `modules.dep`: for each module all that it needs, whatever that needs in turn behind it.
    pub fn dependencies(&self) -> Result<(Vec<u8>, Trie)> {
        let (mut out, mut trie) = (Vec::new(), Trie::default());
        let mut total = 0;
        let mut seen = vec![usize::MAX; self.modules.len()];
        for (at, module) in self.modules.iter().enumerate() {
            let (mut all, mut pending) = (Vec::new(), vec![at as u32]);
            while let Some(next) = pending.pop() {
                for need in &self.direct[next as usize] {
                    if std::mem::replace(&mut seen[*need as usize], at) != at {
                        all.push(*need);
                        pending.push(*need);
                    }
                }
            }
            total += all.len();
            if total > DEPENDENCY_LIMIT {
                return Err(Error::refused(format!("modules with more than {DEPENDENCY_LIMIT} dependencies")));
            }
            all.sort_by_key(|need| self.rank[*need as usize]);
            let start = out.len();
            out.extend_from_slice(&module.path);
            out.push(b':');
            for need in all {
                out.push(b' ');
                out.extend_from_slice(&self.modules[need as usize].path);
            }
            trie.insert(&module.name, &out[start..], at as u32);
            out.push(b'\n');
        }
        Ok((out, trie))
    }

    /// `modules.alias`: patterns of device names and other names that stand for a module.
    pub fn aliases(&self) -> (Vec<u8>, Trie) {
        let mut out = b"# Aliases extracted from modules themselves.\n".to_vec();
        let mut trie = Trie::default();
        for (at, module) in self.modules.iter().enumerate() {
            for alias in module.values(Key::Alias) {
                line(&mut out, &[b"alias", alias, &module.name]);
                if let Some(alias) = normal_alias(alias) {
                    trie.insert(&alias, &module.name, at as u32);
                }
            }
        }
        (out, trie)
    }

    /// `modules.softdep`: what should be loaded before or after a module, if it is there.
    pub fn soft_dependencies(&self) -> Vec<u8> {
        let mut out = b"# Soft dependencies extracted from modules themselves.\n".to_vec();
        for module in &self.modules {
            for value in module.values(Key::SoftDependency) {
                line(&mut out, &[b"softdep", &module.name, value]);
            }
        }
        out
    }

    /// `modules.symbols`: which module has a symbol.
    pub fn symbols(&self) -> (Vec<u8>, Trie) {
        let mut out = b"# Aliases for symbols, used by symbol_request().\n".to_vec();
        let mut trie = Trie::default();
        for (symbol, at) in self.exported() {
            let (symbol, module) = ([b"symbol:", symbol].concat(), &self.modules[at].name);
            line(&mut out, &[b"alias", &symbol, module]);
            trie.insert(&symbol, module, at as u32);
        }
        (out, trie)
    }

    /// Every exported symbol and the module that has it, by name.
    fn exported(&self) -> BTreeMap<&[u8], usize> {
        let owners = owners(&self.modules, &self.symbols);
        let named = self.symbols.numbers.iter().map(|(name, number)| (name.as_slice(), owners[*number as usize]));
        named.filter_map(|(name, owner)| Some((name, owner? as usize))).collect()
    }

    /// `modules.devname`: device nodes whose first use loads a module.
    pub fn device_nodes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for module in &self.modules {
            let (mut node, mut number) = (None, None);
            for alias in module.values(Key::Alias) {
                if let Some(name) = alias.strip_prefix(b"devname:") {
                    node = Some(name);
                } else if let Some(found) = device_number(alias) {
                    number = Some(found);
                }
                if node.is_some() && number.is_some() {
                    break;
                }
            }
            if let (Some(node), Some(number)) = (node, number) {
                if out.is_empty() {
                    out.extend_from_slice(b"# Device nodes to trigger on-demand module loading.\n");
                }
                line(&mut out, &[&module.name, node, number.as_bytes()]);
            }
        }
        out
    }
}

/// What `modules.builtin` lists, a path a line: the names of what is compiled into the kernel.
pub fn built_in(list: &[u8]) -> Trie {
    let mut trie = Trie::default();
    for path in list.split(|byte| *byte == b'\n').filter(|path| !path.is_empty()) {
        trie.insert(&name_of(path), b"", 0);
    }
    trie
}

/// The aliases of what is compiled in, from `modules.builtin.modinfo`: texts `NAME.KEY=VALUE`, each with a closing zero
/// byte.
pub fn built_in_aliases(info: &[u8]) -> Trie {
    let mut trie = Trie::default();
    for (key, value) in parse_info(info) {
        let at = key.iter().position(|byte| *byte == b'.');
        if let Some((name, b".alias")) = at.map(|at| key.split_at(at))
            && let Some(alias) = normal_alias(&value)
        {
            trie.insert(&alias, &name_of(name), 0);
        }
    }
    trie
}

/// `char-major-10-229` is `c10:229`.
fn device_number(alias: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(alias).ok()?;
    let (kind, rest) = match (text.strip_prefix("char-major-"), text.strip_prefix("block-major-")) {
        (Some(rest), _) => ('c', rest),
        (_, Some(rest)) => ('b', rest),
        _ => return None,
    };
    let (major, minor) = rest.split_once('-')?;
    // depmod reads as many digits as there are: `10-*` is no number.
    let digits = minor.bytes().take_while(u8::is_ascii_digit).count();
    Some(format!("{kind}{}:{}", major.parse::<u32>().ok()?, minor.get(..digits)?.parse::<u32>().ok()?))
}

fn line(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(&words.join(&b' '));
    out.push(b'\n');
}

/// `modules.order` lists modules as they were before compression.
fn uncompressed(path: &[u8]) -> &[u8] {
    [&b".gz"[..], b".xz", b".zst"].iter().find_map(|ending| path.strip_suffix(*ending)).unwrap_or(path)
}

/// The module that exports each symbol; of several the last in order, as in depmod's table.
fn owners(modules: &[Module], symbols: &Symbols) -> Vec<Option<u32>> {
    let mut owners = vec![None; symbols.numbers.len()];
    for (at, module) in modules.iter().enumerate() {
        for symbol in &module.exports {
            owners[*symbol as usize] = Some(at as u32);
        }
    }
    owners
}

/// What each module needs itself, in the order of its symbols.
fn direct_needs(modules: &[Module], symbols: &Symbols) -> Vec<Vec<u32>> {
    let owners = owners(modules, symbols);
    let by_name: HashMap<&[u8], u32> =
        modules.iter().enumerate().map(|(at, module)| (module.name.as_slice(), at as u32)).collect();
    let each = modules.iter().enumerate().map(|(at, module)| {
        let from_symbols = module.needs.iter().filter_map(|symbol| owners[*symbol as usize]);
        let said = module.values(Key::Depends).flat_map(|list| list.split(|byte| *byte == b','));
        let from_info = said.filter_map(|name| by_name.get(name_of(name).as_slice()).copied());
        let mut seen = BTreeSet::from([at as u32]);
        from_symbols.chain(from_info).filter(|need| seen.insert(*need)).collect()
    });
    each.collect()
}

/// depmod's order: of the modules that nothing uses any more, the one that was found last comes next. It decides
/// between modules that could stand in either order.
fn ranks(modules: &[Module], direct: &[Vec<u32>]) -> Result<Vec<u32>> {
    let mut users = vec![0_u32; modules.len()];
    for need in direct.iter().flatten() {
        users[*need as usize] += 1;
    }
    let mut free: Vec<u32> = (0..modules.len() as u32).filter(|at| users[*at as usize] == 0).collect();
    let mut rank = vec![u32::MAX; modules.len()];
    let mut next = 0;
    while let Some(at) = free.pop() {
        rank[at as usize] = next;
        next += 1;
        for need in &direct[at as usize] {
            users[*need as usize] -= 1;
            if users[*need as usize] == 0 {
                free.push(*need);
            }
        }
    }
    let stuck: Vec<String> = (modules.iter().zip(&rank).filter(|(_, rank)| **rank == u32::MAX))
        .map(|(module, _)| module.name.escape_ascii().to_string())
        .collect();
    if !stuck.is_empty() {
        let shown = stuck.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Error::refused(format!("modules need each other in a circle: {} among {shown}", stuck.len())));
    }
    Ok(rank)
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
