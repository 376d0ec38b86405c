//! A root file system on a disk, as the blueprint's `root:` says: the file system, the hash tree over it, and an initramfs
//! and a kernel command line that find both.
//!
//! Everything that can be refused is refused before the file system is written: a kernel that lacks what the root takes,
//! options that would lead past the verification.

use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::root_file_system::{FileSystem, write_image};
use super::{Kernel, Options, System, finder, uki};
use crate::Arch;
use crate::blueprint::{Root, RootType};
use crate::error::{Error, IoContext, Result};
use crate::formats::gpt::{self, Guid};
use crate::formats::source::{FilePart, Sequential, Source};
use crate::formats::verity::{self, Verity};
use crate::rootfs::stage1::{Purpose, RootKind};
use crate::rootfs::{Content, Inode, Kind, Meta, Origin, Tree, write_error};
use crate::secure_boot::signing::Signing;
use crate::store::{Digest, Hasher};

/// Bytes of a kernel command line without the zero at its end (COMMAND_LINE_SIZE of Linux's arch/x86/include/asm/setup.h
/// and arch/arm64/include/uapi/asm/setup.h). What is longer is cut off.
const COMMAND_LINE_LIMIT: usize = 2047;
/// Options of stage1 that would have it check against something else, or less. Not `root=`: whatever root it names is
/// checked against the root hash.
const RESERVED: [&str; 6] = [
    "roothash=",
    "moby.root.hash=",
    "moby.root.hash.offset=",
    "moby.root.hash.lenient",
    "moby.root.file=",
    "rootflags=",
];
/// Where stage1 looks for the signature of the root hash.
const SIGNATURE: &str = "roothash.p7s";
/// The option by which the kernel opens no root hash without a signature.
const REQUIRE_SIGNATURES: &str = "dm_verity.require_signatures=1";
/// The kernel's option for signatures of root hashes.
const SIGNATURES: &str = "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG";

/// A root that is written to temporary files, ready to be laid onto a disk.
#[derive(Debug)]
pub struct DiskRoot {
    /// The file system; its size is a multiple of 4096 bytes.
    pub image: Arc<dyn Source>,
    /// What vouches for it, unless the blueprint says `verity: false`.
    pub tree: Option<HashTree>,
    /// The file system's identifier; squashfs has none.
    pub uuid: Option<[u8; 16]>,
    /// What the kernel starts with instead of the root.
    initramfs: Tree,
    /// Options of stage1 that depend on no place.
    options: Vec<String>,
}

/// The hash tree of a root.
#[derive(Debug)]
pub struct HashTree {
    /// Superblock and tree.
    pub content: Arc<dyn Source>,
    /// What vouches for the tree.
    pub root_hash: [u8; 32],
}

impl HashTree {
    /// What the partition of the root goes by (Discoverable Partitions Specification): the first half of the root hash.
    pub fn data_guid(&self) -> Guid {
        Guid(std::array::from_fn(|at| self.root_hash[at]))
    }

    /// What the partition of the tree goes by: the last half.
    pub fn tree_guid(&self) -> Guid {
        Guid(std::array::from_fn(|at| self.root_hash[16 + at]))
    }

    /// The root hash as the kernel command line has it.
    pub fn root_hash_text(&self) -> String {
        Digest::from_bytes(self.root_hash).hex()
    }
}

impl DiskRoot {
    /// Makes the root of a system as its blueprint says.
    pub fn make(root: &Root, system: &System, options: &Options<'_>) -> Result<DiskRoot> {
        let file_system = match root.kind() {
            RootType::Erofs => FileSystem::Erofs,
            RootType::Squashfs => FileSystem::Squashfs,
            RootType::Initrd => return Err(Error::failed("an initrd is no root on a disk")),
        };
        DiskRoot::make_as(file_system, root, system, options)
    }

    /// The same as another file system, for formats that have it in their name.
    pub fn make_as(file_system: FileSystem, root: &Root, system: &System, options: &Options<'_>) -> Result<DiskRoot> {
        let kernel = uki::kernel(system)?;
        let kind = match file_system {
            FileSystem::Erofs => RootKind::Erofs,
            FileSystem::Squashfs => RootKind::Squashfs,
        };
        check_words(&kernel.cmdline, root.verity())?;
        let purpose = Purpose { root: kind, verity: root.verity(), container: None };
        let signing = check_signature(root, kernel, options)?;
        let mut initramfs = finder::initramfs(system, &purpose, options)?;

        let mut tree = system.tree.clone();
        tree.remove(b"boot");
        let file = options.store.temporary_file()?;
        let (size, uuid) =
            write_image(file_system, root.compressed(), &tree, file.reopen().at("opening", file.path())?, options)?;
        drop(tree);
        // What the identifier of an EROFS comes from is all that its bytes depend on.
        let identity = match uuid {
            Some(uuid) => Digest::of(&uuid),
            None => Content::host_file(file.path())?.digest,
        };
        let (tree, identity) = match root.verity() {
            true => {
                let tree = hash_tree(&file, size, identity, options)?;
                let root_hash = Digest::from_bytes(tree.root_hash);
                (Some(tree), root_hash)
            }
            false => (None, identity),
        };
        let mut words = Vec::new();
        if let (Some(signing), Some(tree)) = (signing, &tree) {
            put_signature(&mut initramfs, signing.root_hash(&tree.root_hash_text())?, options.time)?;
            words.push(REQUIRE_SIGNATURES.to_owned());
        }
        let on_failure = root.on_failure.as_ref().map(|word| format!("moby.root.onfailure={}", word.value.word()));
        words.extend(on_failure);
        let image = Arc::new(Written { file, size, identity });
        Ok(DiskRoot { image, tree, uuid, initramfs, options: words })
    }

    /// The system as a loader starts it: with the initramfs, and the command line that finds the root at `places`.
    pub fn starter(&self, system: &System, places: &[String]) -> Result<System> {
        let kernel = uki::kernel(system)?;
        let kernel = Some(Kernel { cmdline: self.command_line(kernel, places)?, ..kernel.clone() });
        Ok(System { kernel, initramfs: Some(self.initramfs.clone()), ..system.clone() })
    }

    /// The kernel command line: the root hash, where the root is (`places`, but for a `root=` if the blueprint has its own),
    /// then the blueprint's words. Ours go in front, because what stands behind `--` is for init.
    fn command_line(&self, kernel: &Kernel, places: &[String]) -> Result<String> {
        let root_hash = self.tree.iter().map(|tree| format!("roothash={}", tree.root_hash_text()));
        let own = has_word(&kernel.cmdline, "root=");
        let places = places.iter().filter(|word| !(own && word.starts_with("root="))).cloned();
        let words: Vec<String> = root_hash.chain(places).chain(self.options.iter().cloned()).collect();
        let line = format!("{} {}", words.join(" "), kernel.cmdline);
        let line = line.trim().to_owned();
        if line.len() > COMMAND_LINE_LIMIT {
            return Err(Error::usage(format!(
                "the kernel command line has {} bytes with those that find the root; Linux takes {COMMAND_LINE_LIMIT}",
                line.len()
            ))
            .hint("shorten cmdline of the blueprint's kernel"));
        }
        Ok(line)
    }

    /// The GUID of the root's partition: from the root hash, else from the content.
    pub fn guid(&self) -> Guid {
        match &self.tree {
            Some(tree) => tree.data_guid(),
            None => Guid::derived(self.image.identity(), "root"),
        }
    }

    /// Where the root is on a disk with a GUID partition table.
    pub fn places(&self) -> Vec<String> {
        match &self.tree {
            Some(_) => Vec::new(),
            None => vec![format!("root=PARTUUID={}", self.guid())],
        }
    }

    /// The partitions of the root: the file system and, if there is one, its hash tree. `slot` goes behind their names.
    pub fn partitions(&self, arch: Arch, slot: &str) -> Vec<gpt::Partition> {
        let [data, tree] = partition_types(arch);
        let partition = |kind, name: &str, guid, content: &Arc<dyn Source>| gpt::Partition {
            guid: Some(guid),
            attributes: gpt::READ_ONLY,
            ..gpt::Partition::new(kind, &format!("{name}{slot}"), Arc::clone(content))
        };
        let mut partitions = vec![partition(data, "root", self.guid(), &self.image)];
        partitions.extend(self.tree.iter().map(|t| partition(tree, "root-verity", t.tree_guid(), &t.content)));
        partitions
    }
}

/// The types of the partitions of root and hash tree.
pub fn partition_types(arch: Arch) -> [Guid; 2] {
    match arch {
        Arch::Amd64 => [gpt::ROOT_X86_64, gpt::ROOT_X86_64_VERITY],
        Arch::Arm64 => [gpt::ROOT_ARM64, gpt::ROOT_ARM64_VERITY],
    }
}

/// Makes the hash tree of `size` bytes in a file; its salt comes from the content.
fn hash_tree(data: &NamedTempFile, size: u64, identity: Digest, options: &Options<'_>) -> Result<HashTree> {
    let file = options.store.temporary_file()?;
    let Verity { root_hash, size, .. } = write_hash_tree(data, size, identity, &file)?;
    let root = Digest::from_bytes(root_hash);
    let mut hasher = Hasher::new();
    hasher.field(b"hash tree");
    hasher.field(root.as_bytes());
    let content = Arc::new(Written { file, size, identity: hasher.finish() });
    Ok(HashTree { content, root_hash })
}

/// Writes the hash tree of the first `size` bytes of `data` behind whatever `out` has.
fn write_hash_tree(data: &NamedTempFile, size: u64, identity: Digest, out: &NamedTempFile) -> Result<Verity> {
    let mut hasher = Hasher::new();
    hasher.field(b"dm-verity salt");
    hasher.field(identity.as_bytes());
    let salt = hasher.finish().as_bytes().to_vec();
    let mut from = BufReader::with_capacity(256 << 10, data.reopen().at("opening", data.path())?);
    let mut to = BufWriter::with_capacity(256 << 10, out.reopen().at("opening", out.path())?);
    to.seek(SeekFrom::End(0)).map_err(write_error)?;
    let made = verity::write(&mut from, size, &mut to, &verity::Options { salt, uuid: None })?;
    to.flush().map_err(write_error)?;
    Ok(made)
}

/// A temporary file that is a source; it goes when the source does.
#[derive(Debug)]
struct Written {
    file: NamedTempFile,
    size: u64,
    identity: Digest,
}

impl Source for Written {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut file = self.file.reopen().at("opening", self.file.path())?;
        // Errors of the reading side cannot be told from those of the writing side here; the latter name their file.
        io::copy(&mut file, out).map(drop).map_err(write_error)
    }

    fn files(&self) -> Vec<FilePart<'_>> {
        vec![FilePart { offset: 0, size: self.size, file: self.file.as_file(), path: self.file.path() }]
    }

    fn write_without_files(&self, out: &mut dyn Write) -> Result<()> {
        Sequential::new(out).zeros_to(self.size)
    }
}

/// Whether a command line has an option; options may stand in quotes.
fn has_word(command_line: &str, start: &str) -> bool {
    command_line.split_ascii_whitespace().any(|word| word.trim_start_matches('"').starts_with(start))
}

/// Refuses options of the blueprint that contradict the root hash.
fn check_words(command_line: &str, verity: bool) -> Result<()> {
    match RESERVED.iter().find(|word| verity && has_word(command_line, word)) {
        Some(word) => Err(Error::usage(format!(
            "the kernel command line has `{word}`, and the build says where a verified root is (`root:` in the blueprint)"
        ))
        .hint("remove the option, or set root: {verity: false}")),
        None => Ok(()),
    }
}

/// What signs the root hash, if the blueprint asks for it. Refuses a kernel that cannot check the signature, and a build
/// without a key.
fn check_signature<'a>(root: &Root, kernel: &Kernel, options: &Options<'a>) -> Result<Option<&'a Signing>> {
    if !root.signature_required() {
        return Ok(None);
    }
    let instead = "set root: {signature: optional}: the signed kernel image vouches for the root hash too";
    if let Some(config) = &kernel.config {
        let text = config.read(finder::CONFIG_LIMIT)?;
        let wanted = format!("{SIGNATURES}=y");
        if !text.split(|byte| *byte == b'\n').any(|line| line == wanted.as_bytes()) {
            return Err(Error::refused(format!(
                "the kernel is built without {SIGNATURES}, and the blueprint has `signature: required`"
            ))
            .hint(format!("take a kernel that has it, or {instead}")));
        }
    }
    match options.sign {
        Some(signing) if signing.has_key() => Ok(Some(signing)),
        _ => Err(Error::usage("`signature: required` needs a key that signs the root hash, and none is at hand")
            .hint(format!("--sign DIR; or {instead}"))),
    }
}

/// Puts the signature where stage1 looks for it.
fn put_signature(initramfs: &mut Tree, signature: Vec<u8>, time: i64) -> Result<()> {
    let origin = initramfs.add_origin(Origin { source: "root hash".into(), location: "signature".into() });
    let inode = Inode { meta: Meta::root(0o644, time), kind: Kind::File(Content::bytes(signature)), origin };
    initramfs.insert(SIGNATURE.as_bytes(), inode, &Meta::root(0o755, time)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_lead_past_the_verification_are_refused() {
        for line in
            ["moby.root.hash=/dev/vda", "a \"moby.root.file=/x y\"", "moby.root.hash.lenient", "quiet roothash=00"]
        {
            assert!(check_words(line, true).is_err(), "{line}");
            assert!(check_words(line, false).is_ok(), "{line}");
        }
        assert!(check_words("console=ttyS0 rootwait moby.root.check=full root=/dev/sda notroothash=1", true).is_ok());
    }
}
