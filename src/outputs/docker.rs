//! `docker`: the root file system with a Dockerfile in front, to be piped into `docker build -` or `podman build -`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::{Options, OutputFile, System, Target};
use crate::error::Result;
use crate::formats::tar::{Member, MemberKind, Writer, write_tree};
use crate::rootfs::write_error;
use crate::store::Xattrs;

/// `/bin/rc.init` is where LinuxKit's init starts in a container; the init of this project has that name too.
const DOCKERFILE: &str = "FROM scratch\nCOPY . ./\nENTRYPOINT [\"/bin/rc.init\"]\n";

/// Writes the archive and returns its name.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let out = OutputFile::stream(target, ".docker")?;
    let task = options.ui.task("write", "docker", None);
    let mut archive = Writer::new(BufWriter::with_capacity(256 << 10, out));
    let xattrs = Xattrs::new();
    let kind = MemberKind::File(DOCKERFILE.len() as u64);
    let member = Member {
        path: b"Dockerfile",
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: options.time,
        xattrs: &xattrs,
        records: &[],
        kind,
    };
    archive.member(&member).map_err(write_error)?;
    archive.write_all(DOCKERFILE.as_bytes()).map_err(write_error)?;
    write_tree(&system.tree, &mut archive, true, |bytes| task.advance(bytes))?;
    let out = archive.finish().map_err(write_error)?;
    let out = out.into_inner().map_err(|error| write_error(error.into_error()))?;
    Ok(vec![out.commit()?])
}
