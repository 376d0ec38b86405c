//! Images that lie in files: `docker-archive:PATH[:IMAGE]`, `oci:FOLDER[:IMAGE]`, `oci-archive:PATH[:IMAGE]`, in place of a
//! reference. The forms are those of skopeo and podman (containers-transports(5)).
//!
//! A path has no colon. `oci:` needs a `/` in its path (`oci:./images`): `oci:latest` is an image of that name, as it
//! always was.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::decode::Decoder;
use super::node::Node;
use super::reference::Unparseable;
use super::source::{Origin, Place, Spanned};

/// How images lie in a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArchiveForm {
    /// What `docker save` and `podman save` write.
    DockerArchive,
    /// An OCI image layout in a folder.
    Oci,
    /// An OCI image layout in a tar.
    OciArchive,
}

impl ArchiveForm {
    /// All of them.
    pub const ALL: [ArchiveForm; 3] = [ArchiveForm::DockerArchive, ArchiveForm::Oci, ArchiveForm::OciArchive];

    /// What stands before the colon.
    pub fn name(self) -> &'static str {
        match self {
            ArchiveForm::DockerArchive => "docker-archive",
            ArchiveForm::Oci => "oci",
            ArchiveForm::OciArchive => "oci-archive",
        }
    }
}

/// An image in a file or folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveReference {
    /// How it lies there.
    pub form: ArchiveForm,
    /// The file or folder.
    pub path: PathBuf,
    /// Which one, if there are several: the name or tag that it has there.
    pub image: Option<String>,
}

impl ArchiveReference {
    /// Reads `FORM:PATH[:IMAGE]`; nothing for what has none of the forms in front.
    pub fn parse(text: &str) -> Option<Result<ArchiveReference, Unparseable>> {
        let (form, rest) = text.split_once(':')?;
        let form = ArchiveForm::ALL.into_iter().find(|known| known.name() == form)?;
        let (path, image) = match rest.split_once(':') {
            Some((path, image)) => (path, Some(image)),
            None => (rest, None),
        };
        if form == ArchiveForm::Oci && !path.contains('/') {
            return None;
        }
        let start = form.name().len() + 1;
        let wrong = |message: &str, at: Range<usize>| Some(Err(Unparseable { message: message.to_owned(), at }));
        if path.is_empty() {
            return wrong("the path after `:` is empty", 0..start);
        }
        if let Some(at) = text.find(['\0', '\n', '\r']) {
            return wrong("a path has no line breaks and no NUL in it", at..at + 1);
        }
        if image.is_some_and(str::is_empty) {
            return wrong("the name of the image after `:` is empty", text.len() - 1..text.len());
        }
        Some(Ok(ArchiveReference { form, path: path.into(), image: image.map(str::to_owned) }))
    }

    /// The same with a relative path joined to a folder.
    pub fn beside(self, folder: &Path) -> ArchiveReference {
        ArchiveReference { path: folder.join(self.path).components().collect(), ..self }
    }
}

impl fmt::Display for ArchiveReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.form.name(), self.path.display())?;
        match &self.image {
            Some(image) => write!(f, ":{image}"),
            None => Ok(()),
        }
    }
}

impl Decoder<'_, '_> {
    /// The reference by digest of an image that `text` names in a file; nothing if that is no such name. A mistake is
    /// noted, and then the inner value is nothing.
    pub(super) fn archive(&mut self, node: &Node, text: &Spanned<String>) -> Option<Option<String>> {
        let archive = match ArchiveReference::parse(text)? {
            Ok(archive) => archive,
            Err(error) => {
                let place = self.part(node, error.at);
                self.push(place.mistake("this names no image in a file").label(error.message));
                return Some(None);
            }
        };
        let archive = match text.place.source().origin() {
            Origin::Folder(folder) => archive.beside(folder),
            _ if archive.path.is_absolute() => archive,
            Origin::Remote | Origin::Label => {
                let mistake = text.place.mistake("a relative path to an image needs a blueprint that is a file");
                self.push(mistake.help("a blueprint from a URL has no folder: name the whole path, or an image"));
                return Some(None);
            }
        };
        let place: &Place = &text.place;
        Some(self.templates.archive(&archive, place, self.diagnostics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_paths_and_names_are_told_apart() {
        for (text, form, path, image) in [
            ("docker-archive:a.tar", ArchiveForm::DockerArchive, "a.tar", None),
            ("docker-archive:/x/a.tar:redis:7", ArchiveForm::DockerArchive, "/x/a.tar", Some("redis:7")),
            ("oci:./images", ArchiveForm::Oci, "./images", None),
            ("oci:a/b:localhost:5000/x:y", ArchiveForm::Oci, "a/b", Some("localhost:5000/x:y")),
            ("oci-archive:a.tar:latest", ArchiveForm::OciArchive, "a.tar", Some("latest")),
        ] {
            let found = ArchiveReference::parse(text).unwrap().unwrap();
            assert_eq!(
                (found.form, found.path.to_str().unwrap(), found.image.as_deref()),
                (form, path, image),
                "{text}"
            );
            assert_eq!(found.to_string(), text);
        }
        for text in ["redis:7", "oci:latest", "oci", "docker-archive", "ocix:./a", "docker.io/oci:1", ""] {
            assert!(ArchiveReference::parse(text).is_none(), "{text}");
        }
        for (text, at) in [("docker-archive:", "docker-archive:"), ("oci-archive:a.tar:", ":"), ("oci:a/\nb", "\n")] {
            let error = ArchiveReference::parse(text).unwrap().unwrap_err();
            assert_eq!(&text[error.at.clone()], at, "{text}: {error}");
        }
    }
}
