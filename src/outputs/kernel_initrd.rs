//! `kernel+initrd`: `NAME-kernel`, `NAME-initrd.img`, `NAME-cmdline`. A blueprint without a kernel gives the initrd
//! alone, as LinuxKit does.

use std::path::PathBuf;

use super::file::holds;
use super::initrd::Initrd;
use super::{Format, Options, OutputFile, System, Target};
use crate::error::{Error, Result};
use crate::rootfs::Content;

/// Writes the files and returns their names.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let Target::Base(base) = target else {
        return Err(Error::usage("kernel+initrd makes several files and cannot go to one stream"));
    };
    let all = Format::KernelInitrd.files(base);
    let [kernel_name, initrd_name, cmdline_name] = all.as_slice() else {
        return Err(Error::failed("kernel+initrd makes three files"));
    };
    // A place that cannot be written is told of before the work.
    let mut out = OutputFile::create(initrd_name)?;
    let initrd = Initrd::make(system, options)?;
    // What is there already, byte for byte, stays: a build of nothing new costs reading it.
    let mut files = Vec::new();
    if let Some(kernel) = &system.kernel {
        let cmdline = Content::bytes(kernel.cmdline.as_bytes());
        for (name, content) in [(kernel_name, &kernel.image), (cmdline_name, &cmdline)] {
            if !holds(name, std::iter::once_with(|| content.open())) {
                files.push(OutputFile::holding(name, content)?);
            }
        }
    }
    if !initrd.is_in(initrd_name) {
        initrd.write(&mut out)?;
        files.push(out);
    }
    OutputFile::commit_all(files)?;
    Ok(if system.kernel.is_some() { all } else { vec![initrd_name.clone()] })
}
