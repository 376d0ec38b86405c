//! Processor microcode: Debian's packages in, one archive out that the kernel reads before anything else.
//!
//! The kernel looks for `kernel/x86/microcode/GenuineIntel.bin` and `AuthenticAMD.bin` in an uncompressed cpio archive
//! at the very start of the initial file system (Linux, Documentation/arch/x86/microcode.rst). Each is a run of the
//! vendor's blobs, one behind the other; the processor takes the one that is meant for it. A blueprint names the image
//! that this makes with `ucode`, and its file is called what `ucode` expects, [`Ucode::FILE`].
//!
//! Limit: x86 only. ARM64 processors get theirs from the firmware.

use std::io::Write;

use crate::blueprint::Ucode;
use crate::error::{Error, IoContext, Result};
use crate::formats::cpio::{FileType, Header, Writer};
use crate::rootfs::{Content, Inode, Kind, Meta, Tree, write_error};
use crate::store::{Checked, Hasher, Store};

/// Derived data of this kind holds archives of microcode; the number goes up when their bytes would change.
const KIND: &str = "microcode-1";

/// Where the blobs lie in the root, which of them, and the name that the kernel wants.
const VENDORS: [(&str, &str, &str); 2] =
    [("lib/firmware/amd-ucode", ".bin", "AuthenticAMD.bin"), ("lib/firmware/intel-ucode", "", "GenuineIntel.bin")];
/// In which folder the kernel looks.
const FOLDER: &str = "kernel/x86/microcode";

/// Contents start at multiples of this: the kernel reads Intel's blobs in place, and they are made for it. Linux before
/// 6.1 copies them and does not care.
const ALIGNMENT: u64 = 16;

/// All of it together has 15 MB; more than this is no microcode.
const LIMIT: u64 = 256 << 20;

/// The microcode image of a tree that the packages (`intel-microcode`, `amd64-microcode`) were merged into. The result
/// is the image's only layer. `time` is given to what is made here.
///
/// # Errors
/// Exit status 3 if the tree has no microcode.
pub fn image(tree: &Tree, store: &Store, time: i64) -> Result<Tree> {
    let mut parts = Vec::new();
    for (folder, ending, name) in VENDORS {
        let blobs = blobs(tree, folder, ending)?;
        if !blobs.is_empty() {
            parts.push((name, blobs));
        }
    }
    if parts.is_empty() {
        return Err(Error::refused("the packages have no microcode in lib/firmware/{intel,amd}-ucode")
            .hint("microcode is in intel-microcode and amd64-microcode, in the archive's area non-free-firmware"));
    }
    let total: u64 = parts.iter().flat_map(|(_, blobs)| blobs).map(|blob| blob.size).sum();
    if total > LIMIT {
        return Err(Error::refused(format!("{total} bytes of microcode, more than {LIMIT}")));
    }
    let mut hasher = Hasher::new();
    for (name, blobs) in &parts {
        hasher.field(name.as_bytes());
        blobs.iter().for_each(|blob| hasher.field(blob.digest.as_bytes()));
    }
    let key = hasher.finish();
    let Checked { path, size, digest } = match store.checked(KIND, &key, |_| ())? {
        Some(there) => there,
        None => {
            let file = store.temporary_file()?;
            let mut out = std::io::BufWriter::new(file.as_file());
            write(&parts, &mut out)?;
            out.flush().at("writing", file.path())?;
            drop(out);
            store.put_checked(KIND, &key, file)?
        }
    };
    let mut image = Tree::new(time);
    let origin = image.inode(image.root()).origin;
    let content = Content::part(path.as_path().into(), 0, size, digest);
    let inode = Inode { meta: Meta::root(0o644, time), kind: Kind::File(content), origin };
    image.insert(Ucode::FILE.as_bytes(), inode, &Meta::root(0o755, time))?;
    Ok(image)
}

/// The files of a folder by name, each once: what two names lead to is the same blob.
fn blobs(tree: &Tree, folder: &str, ending: &str) -> Result<Vec<Content>> {
    let folders = [folder.to_string(), format!("usr/{folder}")];
    let Some(found) = folders.iter().find_map(|path| tree.resolve(path.as_bytes())) else { return Ok(Vec::new()) };
    let mut seen = std::collections::BTreeSet::new();
    let mut blobs = Vec::new();
    for (name, id) in tree.names(found) {
        if name.ends_with(ending.as_bytes())
            && let Kind::File(content) = &tree.inode(id).kind
            && seen.insert(content.digest)
        {
            blobs.push(content.clone());
        }
    }
    Ok(blobs)
}

/// An uncompressed newc archive of one file for each vendor.
fn write(parts: &[(&str, Vec<Content>)], out: &mut impl Write) -> Result<()> {
    let mut position = 0;
    let mut archive = Writer::new(out);
    let mut ino = 0;
    let mut header = |kind: FileType, mode: u32, nlink: u32, size: u64| -> Result<Header> {
        ino += 1;
        let size = u32::try_from(size).map_err(|_| Error::refused("more than 4 GiB of microcode"))?;
        Ok(Header { ino, mode: kind.bits() | mode, nlink, size, ..Header::default() })
    };
    let ends = FOLDER.match_indices('/').map(|(at, _)| at).chain([FOLDER.len()]);
    for end in ends {
        let folder = &FOLDER.as_bytes()[..end];
        archive.member(folder, header(FileType::Folder, 0o755, 2, 0)?, b"").map_err(write_error)?;
        position = content_start(position, folder.len());
    }
    for (name, blobs) in parts {
        // A name may end in any number of zeros (the kernel's reader takes its length from the header): they move the
        // content to where it shall start.
        let mut path = format!("{FOLDER}/{name}").into_bytes();
        while !content_start(position, path.len()).is_multiple_of(ALIGNMENT) {
            path.push(0);
        }
        let size = blobs.iter().map(|blob| blob.size).sum();
        position = content_start(position, path.len()) + size;
        position = position.next_multiple_of(4);
        let member = archive.start(&path, header(FileType::Regular, 0o644, 1, size)?).map_err(write_error)?;
        for blob in blobs {
            blob.copy_to(member)?;
        }
        archive.pad().map_err(write_error)?;
    }
    archive.finish().map(drop).map_err(write_error)
}

/// Where the content of a member starts that itself starts at `position` and has a name of this length.
fn content_start(position: u64, name: usize) -> u64 {
    const HEADER: u64 = 110;
    (position + HEADER + name as u64 + 1).next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::cpio;

    fn tree(files: &[(&str, &[u8])]) -> Tree {
        let mut tree = Tree::new(0);
        let origin = tree.inode(tree.root()).origin;
        for (path, bytes) in files {
            let inode = Inode { meta: Meta::root(0o644, 3), kind: Kind::File(Content::bytes(*bytes)), origin };
            tree.insert(path.as_bytes(), inode, &Meta::root(0o755, 3)).unwrap();
        }
        tree
    }

    fn built(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let image = image(&tree(files), &store, 5)?;
        assert_eq!(image.names(image.root()).count(), 1);
        let id = image.lookup(b"ucode.cpio").unwrap();
        let Kind::File(content) = &image.inode(id).kind else { panic!() };
        content.read(1 << 20)
    }

    #[test]
    fn blobs_stand_in_the_order_of_their_names() {
        let files: [(&str, &[u8]); 6] = [
            ("lib/firmware/intel-ucode/06-55-04", b"second"),
            ("lib/firmware/intel-ucode/06-03-02", b"first"),
            ("lib/firmware/intel-ucode/0f-twin", b"first"),
            ("lib/firmware/amd-ucode/microcode_amd.bin", b"amd"),
            ("lib/firmware/amd-ucode/README", b"text"),
            ("usr/share/doc/x", b"doc"),
        ];
        let bytes = built(&files).unwrap();
        assert_eq!(bytes, built(&files).unwrap());
        let at = |text: &[u8]| bytes.windows(text.len()).position(|part| part == text).unwrap();
        assert_eq!((at(b"amd\0") % 16, at(b"firstsecond\0") % 16), (0, 0));
        assert!(at(b"kernel/x86\0") < at(b"kernel/x86/microcode\0"));
        assert!(at(b"kernel/x86/microcode/AuthenticAMD.bin\0") < at(b"amd\0"));
        assert_eq!(cpio::dump(bytes.as_slice()).unwrap().lines().count(), 6);
    }

    #[test]
    fn no_microcode_is_an_error() {
        let error = built(&[("lib/firmware/amd-ucode/README", b"text")]).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Refused);
    }
}
