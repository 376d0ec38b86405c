//! The names of a root, as far as finding its init needs them.

use std::collections::HashMap;

/// Links in one path, as Linux allows them.
const LINKS: usize = 40;
/// Where an init is looked for in a root on a disk, in this order; stage1 does the same.
const INITS: [&str; 4] = ["sbin/init", "etc/init", "bin/init", "init"];

#[derive(Debug)]
enum Node {
    Folder,
    File { executable: bool },
    Link(Vec<u8>),
    Other,
}

/// Paths and what they are. Memory is an entry for each name.
#[derive(Debug, Default)]
pub struct Files {
    nodes: HashMap<Vec<u8>, Node>,
    /// The machine of the first program that was found (`e_machine` of ELF).
    pub machine: Option<u16>,
}

impl Files {
    /// Adds a name, over what it was before. `mode` has type and permission bits.
    pub fn add(&mut self, path: &[u8], mode: u32, target: Option<&[u8]>) {
        let node = match (mode & 0o170_000, target) {
            (0o120_000, Some(target)) => Node::Link(target.to_vec()),
            (0o040_000, _) => Node::Folder,
            (0o100_000, _) => Node::File { executable: mode & 0o111 != 0 },
            _ => Node::Other,
        };
        let path = path.strip_prefix(b"./").unwrap_or(path);
        self.nodes.insert(path.to_vec(), node);
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Notes for which machine a program is, from its first bytes.
    pub fn note_program(&mut self, head: &[u8]) {
        if self.machine.is_none() && head.starts_with(b"\x7fELF") {
            self.machine = head.get(18..20).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        }
    }

    /// The init of a root on a disk, or the one that the kernel's command line names.
    pub fn init(&self, asked: Option<&str>) -> Result<String, String> {
        let tried: Vec<&str> = match asked {
            Some(path) => vec![path.trim_start_matches('/')],
            None => INITS.to_vec(),
        };
        self.first_program(&tried)
    }

    /// The init of an initramfs, or the one that `rdinit=` names.
    pub fn initramfs_init(&self, asked: Option<&str>) -> Result<String, String> {
        self.first_program(&[asked.unwrap_or("init").trim_start_matches('/')])
    }

    fn first_program(&self, tried: &[&str]) -> Result<String, String> {
        for path in tried {
            if let Some((found, Node::File { executable: true })) = self.resolve(path.as_bytes()) {
                let found = found.escape_ascii().to_string();
                let by = if found == *path { String::new() } else { format!(" (through /{path})") };
                return Ok(format!("/{found}{by}"));
            }
        }
        let names: Vec<String> = tried.iter().map(|path| format!("/{path}")).collect();
        Err(format!("there is no program {}", names.join(" or ")))
    }

    /// What a path leads to, links followed within the root.
    fn resolve(&self, path: &[u8]) -> Option<(Vec<u8>, &Node)> {
        let mut pending: Vec<Vec<u8>> = parts(path);
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                let end = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                at.truncate(end);
                continue;
            }
            let next = if at.is_empty() { part } else { [at.as_slice(), b"/", &part].concat() };
            match self.nodes.get(&next) {
                Some(Node::Link(target)) => {
                    links += 1;
                    if links > LINKS {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    pending.extend(parts(target));
                }
                // Archives may leave folders out.
                Some(_) | None => at = next,
            }
        }
        let node = self.nodes.get(&at)?;
        Some((at, node))
    }
}

/// The parts of a path, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_found_through_links() {
        let mut files = Files::default();
        files.add(b"usr", 0o040_755, None);
        files.add(b"sbin", 0o120_777, Some(b"usr/sbin"));
        files.add(b"usr/sbin/init", 0o120_777, Some(b"../lib/./systemd/systemd"));
        assert!(files.init(None).is_err());
        files.add(b"usr/lib/systemd/systemd", 0o100_755, None);
        assert_eq!(files.init(None).unwrap(), "/usr/lib/systemd/systemd (through /sbin/init)");
        files.add(b"init", 0o100_644, None);
        assert!(files.initramfs_init(None).unwrap_err().contains("/init"));
        files.add(b"init", 0o120_777, Some(b"/init"));
        assert!(files.initramfs_init(None).is_err());
        assert!(files.init(Some("/bin/none")).unwrap_err().contains("/bin/none"));
    }
}
