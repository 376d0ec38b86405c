//! The boot chain of an image, link by link, each with its evidence.
//!
//! A link is good, or open (nothing vouches for what follows it: no signature, or firmware that checks none), or broken.
//! The walk ends at the first broken link. An image without an open link is sealed: whoever trusts the signer's
//! certificate trusts every byte that is booted.
//!
//! | file | links |
//! |---|---|
//! | `disk.rs` | partition table, EFI system partition, boot volume of BIOS |
//! | `boot.rs` | unified kernel image, its signature, its command line |
//! | `root.rs` | hash tree, root file system, init |
//! | `archive.rs` | initrd, tar, kernel |
//! | `cd.rs` | ISO 9660 and what firmware boots from it |
//!
//! Not known here, and said where it is met: loaders other than the unified kernel image (their configuration is not
//! read), roots that are named in other ways than by their hash.

mod archive;
mod boot;
mod cd;
mod disk;
mod root;

pub(super) use cd::efi_volume;
pub(super) const TEXT_LIMIT: u64 = 64 << 10;

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use super::{Image, Kind, container, detect};
use crate::error::{Error, Result};
use crate::formats::authenticode::Identity;

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Good,
    /// In order, but nothing vouches for it or for what follows.
    Open,
    /// Damaged, altered or missing.
    Broken,
}

/// One link of the chain.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// What it is ("partition table", "signature").
    pub link: String,
    /// How it is.
    pub status: Status,
    /// What was looked at and found; of a broken link, what is wrong.
    pub evidence: String,
}

/// What a walk came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Every link holds, up to init.
    Sealed {
        /// Whose certificates vouch for it.
        by: String,
    },
    /// Everything is in order, but the chain is open.
    NotSealed {
        /// Why.
        because: String,
    },
    /// A link is broken.
    Broken {
        /// Which one.
        link: String,
    },
}

/// The links of an image and the verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the image is.
    pub kind: String,
    /// The links, in order; a broken one is the last.
    pub links: Vec<Link>,
    /// What they come to.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Walks the chain of an image. `trusted` are certificates of which one must vouch for every signature; without any,
/// every valid signature will do. Memory is an entry for each name of the root.
pub fn check(image: &Image, trusted: &[Identity]) -> Result<Report> {
    let kind = detect(image)?;
    if matches!(kind, Kind::Unknown | Kind::Empty) {
        let what = if kind == Kind::Empty { "it is empty" } else { "its content is of no kind that is known here" };
        return Err(Error::refused(format!("this is no image: {what}")).hint(
            "disks (raw, qcow2, VHD, VHDX, VMDK, OVA, tar.gz), ISO, FAT, squashfs, erofs, EFI programs, kernels, \
             initrds and tar archives are known",
        ));
    }
    let mut walk = Walk { links: Vec::new(), trusted, signers: Vec::new(), verified: HashSet::new(), because: None };
    let broken = walk.image(kind, image).err().map(|Broken(link)| link);
    let verdict = match (broken, walk.because) {
        (Some(link), _) => Verdict::Broken { link },
        (None, Some(because)) => Verdict::NotSealed { because },
        (None, None) => Verdict::Sealed { by: walk.signers.join("; ") },
    };
    Ok(Report { kind: kind.name().to_owned(), links: walk.links, verdict })
}

/// The name of the link at which a walk ended.
struct Broken(String);

type Step<T = ()> = std::result::Result<T, Broken>;

/// What a look at a link gave, beside what the next links need.
enum Finding {
    Good(String),
    /// Evidence, and why the chain is open.
    Open(String, String),
}

struct Walk<'t> {
    links: Vec<Link>,
    trusted: &'t [Identity],
    /// Subjects of the certificates that vouch for what was seen.
    signers: Vec<String>,
    /// Root hashes whose roots were read.
    verified: HashSet<[u8; 32]>,
    /// Why the chain is open, if it is: the first reason.
    because: Option<String>,
}

impl Walk<'_> {
    /// Looks at a link. Whatever goes wrong meanwhile is what is wrong with it.
    fn link<T>(&mut self, name: &str, look: impl FnOnce(&mut Self) -> Result<(T, Finding)>) -> Step<T> {
        let (status, evidence, result) = match look(self) {
            Ok((value, Finding::Good(evidence))) => (Status::Good, evidence, Ok(value)),
            Ok((value, Finding::Open(evidence, because))) => {
                self.because.get_or_insert(because);
                (Status::Open, evidence, Ok(value))
            }
            Err(error) => {
                let hint = error.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
                (Status::Broken, format!("{}{hint}", error.message()), Err(Broken(name.to_owned())))
            }
        };
        self.links.push(Link { link: name.to_owned(), status, evidence });
        result
    }

    fn image(&mut self, kind: Kind, image: &Image) -> Step {
        match kind {
            kind if kind.is_container() => {
                let disk = self.link("container", |_| {
                    let inner = container::open(kind, image)?;
                    let data = container::read_all(&inner.disk)?;
                    let evidence = container::describe(kind, &inner, data);
                    Ok((inner.disk, Finding::Good(evidence)))
                })?;
                let inner = self.link("disk", |_| {
                    let kind = detect(&disk)?;
                    match kind {
                        Kind::Gpt | Kind::Mbr | Kind::Iso | Kind::Fat => Ok((kind, Finding::Good(kind.name().into()))),
                        other => Err(Error::refused(format!("there is no partition table, it is {}", other.name()))),
                    }
                })?;
                self.image(inner, &disk)
            }
            Kind::Gpt => self.gpt(image),
            Kind::Mbr => self.mbr(image),
            Kind::Iso => self.cd(image),
            Kind::Fat => self.esp(image, "volume", None).map(drop),
            Kind::Uki | Kind::Program => self.program("the program", image, None),
            Kind::Squashfs | Kind::Erofs => {
                self.because.get_or_insert(format!("nothing vouches for a root ({}) by itself", kind.name()));
                self.root(kind, image)
            }
            Kind::Verity => self.link("hash tree", |_| {
                let because = "a hash tree by itself vouches for nothing: the root hash is missing".to_owned();
                Ok(((), Finding::Open(root::superblock(image)?, because)))
            }),
            Kind::Tar => self.tar(image),
            Kind::Initrd => {
                self.because.get_or_insert("nothing vouches for an initrd by itself".to_owned());
                self.initrd("initrd", image, None)
            }
            Kind::Kernel => self.kernel(image),
            other => self.link("image", |_| Err(Error::refused(format!("{} is not checked here", other.name())))),
        }
    }
}

/// A part of an image.
fn window(image: &Image, start: u64, size: u64) -> Result<Image> {
    Ok(Arc::new(crate::formats::disk::Window::new(Arc::clone(image), start, size)?))
}
