//! The tag that LinuxKit's users know a package by: the git tree of its folder.
//!
//! `git` is asked, as LinuxKit asks it; git's objects are not read here. Where there is no git, or the folder is in none,
//! or only part of it is, the recipe's hash serves: it is made of every file's content all the same.
//!
//! The hash is the id of the folder's tree at a commit. With sources from elsewhere (`extra-sources`, a program outside
//! of the folder) it is the SHA-1, in hexadecimal digits, of that id and the ids of theirs, one behind the other. What
//! differs from the commit makes it dirty: `-dirty-` and seven digits of the recipe's hash are put behind it. LinuxKit
//! takes those digits from contents alone and does not look at extra sources; here names, modes and extra sources count.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::Component;
use super::recipe::expand_tag;
use crate::blueprint::Reference;
use crate::error::{Error, Result};
use crate::lock::image_name;
use crate::store::registry::ImageName;

/// The commit that is looked at if none is named.
pub const HEAD: &str = "HEAD";

/// Digits of the recipe's hash behind `-dirty-`.
const DIRTY_DIGITS: usize = 7;

/// What the command line says about tags.
#[derive(Clone, Debug, Default)]
pub struct Tagging {
    /// A hash in place of every other.
    pub hash: Option<String>,
    /// The commit; [`HEAD`] if there is none.
    pub commit: Option<String>,
    /// A folder whose tree is taken in place of the component's.
    pub path: Option<PathBuf>,
    /// A tag in place of the recipe's; `%h` and `{{.Hash}}` in it stand for the hash.
    pub tag: Option<String>,
    /// Counts as changed whatever git says.
    pub dirty: bool,
}

/// What a component is called outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentTag {
    /// `ORG/IMAGE:TAG`.
    pub reference: String,
    /// Whether something differs from the commit.
    pub dirty: bool,
    /// The commit in full, if nothing does.
    pub revision: Option<String>,
    /// Why git was not asked, or could not say, where that may surprise.
    pub note: Option<String>,
}

impl ContentTag {
    /// The reference in full.
    pub fn name(&self) -> Result<ImageName> {
        let reference = Reference::parse(&self.reference)
            .map_err(|error| Error::usage(format!("\"{}\" is no reference: {}", self.reference, error.message)))?;
        image_name(&reference)
    }
}

impl Component {
    /// The component's name by the content that git knows.
    pub fn content_tag(&self, tagging: &Tagging) -> Result<ContentTag> {
        let mut note = None;
        let mut found = Found { hash: self.hash.clone(), dirty: false, revision: None };
        if let Some(hash) = &tagging.hash {
            found.hash = hash.clone();
        } else if !self.embedded {
            match self.in_git(tagging)? {
                Answer::Found(in_git) => found = in_git,
                Answer::NotThere => {}
                Answer::Unable(why) => note = Some(why),
            }
        }
        if tagging.dirty && !found.dirty {
            found.dirty = true;
        }
        let mut hash = found.hash;
        if found.dirty {
            hash += &format!("-dirty-{}", self.hash.chars().take(DIRTY_DIGITS).collect::<String>());
        }
        let tag = tagging.tag.as_ref().or(self.recipe.tag.as_ref());
        let tag = tag.map_or_else(|| hash.clone(), |tag| expand_tag(tag, &hash));
        let reference = format!("{}/{}:{tag}", self.recipe.organisation, self.recipe.image.as_str());
        let revision = found.revision.filter(|_| !found.dirty);
        let named = ContentTag { reference, dirty: found.dirty, revision, note };
        named.name()?;
        Ok(named)
    }

    fn in_git(&self, tagging: &Tagging) -> Result<Answer> {
        let commit = tagging.commit.as_deref().unwrap_or(HEAD);
        let own = match &tagging.path {
            Some(path) => path.canonicalize().map_err(|error| Error::io("opening", path, error))?,
            None => self.folder.clone(),
        };
        let mut trees = Vec::new();
        for place in std::iter::once(&own).chain(self.outside()) {
            match tree(place, commit)? {
                Asked::Said(id) => trees.push(id),
                Asked::NotThere if tagging.commit.is_some() => {
                    return Err(Error::usage(format!("{} is not in {commit}", place.display()))
                        .hint("--hash-commit names a commit of the git repository that the folder is in"));
                }
                Asked::NotThere => return Ok(Answer::NotThere),
                Asked::Unable(why) => return Ok(Answer::Unable(why)),
            }
        }
        let hash = match trees.as_slice() {
            [own] => own.clone(),
            all => hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, all.concat().as_bytes()).as_ref()),
        };
        // What is in the folder now says nothing about another commit.
        let mut dirty = false;
        if commit == HEAD {
            for place in std::iter::once(&own).chain(self.outside()) {
                dirty = dirty || is_changed(place)?;
            }
        }
        let revision = match ask(&own, &["rev-parse", "--verify", "--quiet", &format!("{commit}^{{commit}}")])? {
            Asked::Said(id) => Some(id),
            Asked::NotThere | Asked::Unable(_) => None,
        };
        Ok(Answer::Found(Found { hash, dirty, revision }))
    }
}

struct Found {
    hash: String,
    dirty: bool,
    revision: Option<String>,
}

enum Answer {
    Found(Found),
    NotThere,
    Unable(String),
}

enum Asked {
    Said(String),
    NotThere,
    Unable(String),
}

/// The id of a folder's tree, or a file's blob, at a commit.
fn tree(place: &Path, commit: &str) -> Result<Asked> {
    if commit.starts_with('-') || commit.contains(':') {
        return Err(Error::usage(format!("\"{}\" is no commit", commit.escape_debug())));
    }
    let (folder, path) = split(place);
    ask(folder, &["rev-parse", "--verify", "--quiet", &format!("{commit}:./{path}")])
}

/// Whether something in a folder, or a file, differs from the last commit: changed, staged, or not known to git.
fn is_changed(place: &Path) -> Result<bool> {
    let (folder, path) = split(place);
    let path = if path.is_empty() { "." } else { path };
    let asked = ask(folder, &["status", "--porcelain", "--untracked-files=all", "--", path])?;
    Ok(!matches!(asked, Asked::Said(lines) if lines.is_empty()))
}

/// The folder to ask in, and the name there: nothing for the folder itself.
fn split(place: &Path) -> (&Path, &str) {
    match (place.is_dir(), place.parent(), place.file_name().and_then(|name| name.to_str())) {
        (false, Some(folder), Some(name)) => (folder, name),
        _ => (place, ""),
    }
}

fn ask(folder: &Path, arguments: &[&str]) -> Result<Asked> {
    let mut command = Command::new("git");
    // Asking changes nothing and starts nothing else.
    command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true", "-C"]);
    command.arg(folder).args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Asked::NotThere),
        Err(error) => return Err(Error::failed(format!("git cannot be run: {error}"))),
    };
    if output.status.success() {
        return Ok(Asked::Said(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or_default();
    match first.is_empty() || first.contains("not a git repository") {
        true => Ok(Asked::NotThere),
        false => Ok(Asked::Unable(first.trim_start_matches("fatal: ").to_owned())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
