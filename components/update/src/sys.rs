//! The system calls that rustix has no safe form of. The only unsafe code of this program.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BLKPG` and its commands (linux/blkpg.h).
const BLKPG: u32 = 0x1269;
const ADD: i32 = 1;
const RESIZE: i32 = 3;

/// `struct blkpg_partition`. Bytes, not sectors.
#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    command: i32,
    flags: i32,
    length: i32,
    data: *mut Partition,
}

/// Tells the kernel of a partition of a disk that is in use; `start` and `length` are in bytes.
pub fn add_partition(disk: BorrowedFd<'_>, number: u32, start: u64, length: u64) -> io::Result<()> {
    change(disk, ADD, number, start, length)
}

/// Tells the kernel that a partition has become larger.
pub fn resize_partition(disk: BorrowedFd<'_>, number: u32, start: u64, length: u64) -> io::Result<()> {
    change(disk, RESIZE, number, start, length)
}

fn change(disk: BorrowedFd<'_>, command: i32, number: u32, start: u64, length: u64) -> io::Result<()> {
    let wrong = |_| io::Error::other("a partition with impossible numbers");
    let mut partition = Partition {
        start: i64::try_from(start).map_err(wrong)?,
        length: i64::try_from(length).map_err(wrong)?,
        number: i32::try_from(number).map_err(wrong)?,
        names: [0; 128],
    };
    let size = size_of::<Partition>() as i32;
    let mut argument = Argument { command, flags: 0, length: size, data: &raw mut partition };
    // SAFETY: the kernel reads the argument and the partition that it points to, both valid for the call, and keeps no
    // pointer to either.
    match unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw mut argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
