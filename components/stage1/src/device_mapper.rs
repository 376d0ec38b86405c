//! The device mapper: one device with one target (linux/dm-ioctl.h, interface version 4).

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::bytes::u64_at;
use crate::error::{Doing, Failure, Result};
use crate::sys::{DEVICE_MAPPER_HEAD, device_mapper};

const CREATE: u8 = 3;
const REMOVE: u8 = 4;
const SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;

const READ_ONLY: u32 = 1;

/// `struct dm_ioctl`: where its fields are.
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const FLAGS: usize = 28;
const DEVICE: usize = 40;
const NAME: usize = 48;
const NAME_LENGTH: usize = 128;
const UUID: usize = 176;
const UUID_LENGTH: usize = 129;

/// A read-only device of the device mapper.
#[derive(Debug)]
pub struct Mapping<'m> {
    /// Its name.
    pub name: &'m str,
    /// Its identifier, by which others know what it is.
    pub uuid: &'m str,
    /// The kind of its one target.
    pub target: &'m str,
    /// The target's parameters.
    pub parameters: &'m str,
    /// Sectors of 512 bytes.
    pub sectors: u64,
}

impl Mapping<'_> {
    /// Makes the device and gives its node.
    pub fn create(&self) -> Result<PathBuf> {
        let path = Path::new("/dev/mapper/control");
        let control = OpenOptions::new().read(true).write(true).open(path).map_err(|error| {
            Failure::new(format!(
                "opening {}: {error}: the device mapper (CONFIG_BLK_DEV_DM, module dm-mod) is neither in the kernel nor \
                 in this initramfs",
                path.display()
            ))
        })?;
        let control = control.as_fd();
        let mut created = self.message(0, &[]);
        // Other commands take a name or a UUID, and not both.
        put(&mut created, UUID, &cut(self.uuid, UUID_LENGTH));
        device_mapper(control, CREATE, &mut created).doing("creating a device of the device mapper")?;
        let mut table = self.message(READ_ONLY, &self.target());
        let mut resume = self.message(READ_ONLY, &[]);
        let started = device_mapper(control, TABLE_LOAD, &mut table)
            .doing(format_args!("the kernel refuses the {} table \"{}\"", self.target, self.parameters))
            // A suspend without the suspend flag: resume.
            .and_then(|()| device_mapper(control, SUSPEND, &mut resume).doing("starting the device"));
        if let Err(failure) = started {
            let _ = device_mapper(control, REMOVE, &mut self.message(0, &[]));
            return Err(failure);
        }
        let number = u64_at(&created, DEVICE).unwrap_or_default();
        Ok(PathBuf::from(format!("/dev/dm-{}", minor(number))))
    }

    /// A message about this device; `data` is what comes after the head.
    fn message(&self, flags: u32, data: &[u8]) -> Vec<u8> {
        let mut message = vec![0; DEVICE_MAPPER_HEAD];
        let length = DEVICE_MAPPER_HEAD + data.len();
        put(&mut message, 0, &4_u32.to_ne_bytes());
        put(&mut message, DATA_SIZE, &(length as u32).to_ne_bytes());
        put(&mut message, DATA_START, &(DEVICE_MAPPER_HEAD as u32).to_ne_bytes());
        put(&mut message, TARGET_COUNT, &u32::from(!data.is_empty()).to_ne_bytes());
        put(&mut message, FLAGS, &flags.to_ne_bytes());
        put(&mut message, NAME, &cut(self.name, NAME_LENGTH));
        message.extend_from_slice(data);
        message
    }

    /// `struct dm_target_spec` and the parameters, which end with zero.
    fn target(&self) -> Vec<u8> {
        let mut target = vec![0; 40];
        put(&mut target, 8, &self.sectors.to_ne_bytes());
        put(&mut target, 24, &cut(self.target, 16));
        target.extend_from_slice(self.parameters.as_bytes());
        target.resize((target.len() + 1).next_multiple_of(8), 0);
        target
    }
}

/// Text for a field of `length` bytes that must end with zero.
fn cut(text: &str, length: usize) -> Vec<u8> {
    text.bytes().take(length - 1).collect()
}

fn put(message: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in message.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// The minor number in the kernel's 64-bit form (`huge_encode_dev`).
fn minor(device: u64) -> u64 {
    device & 0xff | (device >> 12) & 0xf_ff00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let mapping = Mapping { name: "root", uuid: "x", target: "verity", parameters: "1 2", sectors: 800 };
        let message = mapping.message(READ_ONLY, &mapping.target());
        assert_eq!(message.len(), 312 + 48);
        assert_eq!(message[12..16], 360_u32.to_ne_bytes());
        assert_eq!(&message[48..53], b"root\0");
        assert_eq!(message[312 + 8..312 + 16], 800_u64.to_ne_bytes());
        assert_eq!(&message[312 + 24..312 + 31], b"verity\0");
        assert_eq!(&message[312 + 40..], b"1 2\0\0\0\0\0");
        assert_eq!(mapping.message(0, &[])[20..24], [0; 4]);
    }

    #[test]
    fn long_names_still_end() {
        let name = "n".repeat(300);
        let mapping = Mapping { name: &name, uuid: &name, target: "verity", parameters: "", sectors: 1 };
        let message = mapping.message(0, &[]);
        assert_eq!((message.len(), message[48 + 126], message[48 + 127]), (312, b'n', 0));
    }

    #[test]
    fn numbers() {
        assert_eq!(minor(0xfd00), 0);
        assert_eq!(minor(253 << 8 | 7), 7);
        assert_eq!(minor(0x0010_fd02), 0x102);
    }
}
