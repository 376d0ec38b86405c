//! `--cache-from` and `--cache-to`: caches that machines share, in BuildKit's words.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::blueprint::Reference;
use crate::error::{Error, Result};
use crate::lock::image_name;
use crate::net::Net;
use crate::store::Store;
use crate::store::shared::{Place, SharedCaches, Source, Target};
use crate::ui::Ui;

/// Caches that other machines have a part in.
#[derive(Args, Clone, Debug)]
pub struct SharedCacheArguments {
    /// Cache to read: a reference, type=registry,ref=REF or type=local,src=DIR, with ,trust=components its component
    /// images are taken without a lock; may be repeated
    #[arg(long, value_name = "CACHE", value_parser = typed::<From>)]
    cache_from: Vec<From>,
    /// Cache to write: a reference, type=registry,ref=REF or type=local,dest=DIR; with ,mode=min no component images,
    /// with ,ignore-error=true failures are warnings; may be repeated
    #[arg(long, value_name = "CACHE", value_parser = typed::<To>)]
    cache_to: Vec<To>,
}

/// Reads a flag's value; the hint goes into the one line that is shown of it.
fn typed<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.hint_text() {
        Some(hint) => format!("{}; {hint}", error.message()),
        None => error.message().to_owned(),
    })
}

#[derive(Clone, Debug)]
struct From(Source);

#[derive(Clone, Debug)]
struct To(Target);

impl SharedCacheArguments {
    /// The caches; none if none is named.
    pub fn open<'a>(&self, store: &'a Store, net: &'a Net, ui: &'a Ui) -> Result<SharedCaches<'a>> {
        let sources = self.cache_from.iter().map(|From(source)| source.clone()).collect();
        let targets = self.cache_to.iter().map(|To(target)| target.clone()).collect();
        SharedCaches::new(store, net, ui, sources, targets)
    }
}

impl FromStr for From {
    type Err = Error;

    fn from_str(text: &str) -> Result<From, Error> {
        let mut words = Words::read(text)?;
        let place = words.place("src")?;
        let trusted = match words.take("trust") {
            None => false,
            Some(what) if what == "components" => true,
            Some(what) => {
                return Err(Error::usage(format!("trust={what} is not known")).hint("trust=components is, or nothing"));
            }
        };
        words.end("ref, src, trust")?;
        Ok(From(Source { place, trusted }))
    }
}

impl FromStr for To {
    type Err = Error;

    fn from_str(text: &str) -> Result<To, Error> {
        let mut words = Words::read(text)?;
        let place = words.place("dest")?;
        let components = match words.take("mode").as_deref() {
            None | Some("max") => true,
            Some("min") => false,
            Some(mode) => return Err(Error::usage(format!("mode={mode} is not known")).hint("modes are min and max")),
        };
        let optional = words.take("ignore-error").map(|text| boolean("ignore-error", &text)).transpose()?;
        // BuildKit's ways to write what is only written one way here.
        for (name, always) in [("image-manifest", true), ("oci-mediatypes", true)] {
            if let Some(text) = words.take(name)
                && boolean(name, &text)? != always
            {
                return Err(Error::usage(format!("{name}={text} cannot be had")).hint(format!("leave {name} away")));
            }
        }
        words.end("ref, dest, mode, ignore-error")?;
        Ok(To(Target { place, components, optional: optional.unwrap_or(false) }))
    }
}

fn boolean(name: &str, text: &str) -> Result<bool> {
    text.parse().map_err(|_| Error::usage(format!("{name}={text}: true or false is expected")))
}

/// The words of a cache: `NAME=VALUE`, with commas between.
struct Words(Vec<(String, String)>);

impl Words {
    fn read(text: &str) -> Result<Words> {
        if !text.contains('=') {
            return Ok(Words(vec![("type".into(), "registry".into()), ("ref".into(), text.to_owned())]));
        }
        let mut words: Vec<(String, String)> = Vec::new();
        for word in text.split(',') {
            let (name, value) = word.split_once('=').ok_or_else(|| {
                Error::usage(format!("\"{}\" is not NAME=VALUE", word.escape_debug()))
                    .hint("a cache is a reference, type=registry,ref=REF or type=local,dest=DIR")
            })?;
            if words.iter().any(|(known, _)| known == name) {
                return Err(Error::usage(format!("{name} is there twice")));
            }
            words.push((name.to_owned(), value.to_owned()));
        }
        Ok(Words(words))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    fn place(&mut self, folder: &str) -> Result<Place> {
        let wanted = |kind: &str, name: &str| {
            Error::usage(format!("type={kind} needs {name}")).hint(format!("type={kind},{name}=..."))
        };
        match self.take("type").as_deref() {
            Some("registry") => {
                let typed = self.take("ref").filter(|text| !text.is_empty());
                repository(&typed.ok_or_else(|| wanted("registry", "ref"))?)
            }
            Some("local") => {
                let path = self.take(folder).filter(|text| !text.is_empty());
                Ok(Place::Folder(PathBuf::from(path.ok_or_else(|| wanted("local", folder))?)))
            }
            Some(kind) => Err(Error::usage(format!("there is no cache of type {}", kind.escape_debug()))
                .hint("types are registry and local")),
            None => Err(Error::usage("the cache has no type").hint("type=registry,ref=REF or type=local,dest=DIR")),
        }
    }

    fn end(self, known: &str) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Error::usage(format!("{} is not known here", name.escape_debug()))
                .hint(format!("what is: type, {known}"))),
        }
    }
}

fn repository(typed: &str) -> Result<Place> {
    let wrong = |why: &str| Error::usage(format!("{}: {why}", typed.escape_debug()));
    let reference = Reference::parse(typed).map_err(|error| wrong(&error.message))?;
    let name = image_name(&reference)?;
    if name.digest.is_some() {
        return Err(wrong("a cache has no digest: what is in it changes"));
    }
    if name.tag.as_ref().is_some_and(|tag| tag.len() > Place::LONGEST_PREFIX) {
        return Err(wrong(&format!("the tag of a cache has at most {} characters", Place::LONGEST_PREFIX)));
    }
    Ok(Place::Registry(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_written_as_for_buildkit() {
        let from = |text: &str| text.parse::<From>().map(|From(source)| source);
        let bare = from("registry.example/team/cache:main").unwrap();
        assert_eq!(bare, from("type=registry,ref=registry.example/team/cache:main").unwrap());
        assert_eq!(bare.place.to_string(), "the cache registry.example/team/cache:main");
        assert!(!bare.trusted && from("ref=x/y,trust=components,type=registry").unwrap().trusted);
        assert_eq!(from("type=local,src=a b").unwrap().place, Place::Folder("a b".into()));
        let to = |text: &str| text.parse::<To>().map(|To(target)| target);
        let plain = to("type=local,dest=/c").unwrap();
        assert!(plain.components && !plain.optional);
        let other = to("type=registry,ref=x/y,mode=min,ignore-error=true,oci-mediatypes=true").unwrap();
        assert!(!other.components && other.optional);
        for wrong in [
            "",
            "type=registry",
            "type=registry,ref=",
            "type=local,src=/c",
            "type=s3,bucket=b",
            "ref=x",
            "type=local,dest=/c,mode=all",
            "type=local,dest=/c,ignore-error=maybe",
            "type=registry,ref=x,ref=y",
            "type=registry,ref=x,image-manifest=false",
            "type=registry,ref=x/y,compression=zstd",
            "type=registry,ref=X/Y",
            "type=registry,x",
        ] {
            assert!(to(wrong).is_err(), "{wrong}");
        }
        let digest = crate::store::Digest::of(b"");
        assert!(from(&format!("x/y@{digest}")).is_err() && from(&format!("x/y:{}", "a".repeat(50))).is_err());
        assert!(from("type=local,src=/c,trust=all").is_err());
    }
}
