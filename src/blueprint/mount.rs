//! What is mounted into a container: `binds`, `tmpfs` and `mounts`.

use std::fmt;

use super::decode::{Decoder, shorten};
use super::node::Node;
use super::schema::{Key, Shape, TEXTS, Table};
use super::source::Spanned;

/// `source:destination[:option,option]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// A path of the host, or the name of a volume if it does not begin with `/`.
    pub source: String,
    /// A path in the container.
    pub destination: String,
    /// The options, if there is a third part.
    pub options: Option<Vec<String>>,
}

impl Bind {
    /// The volume that is meant, if it is one.
    pub fn volume(&self) -> Option<&str> {
        (!self.source.starts_with('/')).then_some(self.source.as_str())
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.destination)?;
        match &self.options {
            Some(options) => write!(f, ":{}", options.join(",")),
            None => Ok(()),
        }
    }
}

/// `destination[:option,option]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// A path in the container.
    pub destination: String,
    /// The options, if there is a second part.
    pub options: Option<Vec<String>>,
}

impl fmt::Display for Tmpfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.destination)?;
        match &self.options {
            Some(options) => write!(f, ":{}", options.join(",")),
            None => Ok(()),
        }
    }
}

/// A mount as in the OCI runtime specification. Absent and empty are the same.
#[derive(Clone, Debug, Default)]
pub struct Mount {
    /// A path in the container.
    pub destination: String,
    /// The file system.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Mount options.
    pub options: Vec<String>,
    /// Where `source` was written, for messages about volumes.
    pub source_place: Option<super::Place>,
}

impl Mount {
    /// The volume that a bind mount means, if it is one.
    pub fn volume(&self) -> Option<&str> {
        (self.kind == "bind" && !self.source.is_empty() && !self.source.starts_with('/')).then_some(&*self.source)
    }

    /// The same with what is left out put in, as LinuxKit does: the file system from a source that names one, the source
    /// from the file system, and the usual destination of a file system. Otherwise what is missing.
    pub fn completed(&self) -> Result<Mount, String> {
        let mut full = self.clone();
        if full.kind.is_empty() && matches!(&*full.source, "mqueue" | "devpts" | "proc" | "sysfs" | "cgroup") {
            full.kind.clone_from(&full.source);
        }
        if full.kind.is_empty() && full.destination == "/dev" {
            full.kind = "tmpfs".into();
        }
        if full.kind.is_empty() {
            return Err("a mount needs the key `type`".into());
        }
        if full.source.is_empty() {
            full.source.clone_from(&full.kind);
        }
        if full.destination.is_empty() {
            full.destination = match &*full.kind {
                "proc" => "/proc",
                "devpts" => "/dev/pts",
                "sysfs" => "/sys",
                "cgroup" => "/sys/fs/cgroup",
                "mqueue" => "/dev/mqueue",
                kind => return Err(format!("a mount of type {kind} needs the key `destination`")),
            }
            .into();
        }
        Ok(full)
    }
}

/// The keys of a mount.
pub static MOUNT: Table = Table {
    name: "a mount",
    keys: &[
        Key::new("destination", Shape::Line, "path in the container; left out for proc, sysfs, devpts, cgroup, mqueue"),
        Key::new("type", Shape::Line, "file system, or bind"),
        Key::new("source", Shape::Line, "what is mounted: a device, a path, the name of a volume"),
        Key::new("options", TEXTS, "mount options"),
    ],
};

impl Decoder<'_, '_> {
    /// `binds`.
    pub fn binds(&mut self, node: &Node, what: &str) -> Option<Vec<Spanned<Bind>>> {
        let entry = format!("an entry of {what}");
        self.list(node, what, |decoder, node| {
            let text = decoder.clean_text(node, &entry)?;
            let parts: Vec<&str> = text.split(':').collect();
            let (source, destination, options) = match parts[..] {
                [source, destination] => (source, destination, None),
                [source, destination, options] => (source, destination, Some(options)),
                [_] => {
                    let place = text.place.clone();
                    let diagnostic = place.mistake(format!("{what}: `{}` has no `:`", shorten(&text)));
                    decoder.push(diagnostic.help("write `source:destination` or `source:destination:ro`"));
                    return None;
                }
                _ => {
                    let third: usize = parts.iter().take(3).map(|part| part.len() + 1).sum();
                    let place = decoder.part(node, third - 1..text.len());
                    let diagnostic = place.mistake(format!("{what}: too many `:`"));
                    decoder.push(diagnostic.help("write `source:destination:option,option`"));
                    return None;
                }
            };
            if source.is_empty() || destination.is_empty() {
                let (name, at) = if source.is_empty() { ("source", 0) } else { ("destination", source.len() + 1) };
                let place = decoder.part(node, at..at + 1);
                decoder.push(place.mistake(format!("{what}: the {name} is empty")));
                return None;
            }
            let bind = Bind {
                source: source.to_owned(),
                destination: destination.to_owned(),
                options: options.map(split_options),
            };
            decoder.destination(node, &bind.destination, source.len() + 1, what)?;
            Some(Spanned::new(bind, text.place))
        })
    }

    /// `tmpfs`.
    pub fn tmpfs(&mut self, node: &Node, what: &str) -> Option<Vec<Spanned<Tmpfs>>> {
        let entry = format!("an entry of {what}");
        self.list(node, what, |decoder, node| {
            let text = decoder.clean_text(node, &entry)?;
            let mut parts = text.splitn(2, ':');
            let destination = parts.next().unwrap_or_default().to_owned();
            let options = parts.next();
            if let Some(second) = options.and_then(|options| options.find(':')) {
                let at = destination.len() + 1 + second;
                let place = decoder.part(node, at..text.len());
                let diagnostic = place.mistake(format!("{what}: too many `:`"));
                decoder.push(diagnostic.help("write `/path:option,option`"));
                return None;
            }
            decoder.destination(node, &destination, 0, what)?;
            let options = options.map(split_options);
            Some(Spanned::new(Tmpfs { destination, options }, text.place))
        })
    }

    /// A destination is an absolute path: `at` is where it begins in the text of `node`.
    fn destination(&mut self, node: &Node, destination: &str, at: usize, what: &str) -> Option<()> {
        if destination.starts_with('/') && !destination.split('/').any(|part| part == "..") {
            return Some(());
        }
        let place = self.part(node, at..at + destination.len());
        let why = if destination.starts_with('/') { "has `..` in it" } else { "does not begin with `/`" };
        self.push(place.mistake(format!("{what}: the destination `{}` {why}", shorten(destination))));
        None
    }

    /// `mounts`. With `complete`, what LinuxKit cannot infer is a mistake.
    pub fn mounts(&mut self, node: &Node, what: &str, complete: bool) -> Option<Vec<Spanned<Mount>>> {
        self.list(node, what, |decoder, node| {
            let fields = decoder.fields(node, &MOUNT)?;
            let mut text = |key: &str| match fields.get(key) {
                Some(node) => decoder.clean_text(node, &format!("`{key}` of a mount")).map(|text| text.value),
                None => Some(String::new()),
            };
            let (destination, kind, source) = (text("destination")?, text("type")?, text("source")?);
            let options = match fields.get("options") {
                Some(node) => decoder.texts(node, "`options` of a mount")?.into_iter().map(|text| text.value).collect(),
                None => Vec::new(),
            };
            let source_place = fields.get("source").map(|node| decoder.place(node));
            let mount = Mount { destination, kind, source, options, source_place };
            if complete && let Err(message) = mount.completed() {
                decoder.mistake(node, message);
                return None;
            }
            Some(Spanned::new(mount, decoder.place(node)))
        })
    }
}

fn split_options(options: &str) -> Vec<String> {
    options.split(',').map(str::to_owned).collect()
}
