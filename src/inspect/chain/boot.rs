//! Programs that UEFI firmware starts: unified kernel images and loaders.

use super::disk::Disk;
use super::{Finding, Step, Walk, window};
use crate::error::{Error, Result};
use crate::formats::disk::DiskImage;
use crate::formats::{authenticode, pe};
use crate::inspect::{Image, bytes_text};
use crate::store::Digest;

/// Characters of a command line that are shown.
const SHOWN: usize = 160;

/// What a command line says about the root.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) text: String,
    pub(super) root_hash: Option<Digest>,
    pub(super) root: Option<String>,
    pub(super) tree: Option<String>,
    pub(super) init: Option<String>,
    pub(super) lenient: bool,
}

impl Words {
    /// Reads a command line; the last of several equal words counts.
    pub(super) fn read(text: &str) -> Result<Words> {
        let mut words = Words { text: text.to_owned(), ..Words::default() };
        for word in split(text) {
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            match key {
                "roothash" => {
                    words.root_hash = Some(Digest::from_hex(value).ok_or_else(|| {
                        Error::refused(format!(
                            "the command line's roothash \"{}\" is no SHA-256 hash of 64 digits",
                            value.escape_debug()
                        ))
                    })?);
                }
                "root" => words.root = Some(value.to_owned()),
                "moby.root.hash" => words.tree = Some(value.to_owned()),
                "init" => words.init = Some(value.to_owned()),
                "moby.root.hash.lenient" => words.lenient = true,
                _ => {}
            }
        }
        Ok(words)
    }
}

/// Words, those in quotes with their spaces, as Linux splits them.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            letter if letter.is_whitespace() && !quoted => words.push(String::new()),
            letter => {
                if let Some(word) = words.last_mut() {
                    word.push(letter);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

impl Walk<'_> {
    /// A program of an EFI system partition, or one by itself: `disk` is where a root is looked for.
    pub(super) fn program(&mut self, path: &str, image: &Image, disk: Option<&Disk>) -> Step {
        let name = |link: &str| {
            // One program needs no name on each link.
            if path.to_ascii_uppercase().starts_with("EFI/LINUX/") { format!("{link} {path}") } else { link.to_owned() }
        };
        let checked = {
            let head = pe::read(&mut crate::formats::disk::Cursor::new(image));
            let uki = head.is_ok_and(|headers| pe::section(&headers, ".linux").is_some());
            let link = if uki { name("UKI") } else { "loader".to_owned() };
            let checked = self.link(&link, |_| {
                let checked = pe::check(image)?;
                let evidence = describe(path, image, &checked, uki);
                Ok((checked, Finding::Good(evidence)))
            })?;
            self.link(&name("signature"), |walk| walk.signature(image, uki))?;
            checked
        };
        let section = |name: &str| {
            pe::section(&checked.headers, name)
                .map(|section| window(image, u64::from(section.raw_offset), u64::from(section.size())))
                .transpose()
        };
        if pe::section(&checked.headers, ".linux").is_none() {
            return Ok(());
        }
        let words = self.link(&name("command line"), |_| {
            let Some(text) = section(".cmdline")? else {
                let because = "the UKI has no command line of its own: whoever starts it chooses one".to_owned();
                return Ok((Words::default(), Finding::Open("there is none in the UKI".into(), because)));
            };
            let words = Words::read(&text_of(&text)?)?;
            Ok((words.describe(), words)).map(|(finding, words)| (words, finding))
        })?;
        let initrd = section(".initrd").or_else(|error| self.link("initrd", |_| Err::<(_, Finding), _>(error)))?;
        if let Some(initrd) = &initrd {
            self.initrd(&name("initrd"), initrd, Some(&words.text))?;
        }
        match (words.root_hash, disk) {
            (Some(hash), Some(disk)) => self.verified_root(&name, hash, &words, disk),
            (Some(_), None) => self.link(&name("root"), |_| {
                let because = "the root that the UKI names lies elsewhere, and was not looked at".to_owned();
                Ok(((), Finding::Open("the command line has a roothash; this image has no partitions".into(), because)))
            }),
            (None, _) if initrd.is_none() => {
                self.link(&name("root"), |_| Err(Error::refused("the UKI has neither an initrd nor a roothash")))
            }
            (None, _) => Ok(()),
        }
    }

    /// The signatures of a program.
    fn signature(&mut self, image: &Image, uki: bool) -> Result<((), Finding)> {
        let found = authenticode::read(image)?;
        if found.signatures.is_empty() {
            let what = if uki { "the UKI" } else { "the loader" };
            return Ok(((), Finding::Open("not signed".into(), format!("{what} is not signed"))));
        }
        let mut lines = Vec::new();
        for signature in &found.signatures {
            let signer = &signature.signer;
            lines.push(format!(
                "by {} (certificate SHA-256 {}, valid from {} to {})",
                signer.subject,
                signer.fingerprint().hex(),
                signer.valid.0,
                signer.valid.1
            ));
        }
        let vouched = |signature: &&authenticode::Signature| {
            signature.signer.is_vouched_for(self.trusted, &signature.certificates)
        };
        let by = match self.trusted.is_empty() {
            true => found.signatures.first(),
            false => found.signatures.iter().find(vouched),
        };
        let Some(by) = by else {
            let (own, signers) = (self.trusted.len() as u64, lines.join("; "));
            return Err(Error::refused(format!(
                "signed {signers}, which none of the {} given vouches for",
                crate::inspect::count(own, "certificate")
            )));
        };
        let subject = by.signer.subject.clone();
        if !self.signers.contains(&subject) {
            self.signers.push(subject);
        }
        let given = if self.trusted.is_empty() { "" } else { ", which a given certificate vouches for" };
        let evidence =
            format!("covers all of it (Authenticode SHA-256 {}), {}{given}", found.digest.hex(), lines.join("; "));
        Ok(((), Finding::Good(evidence)))
    }
}

impl Words {
    pub(super) fn describe(&self) -> Finding {
        let shown: String = self.text.chars().take(SHOWN).collect();
        let dots = if shown.len() < self.text.len() { "..." } else { "" };
        let shown = format!("\"{}{dots}\"", shown.escape_debug());
        match (&self.root_hash, &self.root) {
            (Some(hash), _) => Finding::Good(format!("roothash {}; {shown}", hash.hex())),
            (None, Some(root)) => Finding::Open(
                shown,
                format!("the command line names a root without its hash (root={})", root.escape_debug()),
            ),
            (None, None) => Finding::Good(format!("no root on a disk: the initrd is the root; {shown}")),
        }
    }
}

fn text_of(section: &Image) -> Result<String> {
    if section.size() > super::TEXT_LIMIT {
        return Err(Error::refused(format!("the command line has {} bytes", section.size())));
    }
    let mut bytes = vec![0; section.size() as usize];
    section.read_at(&mut bytes, 0)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| Error::refused("the command line is not UTF-8"))
}

fn describe(path: &str, image: &Image, checked: &pe::Checked, uki: bool) -> String {
    let machine = match checked.headers.machine {
        pe::MACHINE_AMD64 => "x86-64",
        pe::MACHINE_ARM64 => "ARM64",
        _ => "another machine",
    };
    let checksum = match checked.checksum {
        Some(sum) => format!("checksum {sum:#010x} right"),
        None => "no checksum".to_owned(),
    };
    let names: Vec<String> =
        checked.headers.sections.iter().map(|section| section.name.escape_ascii().to_string()).collect();
    let sections = if uki { format!(", sections {}", names.join(" ")) } else { String::new() };
    format!("{path}, {machine}, {}{sections}; none overlaps another, {checksum}", bytes_text(image.size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let hash = "ab".repeat(32);
        let words = Words::read(&format!("root=a \"x=b c\" roothash={hash} root=LABEL=z init=/i")).unwrap();
        assert_eq!(words.root_hash, Digest::from_hex(&hash));
        assert_eq!((words.root.as_deref(), words.init.as_deref()), (Some("LABEL=z"), Some("/i")));
        assert!(Words::read("roothash=abc").is_err());
        assert_eq!(split("a  \"b c\" d\n"), ["a", "b c", "d"]);
    }
}
