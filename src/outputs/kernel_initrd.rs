//! `kernel+initrd`: `NAME-kernel`, `NAME-initrd.img`, `NAME-cmdline`. A blueprint without a kernel gives the initrd
//! alone, as LinuxKit does.

use std::path::PathBuf;

use super::{Format, Options, OutputFile, System, Target, initrd};
use crate::error::{Error, Result};
use crate::rootfs::{Content, write_error};

/// Writes the files and returns their names.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let Target::Base(base) = target else {
        return Err(Error::usage("kernel+initrd makes several files and cannot go to one stream"));
    };
    let names = Format::KernelInitrd.files(base);
    let mut files = Vec::new();
    if let Some(kernel) = &system.kernel {
        files.push(file(&names[0], &kernel.image)?);
    }
    let mut out = OutputFile::create(&names[1])?;
    initrd::write(system, &mut out, options)?;
    files.push(out);
    if let Some(kernel) = &system.kernel {
        files.push(file(&names[2], &Content::bytes(kernel.cmdline.as_bytes()))?);
    }
    OutputFile::commit_all(files)
}

fn file(path: &std::path::Path, content: &Content) -> Result<OutputFile> {
    let mut out = OutputFile::create(path)?;
    content.copy_to(&mut out)?;
    std::io::Write::flush(&mut out).map_err(write_error)?;
    Ok(out)
}
