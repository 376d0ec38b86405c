//! `iso-bios`: the root file system as a CD that BIOS boots, which boots from a USB stick or disk as well.
//!
//! The whole root lies in the image, as in LinuxKit's, and is used from there: nothing of it is copied into memory. A
//! small initramfs with the kernel's drivers (stage1) finds it by the volume's name.

use std::path::PathBuf;

use super::initrd::Initrd;
use super::{Options, OutputFile, System, Target, bios, sparse, uki};
use crate::error::{Error, Result};
use crate::formats::disk::Output;
use crate::formats::iso9660::{BootImage, Hybrid, Iso, Options as IsoOptions};
use crate::formats::source::Source;
use crate::rootfs::stage1::{self, Purpose, RootKind};
use crate::rootfs::{Content, Inode, Kind, Meta, Origin, Tree};
use crate::store::Digest;

/// The component that finds the root.
const STAGE1: &str = "components/stage1";
/// The component that has the loader.
const ISOLINUX: &str = "components/isolinux";
/// Bytes of what BIOS runs from the boot record, at most.
const BOOT_CODE_LIMIT: u64 = 512;
/// Where the loader and the initramfs lie, beside the kernel that every root has in `boot/`.
const PROGRAM: &str = "boot/isolinux/isolinux.bin";
const MODULE: &str = "boot/isolinux/ldlinux.c32";
const CONFIGURATION: &str = "boot/isolinux/isolinux.cfg";
const INITRD: &str = "boot/initrd.img";
/// What Linux keeps file capabilities in.
const CAPABILITY: &[u8] = b"security.capability";

/// Writes the image and returns its name.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let kernel = uki::kernel(system)?;
    let stage1 = options.component(STAGE1, system.arch)?;
    let isolinux = |path| options.component_file(ISOLINUX, system.arch, path);
    let out = OutputFile::stream(target, ".iso")?;
    warn_of_capabilities(&system.tree, options)?;
    let purpose = Purpose { root: RootKind::Iso9660, verity: false, container: None };
    let initramfs = stage1::initramfs(&stage1, &system.tree, &purpose, options.time)?;
    let finder = System { tree: initramfs.tree, ..system.clone() };
    // A tree holds files with their digests, so the initrd becomes one.
    let scratch = options.store.temporary_folder()?;
    let initrd_path = scratch.path().join("initrd.img");
    let mut initrd = OutputFile::create(&initrd_path)?;
    Initrd::make(&finder, options)?.write(&mut initrd)?;
    initrd.commit()?;
    let task = options.ui.task("write", "iso", None);

    let mut tree = system.tree.clone();
    let mut put = |path: &str, content: Content| {
        let origin = tree.add_origin(Origin { source: "iso-bios".into(), location: "loader".into() });
        let inode = Inode { meta: Meta::root(0o644, options.time), kind: Kind::File(content), origin };
        tree.insert(path.as_bytes(), inode, &Meta::root(0o755, options.time)).map(drop)
    };
    put(PROGRAM, isolinux("usr/lib/ISOLINUX/isolinux.bin")?)?;
    put(MODULE, isolinux("usr/lib/syslinux/modules/bios/ldlinux.c32")?)?;
    put(INITRD, Content::host_file(&initrd_path)?)?;
    put(CONFIGURATION, Content::bytes(kernel.cmdline.as_bytes()))?;
    let mut iso_options = IsoOptions {
        label: String::new(),
        time: options.time,
        joliet: false,
        boot: vec![BootImage::Program(PROGRAM.as_bytes().to_vec())],
        hybrid: Some(Hybrid { boot_code: isolinux("usr/lib/ISOLINUX/isohdpfx.bin")?.read(BOOT_CODE_LIMIT)? }),
    };
    // The name comes from everything that is in the image but itself.
    iso_options.label = label(&Iso::new(&tree, &iso_options)?.identity());
    // In front, so that the blueprint's own `root=` wins.
    let command_line = format!("root=LABEL={} {}", iso_options.label, kernel.cmdline);
    let configuration = bios::configuration("/boot/kernel", &format!("/{INITRD}"), &command_line)?;
    let place = tree.lookup(CONFIGURATION.as_bytes());
    if let Some(id) = place {
        tree.inode_mut(id).kind = Kind::File(Content::bytes(configuration.into_bytes()));
    }
    let iso = Iso::new(&tree, &iso_options)?;
    let file =
        out.file().ok_or_else(|| Error::usage("iso-bios cannot go to standard output").hint("use --dir and --name"))?;
    sparse::write(&iso, Output::new(file, out.path())?)?;
    task.advance(iso.size());
    Ok(vec![out.commit()?])
}

/// A name that no other image has.
fn label(identity: &Digest) -> String {
    let hex = identity.hex().to_uppercase();
    format!("MOBY-{}", hex.get(..16).unwrap_or(&hex))
}

fn warn_of_capabilities(tree: &Tree, options: &Options<'_>) -> Result<()> {
    tree.walk_all(|path, id| {
        if tree.inode(id).meta.xattrs.iter().any(|(name, _)| name == CAPABILITY) {
            options.ui.warn(format!(
                "/{} loses its file capabilities: ISO 9660 has no extended attributes",
                path.escape_ascii()
            ));
        }
        Ok(())
    })
}
