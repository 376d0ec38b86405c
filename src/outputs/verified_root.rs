//! A root file system on a disk, as the blueprint's `root:` says: the file system, the hash tree over it, and an initramfs
//! and a kernel command line that find both.
//!
//! Everything that can be refused is refused before the file system is written: a kernel that lacks what the root takes,
//! options that would lead past the verification.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::{NamedTempFile, TempPath};

use super::disk_file::{DiskFile, Place};
use super::root_file_system::{FileSystem, write_image};
use super::{Kernel, Options, System, finder, uki};
use crate::Arch;
use crate::blueprint::{Root, RootType};
use crate::error::{Error, IoContext, Result};
use crate::formats::gpt::{self, Guid};
use crate::formats::qcow2::Placed;
use crate::formats::source::{FilePart, Sequential, Source};
use crate::formats::verity::{self, Hashes, Verity};
use crate::rootfs::{Content, Inode, Kind, Meta, Origin, Tree, write_error};
use crate::secure_boot::signing::Signing;
use crate::store::{Digest, Hasher, Store};

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
/// What stands in front of every block when it is hashed, the same for all roots. Salts are against tables of hashes that
/// were made before, and against hashes that tell of equal secrets; whoever holds a disk has its blocks, and the salt with
/// them. That nobody finds a second block with the same hash is what counts, and no salt makes that harder. With one that
/// comes from the content, nothing could be known of a block from an earlier image.
const SALT: [u8; 32] = *b"moby: hash tree of a sealed root";
/// Bytes that are copied at once where the kernel does not copy.
const BUFFER: usize = 256 << 10;

/// A root that is checked and not written.
#[derive(Debug)]
pub struct Unwritten<'a, 'o> {
    file_system: FileSystem,
    root: &'a Root,
    system: &'a System,
    options: &'a Options<'o>,
    signing: Option<&'o Signing>,
    initramfs: Tree,
}

/// A root that is written, to a temporary file or into the file of its disk, ready to be laid onto the disk.
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

impl<'a, 'o> Unwritten<'a, 'o> {
    /// The root of a system as its blueprint says.
    pub fn new(root: &'a Root, system: &'a System, options: &'a Options<'o>) -> Result<Unwritten<'a, 'o>> {
        let file_system = match root.kind() {
            RootType::Erofs => FileSystem::Erofs,
            RootType::Squashfs => FileSystem::Squashfs,
            RootType::Initrd => return Err(Error::failed("an initrd is no root on a disk")),
        };
        Unwritten::new_as(file_system, root, system, options)
    }

    fn new_as(
        file_system: FileSystem,
        root: &'a Root,
        system: &'a System,
        options: &'a Options<'o>,
    ) -> Result<Unwritten<'a, 'o>> {
        let kernel = uki::kernel(system)?;
        check_words(&kernel.cmdline, root.verity())?;
        let signing = check_signature(root, kernel, options)?;
        let initramfs = finder::initramfs(system, &file_system.purpose(Some(root)), options)?;
        Ok(Unwritten { file_system, root, system, options, signing, initramfs })
    }

    /// Whether the root can be written into the file of its disk: block by block, from the first to the last.
    pub fn goes_anywhere(&self) -> bool {
        self.file_system == FileSystem::Erofs
    }

    /// A root of which nothing is true but the lengths of what loaders are told. Nothing if these depend on more: the
    /// signature of a root hash lies in the compressed initramfs.
    pub fn sketch(&self) -> Option<DiskRoot> {
        if self.signing.is_some() {
            return None;
        }
        let nothing = || Arc::new(vec![0; verity::format::BLOCK as usize]);
        let tree = HashTree { content: nothing(), root_hash: *Digest::of(b"").as_bytes() };
        let tree = self.root.verity().then_some(tree);
        let (initramfs, options) = (self.initramfs.clone(), self.words());
        Some(DiskRoot { image: nothing(), tree, uuid: None, initramfs, options })
    }

    /// Options of stage1 that depend on no place.
    fn words(&self) -> Vec<String> {
        let signature = self.signing.map(|_| REQUIRE_SIGNATURES.to_owned());
        let on_failure = self.root.on_failure.as_ref();
        let on_failure = on_failure.map(|word| format!("moby.root.onfailure={}", word.value.word()));
        signature.into_iter().chain(on_failure).collect()
    }

    /// Writes the root: to a temporary file or, with a disk's file, there; in a raw disk from a given byte on.
    pub fn write(mut self, place: Option<(&DiskFile, u64)>) -> Result<DiskRoot> {
        let Unwritten { file_system, root, system, options, .. } = self;
        let mut tree = system.tree.clone();
        tree.remove(b"boot");
        let storage = file_system.storage(Some(root));
        let hashed = root.verity() && file_system == FileSystem::Erofs;
        let mut hashes = match hashed {
            true => Some(Hashes::new(options.store.temporary_file()?.into_file(), salted())),
            false => None,
        };
        let mut image = match place {
            Some((file, start)) => {
                let (size, uuid, place) = file
                    .write_root(start, |out| write_image(file_system, storage, &tree, out, hashes.as_mut(), options))?;
                (Written::placed(place, size), uuid)
            }
            None => {
                let file = options.store.temporary_file()?;
                let mut out = BufWriter::with_capacity(BUFFER, file.as_file());
                let (size, uuid) = write_image(file_system, storage, &tree, &mut out, hashes.as_mut(), options)?;
                out.flush().map_err(write_error)?;
                drop(out);
                (Written::temporary(file, size, Digest::of(b"")), uuid)
            }
        };
        drop(tree);
        let (written, uuid) = (&mut image.0, image.1);
        let tree = match (root.verity(), hashes) {
            (false, _) => None,
            (true, Some(hashes)) => Some(hash_tree(options, |out| hashes.finish(out))?),
            (true, None) => {
                let mut from = BufReader::with_capacity(BUFFER, written.reader()?);
                Some(hash_tree(options, |out| verity::write(&mut from, written.size, out, &salted()))?)
            }
        };
        written.identity = match (&tree, uuid) {
            (Some(tree), _) => Digest::from_bytes(tree.root_hash),
            // What the identifier of an EROFS comes from is all that its bytes depend on.
            (None, Some(uuid)) => Digest::of(&uuid),
            (None, None) => {
                let mut hasher = Hasher::new();
                written.write_to(&mut hasher)?;
                hasher.finish()
            }
        };
        if let (Some(signing), Some(tree)) = (self.signing, &tree) {
            put_signature(&mut self.initramfs, signing.root_hash(&tree.root_hash_text())?, options.time)?;
        }
        let words = self.words();
        Ok(DiskRoot { image: Arc::new(image.0), tree, uuid, initramfs: self.initramfs, options: words })
    }
}

impl DiskRoot {
    /// Makes the root of a system as its blueprint says, in temporary files.
    pub fn make(root: &Root, system: &System, options: &Options<'_>) -> Result<DiskRoot> {
        Unwritten::new(root, system, options)?.write(None)
    }

    /// The same as another file system, for formats that have it in their name.
    pub fn make_as(file_system: FileSystem, root: &Root, system: &System, options: &Options<'_>) -> Result<DiskRoot> {
        Unwritten::new_as(file_system, root, system, options)?.write(None)
    }

    /// The same root in a temporary file, if it was written into the file of its disk; that is empty then.
    pub fn apart(self, file: &DiskFile, store: &Store) -> Result<DiskRoot> {
        let temporary = store.temporary_file()?;
        let mut out = BufWriter::with_capacity(BUFFER, temporary.as_file());
        self.image.write_to(&mut out)?;
        out.flush().map_err(write_error)?;
        drop(out);
        file.empty()?;
        let image = Arc::new(Written::temporary(temporary, self.image.size(), self.image.identity()));
        Ok(DiskRoot { image, ..self })
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

fn salted() -> verity::Options {
    verity::Options { salt: SALT.to_vec(), uuid: None }
}

/// Writes a hash tree to a temporary file.
fn hash_tree(options: &Options<'_>, write: impl FnOnce(&mut BufWriter<&File>) -> Result<Verity>) -> Result<HashTree> {
    let file = options.store.temporary_file()?;
    let mut out = BufWriter::with_capacity(BUFFER, file.as_file());
    let Verity { root_hash, size, .. } = write(&mut out)?;
    out.flush().map_err(write_error)?;
    drop(out);
    let mut hasher = Hasher::new();
    hasher.field(b"hash tree");
    hasher.field(Digest::from_bytes(root_hash).as_bytes());
    Ok(HashTree { content: Arc::new(Written::temporary(file, size, hasher.finish())), root_hash })
}

/// What was written to a file: a temporary one, which goes when the source does, or that of a disk.
#[derive(Debug)]
struct Written {
    file: File,
    path: PathBuf,
    _temporary: Option<TempPath>,
    size: u64,
    identity: Digest,
    /// Where in the file it lies; between the parts are zeros.
    parts: Vec<Placed>,
}

impl Written {
    fn temporary(file: NamedTempFile, size: u64, identity: Digest) -> Written {
        let (file, temporary) = file.into_parts();
        let parts = vec![Placed { offset: 0, place: 0, size }];
        Written { file, path: temporary.to_path_buf(), _temporary: Some(temporary), size, identity, parts }
    }

    /// Without an identity yet.
    fn placed(place: Place, size: u64) -> Written {
        let Place { file, path, parts } = place;
        Written { file, path, _temporary: None, size, identity: Digest::of(b""), parts }
    }

    /// Reads a temporary file from its start.
    fn reader(&self) -> Result<File> {
        File::open(&self.path).at("opening", &self.path)
    }
}

impl Source for Written {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut out = Sequential::new(out);
        let mut buffer = vec![0; BUFFER];
        for part in &self.parts {
            out.zeros_to(part.offset)?;
            for done in (0..part.size).step_by(BUFFER) {
                let length = usize::try_from(part.size - done).unwrap_or(usize::MAX).min(BUFFER);
                let bytes = buffer.get_mut(..length).unwrap_or_default();
                self.file.read_exact_at(bytes, part.place + done).at("reading", &self.path)?;
                out.bytes(bytes)?;
            }
        }
        out.zeros_to(self.size)
    }

    fn files(&self) -> Vec<FilePart<'_>> {
        let part = |part: &Placed| FilePart {
            offset: part.offset,
            size: part.size,
            from: part.place,
            file: &self.file,
            path: &self.path,
        };
        self.parts.iter().map(part).collect()
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
    use super::super::disk_file::Room;
    use super::*;

    /// If the place turns out to be another one, the root is laid onto the disk as from any other file.
    #[test]
    fn a_root_can_be_taken_out_of_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut bytes = vec![0; 300 << 10];
        bytes[..5].copy_from_slice(b"first");
        bytes[200 << 10..].fill(3);
        for room in [Room::Raw, Room::Qcow2] {
            let file = DiskFile::new(&dir.path().join("disk"), room);
            let (size, (), place) = file
                .write_root(1 << 20, |out| out.write_all(&bytes).map(|()| (300 << 10, ())).map_err(write_error))
                .unwrap();
            let image = Arc::new(Written::placed(place, size));
            assert!(!image.files().is_empty());
            let root = DiskRoot { image, tree: None, uuid: None, initramfs: Tree::new(0), options: Vec::new() };
            let apart = root.apart(&file, &store).unwrap();
            let mut found = Vec::new();
            apart.image.write_to(&mut found).unwrap();
            assert!(found == bytes && apart.image.size() == size, "{room:?}");
            let out = file.into_output().unwrap();
            assert_eq!(out.file().unwrap().metadata().unwrap().len(), 0);
            assert!(apart.image.files().iter().all(|part| !part.lies_in(out.file().unwrap()).unwrap()));
            let output = crate::formats::disk::Output::new(out.file().unwrap(), out.path()).unwrap();
            super::super::sparse::write(apart.image.as_ref(), output).unwrap();
            let mut found = vec![0; bytes.len()];
            out.file().unwrap().read_exact_at(&mut found, 0).unwrap();
            assert!(found == bytes, "{room:?}");
        }
    }

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
