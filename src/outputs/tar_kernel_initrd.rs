//! `tar-kernel-initrd`: `NAME-initrd.tar` with `kernel`, `initrd.img`, `cmdline` and, if there is one, `ucode.cpio`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use super::initrd::Initrd;
use super::{Options, OutputFile, System, Target};
use crate::error::{Error, IoContext, Result};
use crate::formats::tar::{Member, MemberKind, Writer};
use crate::rootfs::{Content, write_error};
use crate::store::Xattrs;

/// Writes the archive and returns its name.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    if matches!(target, Target::Stdout) {
        return Err(Error::usage("tar-kernel-initrd cannot go to standard output").hint("use --dir and --name"));
    }
    // The initrd's size stands in the archive before its bytes, so it is made first, in the store.
    let scratch = options.store.temporary_folder()?;
    let path = scratch.path().join("initrd.img");
    let mut initrd_file = OutputFile::create(&path)?;
    // Microcode is a member of its own here.
    let ucode = system.kernel.as_ref().and_then(|kernel| kernel.ucode.clone());
    let mut bare = system.clone();
    if let Some(kernel) = &mut bare.kernel {
        kernel.ucode = None;
    }
    Initrd::make(&bare, options)?.write(&mut initrd_file)?;
    initrd_file.commit()?;

    let mut tar = Writer::new(OutputFile::stream(target, "-initrd.tar")?);
    if let Some(kernel) = &system.kernel {
        content(&mut tar, b"kernel", &kernel.image, options.time)?;
    }
    let size = path.metadata().at("reading", &path)?.len();
    member(&mut tar, b"initrd.img", size, options.time)?;
    std::io::copy(&mut File::open(&path).at("opening", &path)?, &mut tar).map_err(write_error)?;
    if let Some(kernel) = &system.kernel {
        content(&mut tar, b"cmdline", &Content::bytes(kernel.cmdline.as_bytes()), options.time)?;
    }
    if let Some(ucode) = &ucode {
        content(&mut tar, b"ucode.cpio", ucode, options.time)?;
    }
    Ok(vec![tar.finish().map_err(write_error)?.commit()?])
}

fn content<W: Write>(tar: &mut Writer<W>, name: &[u8], content: &Content, time: i64) -> Result<()> {
    member(tar, name, content.size, time)?;
    content.copy_to(tar)
}

fn member<W: Write>(tar: &mut Writer<W>, path: &[u8], size: u64, mtime: i64) -> Result<()> {
    let xattrs = Xattrs::new();
    let kind = MemberKind::File(size);
    tar.member(&Member { path, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: &xattrs, records: &[], kind })
        .map_err(write_error)
}
