//! `@pkg:DIR`: the image that the component in a folder builds, in place of a reference. And images in files, which are
//! found by whoever reads the blueprint too.
//!
//! Any value that begins with `@` is a template, as in LinuxKit, which turns every one but `@pkg:` into nothing; here
//! the others are mistakes. A block scalar (`|`) is taken as it is, so that a file's contents may begin with `@`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::archive::ArchiveReference;
use super::diagnostic::Diagnostics;
use super::source::{Origin, Place};
use crate::error::Exit;
use crate::{Error, Result};

/// Gives the reference of the component in a folder.
pub type Resolver<'a> = dyn Fn(&Path, &Place) -> Result<String> + 'a;

/// Gives the reference, with its digest, of an image in a file or folder.
pub type Archives<'a> = dyn Fn(&ArchiveReference) -> Result<String> + 'a;

/// What resolves templates, and what it resolved already.
pub struct Templates<'a> {
    resolver: Option<&'a Resolver<'a>>,
    archives: Option<&'a Archives<'a>>,
    known_archives: BTreeMap<ArchiveReference, Option<String>>,
    known: HashMap<PathBuf, Option<String>>,
    /// The first failure that is no mistake of the blueprint (a network, a full disk).
    failure: Option<Error>,
}

impl std::fmt::Debug for Templates<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates").field("known", &self.known).finish_non_exhaustive()
    }
}

impl<'a> Templates<'a> {
    /// With a resolver; without one every template is a mistake.
    pub fn new(resolver: Option<&'a Resolver<'a>>) -> Templates<'a> {
        let (known, known_archives) = (HashMap::new(), BTreeMap::new());
        Templates { resolver, archives: None, known_archives, known, failure: None }
    }

    /// The same, where images in files are found too.
    pub fn with_archives(self, archives: Option<&'a Archives<'a>>) -> Templates<'a> {
        Templates { archives, ..self }
    }

    /// The failure that stands above the mistakes, if there was one.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// What `text`, which begins with `@`, stands for.
    pub fn expand(&mut self, text: &str, place: &Place, diagnostics: &mut Diagnostics) -> Option<String> {
        let Some(folder) = text.strip_prefix("@pkg:") else {
            let name = text.split([':', ' ', '\n']).next().unwrap_or(text);
            let diagnostic = place
                .mistake(format!("`{}` is not a template: only `@pkg:DIR` is", super::decode::shorten(name)))
                .help(
                    "LinuxKit puts nothing in its place; a block (`|`) is taken as it is, if it shall begin with `@`",
                );
            diagnostics.push(diagnostic);
            return None;
        };
        if folder.is_empty() || folder.contains(['\0', '\n']) {
            diagnostics.push(place.mistake("`@pkg:` needs a folder").help("write `@pkg:../components/init`"));
            return None;
        }
        let folder = Path::new(folder);
        let folder = match place.source().origin() {
            _ if folder.is_absolute() => folder.to_owned(),
            Origin::Folder(base) => base.join(folder),
            Origin::Remote => {
                let message = "`@pkg:` with a relative folder needs a blueprint that is a file";
                diagnostics.push(place.mistake(message).help("a blueprint from a URL has no folder: name the image"));
                return None;
            }
            Origin::Label => {
                diagnostics.push(place.mistake("`@pkg:` has no meaning here"));
                return None;
            }
        };
        if let Some(known) = self.known.get(&folder) {
            return known.clone();
        }
        let found = self.resolve(&folder, place, diagnostics);
        self.known.insert(folder, found.clone());
        found
    }

    fn resolve(&mut self, folder: &Path, place: &Place, diagnostics: &mut Diagnostics) -> Option<String> {
        let Some(resolver) = self.resolver else {
            diagnostics.push(place.mistake("`@pkg:` cannot be resolved here"));
            return None;
        };
        match resolver(folder, place) {
            Ok(reference) => Some(reference),
            Err(error) => self.refuse(error, place, diagnostics),
        }
    }

    /// The reference by digest of an image in a file.
    pub fn archive(
        &mut self,
        archive: &ArchiveReference,
        place: &Place,
        diagnostics: &mut Diagnostics,
    ) -> Option<String> {
        if let Some(known) = self.known_archives.get(archive) {
            return known.clone();
        }
        let found = match self.archives {
            None => {
                diagnostics.push(place.mistake("images in files cannot be read here"));
                None
            }
            Some(archives) => match archives(archive) {
                Ok(reference) => Some(reference),
                Err(error) => self.refuse(error, place, diagnostics),
            },
        };
        self.known_archives.insert(archive.clone(), found.clone());
        found
    }

    /// A mistake of the blueprint is noted with the others; another failure stands above them.
    fn refuse(&mut self, error: Error, place: &Place, diagnostics: &mut Diagnostics) -> Option<String> {
        if error.exit() == Exit::Usage || error.exit() == Exit::Failed {
            let help = error.hint_text().map(str::to_owned);
            diagnostics.push(place.mistake(error.message()).help_if(help));
            for mistake in error.diagnostics() {
                diagnostics.push(mistake.clone());
            }
        } else {
            let failure = error.context(place);
            self.failure.get_or_insert(failure);
        }
        None
    }
}
