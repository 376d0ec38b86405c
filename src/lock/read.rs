//! Reading lock files. They come with a checkout, so they are input like any other: every mistake has its place, and
//! the limits are those of blueprints.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use super::file::{LOCK_VERSION, LockEntry, LockFile, LockedPackage, LockedPlatform, lock_key};
use crate::Arch;
use crate::blueprint::schema::{Key, Shape, TEXTS, Table};
use crate::blueprint::{Decoder, Kind, Meaning, Node, Origin, Source, Spanned, read_document};
use crate::error::{Error, IoContext, Result};
use crate::store::Digest;

/// Longer lock files are refused: a package is a line of 100 bytes, and 100,000 of them are more than Debian has.
const LONGEST: u64 = 16 << 20;

/// The keys of a lock file.
pub static LOCK: Table = Table {
    name: "a lock file",
    keys: &[
        Key::new("version", Shape::Integer(1, LOCK_VERSION as u64), "version of the form").required(),
        Key::new("moby", Shape::Text, "version of the program that wrote it").required(),
        Key::new("images", Shape::List(&Shape::Map(&ENTRY)), "what references stand for").required(),
        Key::new("loaders", Shape::List(&Shape::Map(&ENTRY)), "components that formats need beside those"),
    ],
};

static ENTRY: Table = Table {
    name: "a locked image",
    keys: &[
        Key::new("image", Shape::Text, "the expanded reference").required(),
        Key::new("recipe", Shape::Text, "hash of the recipe that builds it"),
        Key::new("index", Shape::Text, "digest of the index"),
        Key::new("platforms", Shape::Map(&PLATFORMS), "the architectures that it is there for").required(),
    ],
};

static PLATFORMS: Table = Table {
    name: "`platforms`",
    keys: &[
        Key::new("amd64", Shape::Map(&PLATFORM), "64-bit x86"),
        Key::new("arm64", Shape::Map(&PLATFORM), "64-bit ARM"),
    ],
};

static PLATFORM: Table = Table {
    name: "a locked platform",
    keys: &[
        Key::new("manifest", Shape::Text, "digest of the manifest"),
        Key::new("config", Shape::Text, "digest of the configuration"),
        Key::new("packages", TEXTS, "packages that went into it: name, version, digest"),
    ],
};

impl LockFile {
    /// Reads a lock file.
    pub fn read(path: &Path) -> Result<LockFile> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).at("opening the lock", path)?;
        file.take(LONGEST + 1).read_to_end(&mut bytes).at("reading the lock", path)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::usage(format!("{} is no lock file: byte {at} is not UTF-8", path.display()))
        })?;
        LockFile::parse(&path.display().to_string(), text)
    }

    /// Reads a lock file's text; `name` is what messages call it.
    pub fn parse(name: &str, text: String) -> Result<LockFile> {
        let source = Source::new(name, text, Origin::Label);
        let read = read_document(&source, |decoder, node| decoder.lock_file(node)).map(|(lock, _)| lock);
        read.map_err(|error| match error.hint_text() {
            Some(_) => error,
            None => error.hint("moby lock writes it anew, once this one is out of the way"),
        })
    }
}

impl Decoder<'_, '_> {
    fn lock_file(&mut self, node: &Node) -> Option<LockFile> {
        // Before the keys, which another version may have more of.
        if let Some(version) = version(node).filter(|version| *version != i128::from(LOCK_VERSION)) {
            let message = format!("a lock of version {version}, but this program reads version {LOCK_VERSION}");
            let diagnostic = self.place(node).mistake(message).help("build with the version of moby that wrote it");
            self.push(diagnostic);
            return None;
        }
        let fields = self.fields(node, &LOCK)?;
        let tool = fields.get("moby").and_then(|node| self.text(node, "`moby`"));
        let images = fields.get("images").and_then(|node| self.lock_entries(node, "`images`"));
        let loaders = match fields.get("loaders") {
            Some(node) => self.lock_entries(node, "`loaders`"),
            None => Some(BTreeMap::new()),
        };
        Some(LockFile { tool: tool?.value, images: images?, loaders: loaders? })
    }

    fn lock_entries(&mut self, node: &Node, what: &str) -> Option<BTreeMap<String, LockEntry>> {
        let entries = self.list(node, what, |decoder, node| decoder.lock_entry(node))?;
        let mut all = BTreeMap::new();
        let mut places = std::collections::HashMap::new();
        for (name, entry) in entries {
            if let Some(first) = places.insert(name.value.clone(), name.place.clone()) {
                let diagnostic = name.place.mistake(format!("`{}` is locked twice", *name));
                self.push(diagnostic.related(&first, "first here"));
            }
            all.insert(name.value, entry);
        }
        Some(all)
    }

    fn lock_entry(&mut self, node: &Node) -> Option<(Spanned<String>, LockEntry)> {
        let fields = self.fields(node, &ENTRY)?;
        let name = fields.get("image").and_then(|node| {
            let reference = self.reference(node, "`image`")?;
            let written = self.text(node, "`image`")?;
            let name = lock_key(&reference.value, false);
            if name != *written {
                self.mistake(node, format!("a lock has expanded names: `{name}`"));
                return None;
            }
            Some(written)
        });
        let recipe = fields.get("recipe").map(|node| self.recipe_hash(node));
        let index = fields.get("index").map(|node| self.digest(node, "`index`"));
        let platforms = fields.get("platforms").and_then(|node| self.fields(node, &PLATFORMS))?;
        let mut entry = LockEntry { recipe: recipe.flatten(), index: index.flatten(), ..LockEntry::default() };
        for arch in Arch::ALL {
            if let Some(platform) = platforms.get(arch.name()).and_then(|node| self.locked_platform(node)) {
                if entry.recipe.is_none() && platform.manifest.is_none() {
                    self.mistake(node, format!("{arch} of an image without `recipe` needs the key `manifest`"));
                }
                entry.platforms.insert(arch, platform);
            }
        }
        Some((name?, entry))
    }

    fn locked_platform(&mut self, node: &Node) -> Option<LockedPlatform> {
        let fields = self.fields(node, &PLATFORM)?;
        let manifest = fields.get("manifest").map(|node| self.digest(node, "`manifest`"));
        let config = fields.get("config").map(|node| self.digest(node, "`config`"));
        let packages = fields.get("packages").map(|node| {
            self.list(node, "`packages`", |decoder, node| decoder.locked_package(node)).unwrap_or_default()
        });
        let packages: BTreeSet<LockedPackage> = packages.unwrap_or_default().into_iter().collect();
        Some(LockedPlatform { manifest: manifest.flatten(), config: config.flatten(), packages })
    }

    fn locked_package(&mut self, node: &Node) -> Option<LockedPackage> {
        let text = self.text(node, "an entry of `packages`")?;
        let words: Vec<&str> = text.split(' ').collect();
        let [name, version, digest] = words.as_slice() else {
            self.mistake(node, "an entry of `packages` is a name, a version and a digest with one space between");
            return None;
        };
        // The rules of Debian policy 5.6.1 and 5.6.12, as far as they keep names out of paths and command lines.
        let fine = |text: &str, more: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if !fine(name, "+-.") || !fine(version, "+-.:~") {
            self.mistake(node, "not the name and version of a package");
            return None;
        }
        match digest.parse::<Digest>() {
            Ok(digest) => Some(LockedPackage { name: (*name).to_string(), version: (*version).to_string(), digest }),
            Err(error) => {
                self.mistake(node, error.message());
                None
            }
        }
    }

    fn recipe_hash(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "`recipe`")?;
        if (8..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Some(text.value);
        }
        self.mistake(node, "`recipe` is a hash: 8 to 64 lower-case hexadecimal digits");
        None
    }

    fn digest(&mut self, node: &Node, what: &str) -> Option<Digest> {
        let text = self.text(node, what)?;
        match text.parse::<Digest>() {
            Ok(digest) => Some(digest),
            Err(error) => {
                let help = error.hint_text().map(str::to_owned);
                self.push(text.place.mistake(format!("{what}: {}", error.message())).help_if(help));
                None
            }
        }
    }
}

fn version(node: &Node) -> Option<i128> {
    let Kind::Map(pairs) = &node.kind else { return None };
    let (_, value) = pairs.iter().find(|(key, _)| key.scalar().is_some_and(|scalar| scalar.text == "version"))?;
    match value.scalar()?.meaning() {
        Meaning::Integer(version) => Some(version),
        _ => None,
    }
}
