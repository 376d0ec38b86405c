//! Kernel images: the kernel's files in the form that a blueprint's `kernel` section takes, LinuxKit's.
//!
//! ```text
//! kernel          the kernel, byte for byte as Debian signed it: a bzImage (amd64), an Image (arm64, not compressed)
//! kernel.tar      its modules, byte for byte, and the tables that depmod(8) would make, below lib/modules/VERSION;
//!                 device trees of Raspberry Pis in boot/dtb/broadcom
//! kernel-config   what it was configured with
//! ```
//!
//! | file | does |
//! |---|---|
//! | `choose.rs` | a metapackage -> the packages that have the kernel |
//! | `module.rs` | a module's bytes -> what it says about itself |
//! | `tables.rs`, `trie.rs` | all modules -> depmod's tables, as text and in kmod's binary form |
//! | `archive.rs` | a kernel's tree -> `kernel.tar` in the store |
//! | `compile.rs`, `options.rs`, `host_tools.rs` | Debian's kernel source and options -> a kernel's tree |
//!
//! Modules are neither stripped nor compressed anew: a kernel under Secure Boot loads what is signed, and the
//! signature is over the file. The rest of Debian's packages is left out: `System.map` (a text that says where the
//! real one is), documentation, other device trees.
//!
//! The modules lie below `lib/modules`, where LinuxKit's kernels have them and where components bind them from,
//! although Debian has moved them to `usr/lib/modules`. In a root whose `/lib` is a link into `/usr` they end up
//! there: see [`Tree::graft`].

mod archive;
mod choose;
mod compile;
mod host_tools;
mod module;
mod options;
mod tables;
mod trie;

pub use choose::packages;
pub use compile::{Order, compile};
pub use options::OptionFile;

use crate::Arch;
use crate::error::{Error, Result};
use crate::rootfs::{Content, Inode, InodeId, Kind, Meta, Tree};
use crate::store::Store;
use crate::ui::Ui;

/// The kernel image of a tree that a kernel's packages were merged into: `boot/vmlinuz-VERSION`,
/// `boot/config-VERSION`, and modules in `lib/modules/VERSION` or `usr/lib/modules/VERSION`. The result is the image's
/// only layer. `time` is given to what is made here, in seconds since the epoch.
///
/// # Errors
/// Exit status 3 if there is no kernel or more than one, if it or a module is for another architecture, or if a module
/// cannot be read.
pub fn image_of_packages(tree: &Tree, store: &Store, arch: Arch, ui: &Ui, time: i64) -> Result<Tree> {
    let (version, kernel) = kernel_of(tree)?;
    check(tree, kernel, arch)?;
    let mut image = Tree::new(time);
    let missing = Meta::root(0o755, time);
    let origin = image.inode(image.root()).origin;
    let mut insert = |name: &str, meta: &Meta, content: &Content| {
        let inode = Inode { meta: meta.clone(), kind: Kind::File(content.clone()), origin };
        image.insert(name.as_bytes(), inode, &missing).map(drop)
    };
    if let (meta, Kind::File(content)) = (&tree.inode(kernel).meta, &tree.inode(kernel).kind) {
        insert("kernel", meta, content)?;
    }
    let modules = archive::kernel_tar(tree, &version, store, arch, ui, time)?;
    insert("kernel.tar", &Meta::root(0o644, time), &modules)?;
    let config = tree.resolve(&[b"boot/config-", version.as_slice()].concat()).map(|id| tree.inode(id));
    if let Some(Inode { meta, kind: Kind::File(content), .. }) = config {
        insert("kernel-config", meta, content)?;
    }
    Ok(image)
}

/// The version and the file of the only kernel in a tree.
fn kernel_of(tree: &Tree) -> Result<(Vec<u8>, InodeId)> {
    let boot = tree.resolve(b"boot").into_iter().flat_map(|boot| tree.names(boot));
    let mut kernels = boot.filter_map(|(name, id)| {
        let version = name.strip_prefix(b"vmlinuz-").filter(|version| !version.is_empty())?;
        matches!(tree.inode(id).kind, Kind::File(_)).then(|| (version.to_vec(), id))
    });
    let Some((version, id)) = kernels.next() else {
        return Err(Error::refused("the packages have no kernel: there is no file boot/vmlinuz-VERSION")
            .hint("name the package that has it, linux-image-VERSION, or a metapackage for it"));
    };
    if let Some((other, _)) = kernels.next() {
        let shown = |version: &[u8]| version.escape_ascii().to_string();
        return Err(Error::refused(format!(
            "the packages have more than one kernel: {} and {}",
            shown(&version),
            shown(&other)
        )));
    }
    Ok((version, id))
}

/// Refuses a kernel that is not for `arch`: `HdrS` at 0x202 is a bzImage (Linux, Documentation/arch/x86/boot.rst),
/// `ARM\x64` at 0x38 an Image (Documentation/arch/arm64/booting.rst).
fn check(tree: &Tree, kernel: InodeId, arch: Arch) -> Result<()> {
    let Kind::File(content) = &tree.inode(kernel).kind else { return Ok(()) };
    let mut head = Vec::new();
    let mut start = std::io::Read::take(content.open()?, 0x206);
    std::io::Read::read_to_end(&mut start, &mut head)
        .map_err(|error| Error::failed(format!("reading the kernel: {error}")))?;
    let (expected, found) = match arch {
        Arch::Amd64 => ("an x86 bzImage", head.get(0x202..0x206) == Some(b"HdrS")),
        Arch::Arm64 => ("an ARM64 Image", head.get(0x38..0x3c) == Some(b"ARM\x64")),
    };
    if !found {
        return Err(Error::refused(format!(
            "the kernel in the packages is not {expected}, as one for {arch} has to be"
        )));
    }
    Ok(())
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
