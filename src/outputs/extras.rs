//! What a person may ask for beside the blueprint: more sections of kernel images for UEFI, compressed clusters of qcow2.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::formats::qcow2;
use crate::formats::uki::Section;
use crate::rootfs::Content;
use crate::store::Hasher;

/// Bytes of a splash image or a device tree, at most. Real ones have less than one MiB.
const LIMIT: u64 = 64 << 20;
/// The first bytes of a Windows bitmap.
const BITMAP: &[u8] = b"BM";
/// The first bytes of a flattened device tree (Devicetree Specification 0.4, 5.2), before its size, both big-endian.
const DEVICE_TREE: &[u8] = &[0xd0, 0x0d, 0xfe, 0xed];

/// The extras of a build; none by default.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// A picture that systemd's stub shows while it starts the kernel (`.splash`).
    splash: Option<Content>,
    /// The device tree that the kernel gets instead of the firmware's (`.dtb`).
    device_tree: Option<Content>,
    /// How clusters of qcow2 are compressed; not at all by default: they are read more often than they are copied.
    pub qcow2: Option<qcow2::Compression>,
}

impl Extras {
    /// Takes a picture. The stub knows Windows bitmaps only, and shows nothing for anything else.
    ///
    /// # Errors
    /// Exit status 2 if the file is no bitmap.
    pub fn with_splash(self, path: &Path) -> Result<Extras> {
        let (content, head) = read(path)?;
        if !head.starts_with(BITMAP) {
            return Err(Error::usage(format!(
                "{} is no Windows bitmap: it does not begin with \"BM\"",
                path.display()
            ))
            .hint("the stub shows no other pictures; convert it: magick logo.png logo.bmp"));
        }
        Ok(Extras { splash: Some(content), ..self })
    }

    /// Takes a flattened device tree.
    ///
    /// # Errors
    /// Exit status 2 if the file is none, or is cut off.
    pub fn with_device_tree(self, path: &Path) -> Result<Extras> {
        let (content, head) = read(path)?;
        let said = head.get(4..8).and_then(|size| size.try_into().ok()).map(u32::from_be_bytes);
        if !head.starts_with(DEVICE_TREE) || said.is_none_or(|said| u64::from(said) > content.size) {
            return Err(Error::usage(format!(
                "{} is no flattened device tree: d00dfeed and the size of at most {} bytes are expected at its start",
                path.display(),
                content.size
            ))
            .hint("compile it: dtc -O dtb -o board.dtb board.dts"));
        }
        Ok(Extras { device_tree: Some(content), ..self })
    }

    /// The sections, in the order in which stubs measure them.
    pub(super) fn sections(&self) -> impl Iterator<Item = Section> + '_ {
        [(".splash", &self.splash), (".dtb", &self.device_tree)]
            .into_iter()
            .filter_map(|(name, content)| content.clone().map(|content| Section::new(name, Arc::new(content))))
    }

    /// Adds them to the digest of what an output is made from.
    pub(super) fn add_to(&self, hasher: &mut Hasher) {
        let Extras { splash, device_tree, qcow2 } = self;
        for content in [splash, device_tree] {
            hasher.field(content.as_ref().map_or(&[], |content| content.digest.as_bytes()));
        }
        hasher.field(format!("{qcow2:?}").as_bytes());
    }
}

fn read(path: &Path) -> Result<(Content, Vec<u8>)> {
    let content = Content::host_file(path)?;
    if content.size > LIMIT {
        return Err(Error::usage(format!(
            "{} has {} bytes, and at most {LIMIT} are taken",
            path.display(),
            content.size
        ))
        .hint("the firmware loads all of the image at once"));
    }
    let mut head = vec![0; 8];
    let count = content.read_at(0, &mut head)?;
    head.truncate(count);
    Ok((content, head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stub_and_kernel_understand_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let tree = file("board.dtb", &[DEVICE_TREE, &12u32.to_be_bytes(), b"rest"].concat());
        let short = file("short.dtb", &[DEVICE_TREE, &13u32.to_be_bytes(), b"rest"].concat());
        let picture = file("logo.bmp", b"BMxx");
        let text = file("text", b"x");
        let extras = Extras::default().with_splash(&picture).unwrap().with_device_tree(&tree).unwrap();
        let names: Vec<_> = extras.sections().map(|section| section.name).collect();
        assert_eq!(names, [".splash", ".dtb"]);
        for wrong in [&short, &text, &picture] {
            assert!(
                Extras::default().with_device_tree(wrong).unwrap_err().message().contains("no flattened device tree")
            );
        }
        assert!(Extras::default().with_splash(&text).unwrap_err().message().contains("no Windows bitmap"));
    }
}
