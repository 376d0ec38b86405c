//! The system calls that rustix has no safe form of. The only unsafe code of this program.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of `struct dm_ioctl` (linux/dm-ioctl.h), which begins every message to the device mapper.
pub const DEVICE_MAPPER_HEAD: usize = 312;

/// `_IOWR(0xfd, 0, struct dm_ioctl)`; the command's number is added.
const DEVICE_MAPPER: u32 = 0xc000_fd00 | (DEVICE_MAPPER_HEAD as u32) << 16;

/// `LOOP_CTL_GET_FREE` and `LOOP_CONFIGURE` (linux/loop.h).
const LOOP_FREE: u32 = 0x4c82;
const LOOP_CONFIGURE: u32 = 0x4c0a;

/// Bytes of `struct loop_config`.
pub const LOOP_CONFIGURATION: usize = 304;

/// Sends a message to the device mapper, which writes its answer over it. The message is a `struct dm_ioctl` and what
/// belongs to it; its own length stands in it at offset 12.
pub fn device_mapper(control: BorrowedFd<'_>, command: u8, message: &mut [u8]) -> io::Result<()> {
    let stated = message.get(12..16).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes));
    if message.len() < DEVICE_MAPPER_HEAD || stated.map(u64::from) != Some(message.len() as u64) {
        return Err(io::Error::other("a message to the device mapper with a wrong length"));
    }
    let request = DEVICE_MAPPER | u32::from(command);
    // SAFETY: the kernel reads and writes at most `data_size` bytes (checked above), all inside `message`, and keeps
    // no pointer to it.
    match unsafe { libc::ioctl(control.as_raw_fd(), request as _, message.as_mut_ptr()) } {
        answer if answer >= 0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of a loop device that nobody uses, from /dev/loop-control.
pub fn free_loop_device(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: this command takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_FREE as _) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Binds a file to a loop device. `configuration` is a `struct loop_config`.
pub fn configure_loop(device: BorrowedFd<'_>, configuration: &[u8; LOOP_CONFIGURATION]) -> io::Result<()> {
    // SAFETY: the kernel reads `sizeof(struct loop_config)` bytes, which is the length of the array.
    match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, configuration.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts a key of type `user` into the keyring of this process (add_key(2)).
pub fn add_user_key(description: &std::ffi::CStr, payload: &[u8]) -> io::Result<()> {
    const PROCESS_KEYRING: i32 = -2;
    // SAFETY: both strings end with zero, and the payload is valid for its length; the kernel copies them.
    let key = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            description.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            PROCESS_KEYRING,
        )
    };
    match key {
        key if key > 0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
