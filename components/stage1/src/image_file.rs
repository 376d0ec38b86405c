//! A root that is a file of another file system, as a loop device.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::error::{Doing, Failure, Result};
use crate::sys::{LOOP_CONFIGURATION, configure_loop, free_loop_device};

const READ_ONLY: u32 = 1;
/// The device goes when nobody uses it any more.
const AUTOCLEAR: u32 = 4;

/// A file that is seen as a device. The device stays while this, a mount or a mapping of it is there.
#[derive(Debug)]
pub struct ImageFile {
    /// The device's node.
    pub node: PathBuf,
    _device: File,
}

impl ImageFile {
    /// Makes a device of `file`, which is a path inside of the file system that is mounted on `folder`.
    pub fn open(folder: &Path, file: &str) -> Result<ImageFile> {
        let image = open_inside(folder, file)?;
        let size = image.metadata().doing(format_args!("looking at {file}"))?.len();
        if size == 0 || !size.is_multiple_of(512) {
            return Err(Failure::new(format!("{file} has {size} bytes, which is no whole number of sectors (512)")));
        }
        let path = Path::new("/dev/loop-control");
        let control = OpenOptions::new().read(true).write(true).open(path).map_err(|error| {
            Failure::new(format!(
                "opening {}: {error}: loop devices (CONFIG_BLK_DEV_LOOP, module loop) are neither in the kernel nor in \
                 this initramfs",
                path.display()
            ))
        })?;
        let number = free_loop_device(control.as_fd()).doing("asking for a loop device")?;
        let node = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::open(&node).at("opening", &node)?;
        let configuration = configuration(image.as_raw_fd(), file);
        configure_loop(device.as_fd(), &configuration).doing(format_args!("binding {file} to {}", node.display()))?;
        Ok(ImageFile { node, _device: device })
    }
}

/// Opens a file below `folder`; links cannot lead out of it.
fn open_inside(folder: &Path, file: &str) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let root = File::open(folder).at("opening", folder)?;
    let opened: Result<OwnedFd, Errno> = openat2(&root, file, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    match opened {
        Ok(descriptor) => Ok(File::from(descriptor)),
        Err(Errno::NOENT) => {
            let mut names: Vec<String> = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .take(20)
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            Err(Failure::new(format!("{file} is not there; the file system has: {}", names.join(" "))))
        }
        Err(error) => Err(error).doing(format_args!("opening {file}")),
    }
}

/// `struct loop_config` (linux/loop.h): the file, and of the information flags and name.
fn configuration(file: i32, name: &str) -> [u8; LOOP_CONFIGURATION] {
    let mut bytes = [0; LOOP_CONFIGURATION];
    let mut put = |at: usize, value: &[u8]| {
        bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
    };
    put(0, &file.to_ne_bytes());
    put(8 + 52, &(READ_ONLY | AUTOCLEAR).to_ne_bytes());
    put(8 + 56, name.as_bytes().get(..63).unwrap_or(name.as_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let bytes = configuration(5, &"x".repeat(100));
        assert_eq!((bytes[0], bytes[60], bytes[64], bytes[126], bytes[127]), (5, 5, b'x', b'x', 0));
        assert_eq!(&configuration(5, "/root")[64..70], b"/root\0");
    }

    #[test]
    fn stays_inside() {
        let folder = std::env::temp_dir().join(format!("stage1-inside-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("out")).unwrap();
        let failure = open_inside(&folder, "/out").unwrap_err().to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(failure, "/out is not there; the file system has: out");
    }
}
