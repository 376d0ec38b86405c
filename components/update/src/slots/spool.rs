//! An image from a stream: its parts are needed in another order than they arrive, so it is kept in a file without a
//! name. Zeros take no room there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::device::FileDevice;
use super::failure::{Doing, Result};

const PIECE: usize = 64 << 10;

/// Keeps a stream in a folder until the device is dropped.
pub fn spool(stream: &mut dyn Read, folder: &Path) -> Result<FileDevice> {
    let path = folder.join(format!(".moby-update-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.doing(format_args!("creating {}", path.display()))?;
    std::fs::remove_file(&path).doing(format_args!("removing {}", path.display()))?;
    keep(stream, &mut file).doing(format_args!("keeping the image in {}", folder.display()))?;
    FileDevice::new(file).doing("asking for the size of the image")
}

fn keep(stream: &mut dyn Read, file: &mut File) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(PIECE);
    let mut size = 0;
    loop {
        buffer.clear();
        if stream.take(PIECE as u64).read_to_end(&mut buffer)? == 0 {
            return file.set_len(size);
        }
        size += buffer.len() as u64;
        match buffer.iter().all(|byte| *byte == 0) {
            true => file.seek(SeekFrom::Start(size)).map(drop)?,
            false => file.write_all(&buffer)?,
        }
    }
}
