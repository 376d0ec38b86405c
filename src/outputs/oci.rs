//! `oci`: `NAME-oci.tar`, an OCI image layout with the root file system as an image for containers (`latest`), and with
//! kernel, initrd and command line as an artefact for machines (`boot`).

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::initrd::Initrd;
use super::{Options, OutputFile, System, Target};
use crate::error::{Error, Result};
use crate::formats::oci::{Boot, Image, Layout, write_layer};
use crate::rootfs::{Content, Kind, Tree, write_error};

/// Where init starts in a container (LinuxKit's and ours); else any init.
const INITS: [&str; 3] = ["/bin/rc.init", "/sbin/init", "/init"];

/// Writes the archive and returns its name.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    if matches!(target, Target::Stdout) {
        return Err(Error::usage("oci cannot go to standard output").hint("use -o with a file's name"));
    }
    let out = OutputFile::stream(target, "-oci.tar")?;
    let mut layout = Layout::new();
    let layer_file = options.store.temporary_file()?;
    let task = options.ui.task("compress", "layer", None);
    let layer = write_layer(&system.tree, layer_file.as_file(), layer_file.path(), |bytes| task.advance(bytes))?;
    let entrypoint = entrypoint(&system.tree);
    layout.image("latest", &Image { arch: system.arch, layer: &layer, entrypoint, time: options.time })?;

    let scratch = options.store.temporary_folder()?;
    if let Some(kernel) = &system.kernel {
        let path = scratch.path().join("initrd.img");
        let mut initrd = OutputFile::create(&path)?;
        Initrd::make(system, options)?.write(&mut initrd)?;
        initrd.commit()?;
        let boot = Boot {
            arch: system.arch,
            kernel: kernel.image.clone(),
            initrd: Content::host_file(&path)?,
            command_line: Content::bytes(kernel.cmdline.as_bytes()),
        };
        layout.boot("boot", &boot)?;
    }
    let mut out = BufWriter::with_capacity(256 << 10, out);
    layout.write(&mut out, options.time)?;
    out.flush().map_err(write_error)?;
    let out = out.into_inner().map_err(|error| write_error(error.into_error()))?;
    Ok(vec![out.commit()?])
}

fn entrypoint(tree: &Tree) -> Vec<String> {
    let is_file = |path: &&str| {
        let id = tree.resolve(path.trim_start_matches('/').as_bytes());
        id.is_some_and(|id| matches!(tree.inode(id).kind, Kind::File(_)))
    };
    INITS.iter().find(|path| is_file(path)).map(|path| vec![(*path).to_owned()]).unwrap_or_default()
}
