//! `tar`: the root file system as one archive, sorted, each path once, hard links and extended attributes kept.
//!
//! Every entry carries where it comes from as `LINUXKIT.source` and `LINUXKIT.location`, LinuxKit's own records.

use std::io::BufWriter;
use std::path::PathBuf;

use super::{Options, OutputFile, System, Target};
use crate::error::Result;
use crate::formats::tar::{Writer, write_tree};
use crate::rootfs::write_error;

/// Writes the archive and returns its name.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let out = OutputFile::stream(target, ".tar")?;
    let task = options.ui.task("write", "tar", None);
    let mut tar = Writer::new(BufWriter::with_capacity(256 << 10, out));
    write_tree(&system.tree, &mut tar, true, |bytes| task.advance(bytes))?;
    let out = tar.finish().map_err(write_error)?;
    let out = out.into_inner().map_err(|error| write_error(error.into_error()))?;
    Ok(vec![out.commit()?])
}
