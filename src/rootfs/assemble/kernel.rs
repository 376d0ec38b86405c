//! The kernel section: the kernel, its command line, its modules, microcode.

use super::Assembly;
use crate::blueprint::{Reference, Ucode, nearest};
use crate::error::{Context, Error, IoContext, Result};
use crate::formats;
use crate::rootfs::{Content, Inode, Kind, Meta, Place, Tree, merge_layer};
use crate::store::Digest;

/// Where the digests of unpacked kernels are, by those of packed ones.
const UNPACKED_KIND: &str = "kernel-1";

/// The parts that a loader takes.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel itself.
    pub image: Content,
    /// Its command line, without a line end.
    pub cmdline: String,
    /// Processor microcode as an uncompressed cpio archive, to stand first in the initrd.
    pub ucode: Option<Content>,
    /// What it was configured with (`CONFIG_...=y`), if its image tells.
    pub config: Option<Content>,
}

/// What kernel images of this project call their configuration.
const CONFIG: &[u8] = b"kernel-config";

impl Assembly<'_> {
    /// Puts `boot/` and the modules into the root. A blueprint without a kernel image has none.
    pub(super) fn kernel(&mut self) -> Result<Option<Kernel>> {
        let section = &self.locked.blueprint.kernel;
        let Some(reference) = &section.image else { return Ok(None) };
        let image = self.flattened(reference)?;
        let origin = self.origin(reference.to_string(), "kernel");
        self.folder("boot", origin)?;
        let cmdline = section.cmdline().to_string();
        let (mut kernel, mode) = file(&image, section.binary(), reference, "binary")?;
        if self.decompress_kernel {
            kernel = self.unpacked(kernel).context(format_args!("{}: {}", reference.value, section.binary()))?;
        }
        let mut parts =
            vec![("boot/cmdline", Content::bytes(cmdline.as_bytes()), 0o644), ("boot/kernel", kernel.clone(), mode)];
        let ucode = match section.ucode() {
            None => None,
            Some(Ucode::File(name)) => Some(file(&image, name, reference, "ucode")?),
            Some(Ucode::Image(other)) => {
                let tree = self.flattened(other)?;
                Some(file(&tree, Ucode::FILE, other, "ucode")?)
            }
        };
        if let Some((content, mode)) = &ucode {
            parts.push(("boot/ucode.cpio", content.clone(), *mode));
        }
        let missing = self.missing();
        for (path, content, mode) in parts {
            let inode = Inode { meta: Meta::root(mode, self.time), kind: Kind::File(content), origin };
            self.tree.insert(path.as_bytes(), inode, &missing)?;
        }
        if let Some(name) = section.tar() {
            let (archive, _) = file(&image, name, reference, "tar")?;
            let modules = self.modules(&archive).context(format_args!("{}: {name}", reference.value))?;
            self.tree.graft(b"", &modules, origin, &missing)?;
        }
        let config = match image.resolve(CONFIG).map(|id| &image.inode(id).kind) {
            Some(Kind::File(content)) => Some(content.clone()),
            _ => None,
        };
        Ok(Some(Kernel { image: kernel, cmdline, ucode: ucode.map(|(content, _)| content), config }))
    }

    /// A kernel unpacked; itself if it is not packed. It is unpacked once, into a blob.
    fn unpacked(&self, kernel: Content) -> Result<Content> {
        let known =
            self.store.derived(UNPACKED_KIND, &kernel.digest).and_then(|path| std::fs::read_to_string(path).ok());
        let digest = known.and_then(|text| text.parse::<Digest>().ok());
        let content = |digest: Digest, size| Content::part(self.store.blob_path(&digest).into(), 0, size, digest);
        if let Some(digest) = digest
            && let Ok(metadata) = self.store.blob_path(&digest).metadata()
        {
            self.store.took(&self.store.blob_path(&digest), &digest);
            return Ok(content(digest, metadata.len()));
        }
        let task = self.ui.task("unpack", "the kernel", None);
        let mut out = self.store.blob_writer()?;
        if !formats::kernel::unpack(&kernel, self.arch, &mut out)? {
            return Ok(kernel);
        }
        let (digest, size) = out.commit(None)?;
        task.advance(size);
        let pointer = self.store.temporary_file()?;
        std::fs::write(pointer.path(), digest.to_string()).at("writing", pointer.path())?;
        self.store.put_derived(UNPACKED_KIND, &kernel.digest, pointer)?;
        Ok(content(digest, size))
    }

    /// The tree of an archive inside of an image.
    fn modules(&self, archive: &Content) -> Result<Tree> {
        let Place::File { file, offset } = &archive.place else {
            return Err(Error::failed("the archive of modules is not in the store"));
        };
        let layer = self.store.archive_in_file(file, *offset, archive.size, &archive.digest)?;
        let mut tree = Tree::new(self.time);
        // The archive says nothing about the root; what stands there keeps its owner and mode.
        let root = self.tree.inode(self.tree.root()).meta.clone();
        let id = tree.root();
        let inode = tree.inode_mut(id);
        inode.meta = root;
        let origin = inode.origin;
        merge_layer(&mut tree, &layer, false, self.time, origin)?;
        self.fill(&mut tree);
        Ok(tree)
    }
}

/// A file in the top folder of an image, with its mode.
fn file(tree: &Tree, name: &str, reference: &Reference, key: &str) -> Result<(Content, u32)> {
    let inode = tree.resolve(name.as_bytes()).map(|id| tree.inode(id));
    if let Some(inode) = inode
        && let Kind::File(content) = &inode.kind
    {
        return Ok((content.clone(), inode.meta.mode));
    }
    let names: Vec<String> = tree.names(tree.root()).map(|(name, _)| name.escape_ascii().to_string()).collect();
    let error = Error::usage(format!("{reference} has no file \"{name}\" (kernel: {key})"));
    Err(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error.hint(format!("the image has {}", names.join(", "))),
    })
}
