//! A factory reset: the data partition gets the name that has it formatted at the next boot.

use super::device::Device;
use super::failure::{Failure, Result};
use super::table::Lock;

/// The name of a data partition that has to be formatted.
pub const RESET: &str = "_reset";

/// Linux data, 0fc63daf-8483-4772-8e79-3d69d8477de4, as stored.
pub const LINUX_DATA: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];

/// Marks the data partition. Gives its number: 4 with one slot, 6 with two.
pub fn request(disk: &dyn Device) -> Result<u32> {
    let lock = Lock::take(disk)?;
    let mut table = lock.read()?;
    let last = table.all().max_by_key(|(number, _)| *number);
    let Some((number @ (4 | 6), mut entry)) = last.filter(|(_, entry)| entry.kind == LINUX_DATA) else {
        return Err(Failure::refused("the disk has no data partition"));
    };
    RESET.clone_into(&mut entry.name);
    table.set(number, &entry);
    table.write(&lock)?;
    Ok(number)
}
