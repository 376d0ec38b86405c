//! What is in an archive, independent of its format.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use moby::formats::cpio;
use moby::store::Digest;

/// One name with all that a format can say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `-`, `d`, `l`, `c`, `b` or `p`.
    pub kind: char,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: i64,
    pub size: u64,
    /// The first digits of the content's digest.
    pub digest: String,
    pub target: Vec<u8>,
    pub device: (u32, u32),
    /// The first name of the same file.
    pub hard_link: Option<Vec<u8>>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    pub location: String,
    pub source: String,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:04o} {}:{} {}", self.kind, self.mode, self.owner.0, self.owner.1, self.mtime)?;
        if self.kind == '-' {
            write!(f, " size {} {}", self.size, self.digest)?;
        }
        if self.kind == 'l' {
            write!(f, " -> {}", self.target.escape_ascii())?;
        }
        if matches!(self.kind, 'b' | 'c') {
            write!(f, " device {}:{}", self.device.0, self.device.1)?;
        }
        if let Some(first) = &self.hard_link {
            write!(f, " = {}", first.escape_ascii())?;
        }
        for (name, value) in &self.xattrs {
            write!(f, " {name}={}", value.escape_ascii())?;
        }
        if !self.source.is_empty() {
            write!(f, " {} {}", self.location, self.source)?;
        }
        Ok(())
    }
}

pub type Items = Vec<(Vec<u8>, Item)>;

/// One line for each name.
pub fn show(items: &Items) -> String {
    items.iter().map(|(path, item)| format!("{} {item}\n", path.escape_ascii())).collect()
}

fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).hex()[..12].to_string()
}

/// The members of a tar archive in their order, read by the tar crate, not by this project's own reader.
pub fn of_tar(bytes: &[u8]) -> Items {
    let mut items = Items::new();
    let mut known: BTreeMap<Vec<u8>, Item> = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut xattrs = BTreeMap::new();
        let (mut location, mut source, mut mtime) = (String::new(), String::new(), None);
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            let text = || record.value().unwrap().to_string();
            match record.key().unwrap() {
                "LINUXKIT.location" => location = text(),
                "LINUXKIT.source" => source = text(),
                "mtime" => mtime = Some(text().parse().unwrap()),
                key => {
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                        xattrs.insert(name.to_string(), record.value_bytes().to_vec());
                    }
                }
            }
        }
        let path = entry.path_bytes().strip_suffix(b"/").map_or(entry.path_bytes().to_vec(), <[u8]>::to_vec);
        let link = entry.link_name_bytes().map(|link| link.to_vec()).unwrap_or_default();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let kind = header.entry_type();
        let mut item = Item {
            kind: match kind {
                tar::EntryType::Regular | tar::EntryType::Link => '-',
                tar::EntryType::Directory => 'd',
                tar::EntryType::Symlink => 'l',
                tar::EntryType::Char => 'c',
                tar::EntryType::Block => 'b',
                tar::EntryType::Fifo => 'p',
                other => panic!("{other:?}"),
            },
            mode: header.mode().unwrap(),
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            mtime: mtime.unwrap_or_else(|| header.mtime().unwrap().cast_signed()),
            size: content.len() as u64,
            digest: digest(&content),
            target: Vec::new(),
            device: (0, 0),
            hard_link: None,
            xattrs,
            location,
            source,
        };
        match kind {
            tar::EntryType::Symlink => item.target = link,
            tar::EntryType::Char | tar::EntryType::Block => {
                item.device = (header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
            }
            tar::EntryType::Link => {
                let first = known.get(&link).unwrap_or_else(|| panic!("{} stands later", link.escape_ascii()));
                item = Item { hard_link: Some(link), ..first.clone() };
            }
            _ => {}
        }
        assert!(known.insert(path.clone(), item.clone()).is_none(), "{} is there twice", path.escape_ascii());
        items.push((path, item));
    }
    items
}

/// The contents of the files of a tar archive.
pub fn contents_of_tar(bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path_bytes().to_vec();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        contents.insert(path, content);
    }
    contents
}

/// The members of a run of cpio archives, as the kernel unpacks them: sorted by name, without the trailers.
pub fn of_cpio(bytes: &[u8]) -> Items {
    let mut reader = cpio::Reader::new(bytes);
    let mut items: BTreeMap<Vec<u8>, Item> = BTreeMap::new();
    let mut archive = 0;
    // Names of one file have the same number in one archive; the last one has the content.
    let mut links: BTreeMap<(u32, u32), Vec<Vec<u8>>> = BTreeMap::new();
    while let Some(member) = reader.next_member().unwrap() {
        if member.name == b"TRAILER!!!" {
            archive += 1;
            continue;
        }
        let header = member.header;
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        let kind = match header.mode & 0o170_000 {
            0o040_000 => 'd',
            0o100_000 => '-',
            0o120_000 => 'l',
            0o020_000 => 'c',
            0o060_000 => 'b',
            0o010_000 => 'p',
            other => panic!("{other:o}"),
        };
        let item = Item {
            kind,
            mode: header.mode & 0o7777,
            owner: (header.uid.into(), header.gid.into()),
            mtime: header.mtime.into(),
            size: if kind == '-' { header.size.into() } else { 0 },
            digest: if kind == '-' { digest(&content) } else { digest(b"") },
            target: if kind == 'l' { content } else { Vec::new() },
            device: (header.rdev_major, header.rdev_minor),
            hard_link: None,
            xattrs: BTreeMap::new(),
            location: String::new(),
            source: String::new(),
        };
        if header.nlink > 1 && kind != 'd' {
            links.entry((archive, header.ino)).or_default().push(member.name.clone());
        }
        assert!(items.insert(member.name.clone(), item).is_none(), "{} twice", member.name.escape_ascii());
    }
    for names in links.into_values() {
        assert!(names.len() > 1, "{} is one of several names", names[0].escape_ascii());
        let whole = items[names.last().unwrap()].clone();
        for name in &names {
            let hard_link = Some(names[0].clone()).filter(|first| first != name);
            items.insert(name.clone(), Item { hard_link, ..whole.clone() });
        }
    }
    items.into_iter().collect()
}

/// What remains of a tar archive's listing in an initrd: no `boot/`, no extended attributes, no origins, times that
/// fit, and the modes that Linux gives to symbolic links.
pub fn as_cpio(items: &Items) -> Items {
    let mut kept: Items =
        items.iter().filter(|(path, _)| path != b"boot" && !path.starts_with(b"boot/")).cloned().collect();
    for (_, item) in &mut kept {
        item.xattrs.clear();
        item.location.clear();
        item.source.clear();
        item.mtime = item.mtime.clamp(0, u32::MAX.into());
        if item.kind == 'l' {
            item.mode = 0o777;
        }
    }
    kept.sort_by(|one, other| one.0.cmp(&other.0));
    kept
}
