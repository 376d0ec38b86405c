//! `files`: single files, folders and links that are put into the image last.

use super::decode::{Decoder, shorten};
use super::id::Id;
use super::node::Node;
use super::schema::{IfAbsent, Key, Shape, Table};
use super::source::{Place, Spanned};

/// An entry of `files`.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it goes, relative to the root, without `/` at the start and without `..`.
    pub path: Spanned<String>,
    /// What it is.
    pub content: Content,
    /// Whether a missing source is no error: then nothing is made.
    pub optional: bool,
    /// Permission bits, see [`File::mode`].
    pub mode: Option<Spanned<u32>>,
    /// Owner; root if absent.
    pub uid: Option<Spanned<Id>>,
    /// Group; root if absent.
    pub gid: Option<Spanned<Id>>,
    /// The whole entry.
    pub place: Place,
    /// The path as it was typed.
    pub typed_path: String,
}

/// What an entry of `files` is.
#[derive(Clone, Debug)]
pub enum Content {
    /// A folder.
    Directory,
    /// A symbolic link to a target.
    Symlink(Spanned<String>),
    /// A file with this text.
    Contents(Spanned<String>),
    /// A copy of a file of the host: relative to the folder in which `moby` runs, `~/` is the home folder.
    Source(Spanned<String>),
    /// A file with the blueprint itself.
    Metadata(MetadataFormat),
}

/// The format of the blueprint in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataFormat {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl File {
    /// The mode of a file without one.
    pub const DEFAULT_MODE: u32 = 0o600;
    /// The mode of a folder without one.
    pub const DEFAULT_DIRECTORY_MODE: u32 = 0o700;

    /// Permission bits: what is written, else 0700 for a folder and 0600 for everything else.
    pub fn mode(&self) -> u32 {
        match (&self.mode, &self.content) {
            (Some(mode), _) => mode.value,
            (None, Content::Directory) => Self::DEFAULT_DIRECTORY_MODE,
            (None, _) => Self::DEFAULT_MODE,
        }
    }

    /// The mode of parent folders that must be made for it: its own, with x where a class has any bit.
    pub fn parent_mode(&self) -> u32 {
        let mode = self.mode() & 0o777;
        [0o700, 0o070, 0o007]
            .iter()
            .fold(mode, |mode, class| if mode & class != 0 { mode | (class & 0o111) } else { mode })
    }
}

/// The keys of an entry of `files`.
pub static FILE: Table = Table {
    name: "a file",
    keys: &[
        Key::new("path", Shape::Matching(r"(?!(?:.*/)?\.\.(?:/.*)?$)[^\n\r]+"), "where it goes").required(),
        Key::new("directory", Shape::Bool, "make a folder").or(IfAbsent::Bool(false)),
        Key::new("symlink", Shape::Line, "make a symbolic link to this"),
        Key::new("contents", Shape::Text, "make a file with this text"),
        Key::new("source", Shape::Line, "copy a file of this machine"),
        Key::new("metadata", Shape::Word(&["yaml", "json"]), "make a file with the blueprint itself"),
        Key::new("optional", Shape::Bool, "a missing source is no error").or(IfAbsent::Bool(false)),
        Key::new("mode", Shape::Mode, "permission bits, octal").told("0600, folders 0700"),
        Key::new("uid", Shape::IntegerOrText, "owner: a number or the name of a container").or(IfAbsent::Integer(0)),
        Key::new("gid", Shape::IntegerOrText, "group: a number or the name of a container").or(IfAbsent::Integer(0)),
    ],
};

impl Decoder<'_, '_> {
    /// An entry of `files`.
    pub fn file(&mut self, node: &Node) -> Option<File> {
        let fields = self.fields(node, &FILE)?;
        let path = fields.get("path").and_then(|node| self.file_path(node));
        let directory = fields.get("directory").and_then(|node| self.bool(node, "`directory`"));
        let symlink = fields.get("symlink").and_then(|node| self.clean_text(node, "`symlink`"));
        let symlink = symlink.filter(|target| !target.is_empty());
        let contents = fields.get("contents").and_then(|node| self.any_text(node, "`contents`"));
        let source = fields.get("source").and_then(|node| self.clean_text(node, "`source`"));
        let source = source.filter(|path| !path.is_empty());
        let metadata = fields.get("metadata").and_then(|node| {
            self.word(node, "`metadata`", &[("yaml", MetadataFormat::Yaml), ("json", MetadataFormat::Json)])
        });
        let optional = fields.get("optional").and_then(|node| self.bool(node, "`optional`"));
        let mode = fields.get("mode").and_then(|node| self.mode(node, "`mode`"));
        let uid = fields.get("uid").and_then(|node| self.id(node, "`uid`"));
        let gid = fields.get("gid").and_then(|node| self.id(node, "`gid`"));

        // What it is, is said once. LinuxKit refuses most pairs, and lets some lose silently.
        let is_directory = directory.as_ref().is_some_and(|directory| directory.value);
        let mut said: Vec<&'static str> = Vec::new();
        for (key, there) in [
            ("directory", is_directory),
            ("symlink", symlink.is_some()),
            ("contents", contents.is_some()),
            ("source", source.is_some()),
            ("metadata", metadata.is_some()),
        ] {
            if there {
                said.push(key);
            }
        }
        if let [first, second, ..] = said[..] {
            let (Some(first_key), Some(second_key)) = (fields.key(first), fields.key(second)) else { return None };
            let first_place = self.place(first_key);
            let message = format!("a file has either `{first}` or `{second}`, not both");
            let diagnostic = self.place(second_key).mistake(message).related(&first_place, "and here");
            self.push(diagnostic);
            return None;
        }
        // A key with a mistake of its own must not be called missing too.
        let attempted = ["symlink", "contents", "source", "metadata", "directory"].iter().any(|key| {
            fields
                .get(key)
                .and_then(Node::scalar)
                .is_some_and(|scalar| scalar.text != "false" && !scalar.text.is_empty())
                || fields.get(key).is_some_and(|node| node.scalar().is_none())
        });
        let content = if is_directory {
            Content::Directory
        } else if let Some(target) = symlink {
            Content::Symlink(target)
        } else if let Some(text) = contents {
            Content::Contents(text)
        } else if let Some(source) = source {
            Content::Source(source)
        } else if let Some(format) = metadata {
            Content::Metadata(format.value)
        } else {
            if !attempted {
                let diagnostic = self.place(node).mistake("a file needs something to put into it");
                self.push(diagnostic.help("give it `contents`, `source`, `symlink`, `metadata` or `directory: true`"));
            }
            return None;
        };
        if let (Some(optional), false) = (&optional, matches!(content, Content::Source(_)))
            && optional.value
        {
            let warning = optional.place.mistake("`optional` has no meaning without `source`").warning();
            self.push(warning);
        }
        let (typed_path, path) = path?;
        let optional = optional.is_some_and(|optional| optional.value);
        Some(File { path, content, optional, mode, uid, gid, place: self.place(node), typed_path })
    }

    /// The path as typed, and without what does not matter: one or more `/` at the start, `.`, doubled and last `/`.
    fn file_path(&mut self, node: &Node) -> Option<(String, Spanned<String>)> {
        let text = self.clean_text(node, "`path`")?;
        let mut parts: Vec<&str> = Vec::new();
        let mut at = 0;
        for part in text.split('/') {
            if part == ".." {
                let place = self.part(node, at..at + 2);
                let diagnostic = place.mistake(format!("`path`: `{}` has `..` in it", shorten(&text)));
                self.push(diagnostic.help("paths are relative to the root of the image"));
                return None;
            }
            if part.len() > 255 {
                let place = self.part(node, at..at + part.len());
                self.push(place.mistake("`path`: a name has at most 255 bytes"));
                return None;
            }
            if !part.is_empty() && part != "." {
                parts.push(part);
            }
            at += part.len() + 1;
        }
        if parts.is_empty() || text.len() > 4095 {
            let why = if parts.is_empty() { "is empty" } else { "has more than 4095 bytes" };
            self.push(text.place.mistake(format!("`path` {why}")));
            return None;
        }
        let clean = parts.join("/");
        Some((text.value.clone(), text.map(|_| clean)))
    }
}
