//! The root file system of one image as a tar archive: what `moby cache export --format filesystem` writes.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::{OutputFile, Target};
use crate::error::Result;
use crate::formats::tar::{Writer, write_tree};
use crate::rootfs::{flatten, write_error};
use crate::store::Layer;

/// Flattens layers, lowest first, and writes the tree. `time` is given to folders that no layer has an entry for.
pub fn write_filesystem(layers: &[Layer], time: i64, target: &Target) -> Result<PathBuf> {
    let tree = flatten(layers, time)?;
    let out = OutputFile::stream(target, ".tar")?;
    let mut tar = Writer::new(BufWriter::with_capacity(256 << 10, out));
    write_tree(&tree, &mut tar, false, |_| {})?;
    let mut out = tar.finish().map_err(write_error)?;
    out.flush().map_err(write_error)?;
    let out = out.into_inner().map_err(|error| write_error(error.into_error()))?;
    out.commit()
}
