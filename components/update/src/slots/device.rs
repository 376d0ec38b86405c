//! Where disks are read and written: block devices, and files with images of disks.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use rustix::io::Errno;

/// Bytes of a sector. Disks with sectors of 4096 bytes have other tables, and are refused by their reader.
pub const SECTOR: u64 = 512;

/// Attempts at the lock of a disk: a minute. A table is written in less than a second.
const TRIES: u32 = 1200;
const BETWEEN: Duration = Duration::from_millis(50);

/// A disk. Offsets are in bytes.
pub trait Device: Debug {
    /// Bytes that it has.
    fn size(&self) -> u64;

    /// Fills `bytes` from `at` on.
    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `at`. After a power failure each sector of 512 bytes may be there or not until [`Device::flush`].
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything that was written is on the disk.
    fn flush(&self) -> io::Result<()>;

    /// Has the next reading of this part come from the disk, as far as the system can be told.
    fn forget(&self, at: u64, length: u64);

    /// Returns when no other program changes the partition table, and keeps them away until [`Device::unlock`].
    fn lock(&self) -> io::Result<()>;

    /// Lets other programs change the partition table.
    fn unlock(&self);
}

/// Reads `length` bytes.
pub fn bytes_at(device: &dyn Device, at: u64, length: usize) -> io::Result<Vec<u8>> {
    if at.checked_add(length as u64).is_none_or(|end| end > device.size()) {
        return Err(io::Error::other(format!("byte {at} and {length} more are beyond the end, {}", device.size())));
    }
    let mut bytes = vec![0; length];
    device.read(at, &mut bytes)?;
    Ok(bytes)
}

/// A block device or a file.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    size: u64,
}

impl FileDevice {
    /// Takes an open file; its size does not change from now on.
    pub fn new(mut file: File) -> io::Result<FileDevice> {
        // The metadata of a block device tells no size.
        let size = file.seek(SeekFrom::End(0))?;
        Ok(FileDevice { file, size })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Device for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::Error::other("writing beyond the end of the disk"));
        }
        self.file.write_all_at(bytes, at)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn forget(&self, at: u64, length: u64) {
        // Advice: a file in memory has nothing to forget, and says so.
        let _ = fadvise(&self.file, at, NonZeroU64::new(length), Advice::DontNeed);
    }

    /// flock(2) of the whole disk, which programs that write partition tables agree on; udev takes it for looking at one.
    fn lock(&self) -> io::Result<()> {
        for _ in 0..TRIES {
            match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(BETWEEN),
                other => return Ok(other?),
            }
        }
        Err(io::Error::other("another program has kept the disk locked for a minute"))
    }

    fn unlock(&self) {
        // Closing the file does the same.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}
