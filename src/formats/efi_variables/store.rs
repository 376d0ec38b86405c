//! The flash volume that EDK II keeps variables in (MdeModulePkg, `Guid/VariableFormat.h`; UEFI Platform Initialization
//! 1.7, volume 3, 3.2.1). All numbers are little-endian.

use super::{timestamp, utf16};
use crate::error::{Error, Result};
use crate::formats::gpt::Guid;

/// `EFI_SYSTEM_NV_DATA_FV_GUID`.
const VOLUME: Guid = Guid(0xfff12b8d_7696_4c8b_a985_2747075b4f50_u128.to_be_bytes());
/// `gEfiAuthenticatedVariableGuid`.
const STORE: Guid = Guid(0xaaf32c78_947b_439a_a180_2e144ec37792_u128.to_be_bytes());
/// Bytes of the volume's header with one run of blocks.
const VOLUME_HEADER: usize = 0x48;
/// Bytes of the store's header.
const STORE_HEADER: usize = 28;
/// First word of a variable.
const START: u16 = 0x55aa;
/// State of a variable that is there.
const ADDED: u8 = 0x3f;
/// `VARIABLE_STORE_FORMATTED` and `VARIABLE_STORE_HEALTHY`.
const STATES: [u8; 2] = [0x5a, 0xfe];
/// Bytes at the start of a flash chip that hold its variables: all of OVMF's, and the part of ARM's 64 MiB that is used.
pub const HEAD: u64 = 1 << 20;
/// Bytes of a blank flash's volume: variables, the log of writes and spare blocks, 256 KiB each, as ArmVirtQemu has them.
const BLANK_VOLUME: usize = 0xc_0000;
const BLANK_BLOCK: usize = 0x4_0000;
/// Attributes of that volume (`EFI_FVB2_*`): readable and writable in any place, erased to ones.
const BLANK_ATTRIBUTES: u32 = 0xe36;

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub vendor: Guid,
    /// What may be done with it.
    pub attributes: u32,
    /// Time of the last signed write, in seconds since the epoch; `None` for those that need none.
    pub time: Option<i64>,
    /// Its content.
    pub data: Vec<u8>,
}

impl Variable {
    fn encode(&self) -> Vec<u8> {
        let name = [utf16(&self.name), vec![0, 0]].concat();
        let mut out = START.to_le_bytes().to_vec();
        out.extend([ADDED, 0]);
        out.extend(self.attributes.to_le_bytes());
        out.extend([0; 8]); // the count of monotonic writes, which time replaced
        out.extend(self.time.map_or([0; 16], timestamp));
        out.extend([0; 4]);
        out.extend((name.len() as u32).to_le_bytes());
        out.extend((self.data.len() as u32).to_le_bytes());
        out.extend(self.vendor.to_disk());
        out.extend(name);
        out.extend(&self.data);
        out.resize(out.len().next_multiple_of(4), 0xff);
        out
    }
}

/// The variables of a flash chip.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The first bytes of the chip, at most [`HEAD`].
    flash: Vec<u8>,
    /// Where variables may stand.
    room: std::ops::Range<usize>,
}

impl Volume {
    /// Takes the first [`HEAD`] bytes of the flash of a machine that was never started; the whole chip has `size` bytes.
    /// Refuses what has another layout. A flash of zeros, which ARM's firmware would format itself, is formatted here.
    pub fn open(mut flash: Vec<u8>, size: u64) -> Result<Volume> {
        let refused = |what: &str| Error::refused(format!("this is no variable store that moby knows: {what}"));
        if flash.len() >= BLANK_VOLUME && flash.iter().all(|byte| *byte == 0) {
            format(&mut flash, size);
        }
        let at = |at: usize, count: usize| flash.get(at..at + count).unwrap_or_default();
        if at(16, 16) != VOLUME.to_disk() || at(40, 4) != b"_FVH" {
            return Err(refused("it does not begin with a volume of variables"));
        }
        let sum = at(0, VOLUME_HEADER)
            .chunks_exact(2)
            .fold(0u16, |sum, word| sum.wrapping_add(u16::from_le_bytes([word[0], word[1]])));
        if sum != 0 || at(48, 2) != (VOLUME_HEADER as u16).to_le_bytes() {
            return Err(refused("the header of its volume is damaged"));
        }
        if at(VOLUME_HEADER, 16) != STORE.to_disk() || at(VOLUME_HEADER + 20, 2) != STATES {
            return Err(refused("its variables are not kept in the authenticated format"));
        }
        let size = u32::from_le_bytes(at(VOLUME_HEADER + 16, 4).try_into().unwrap_or_default()) as usize;
        let room = VOLUME_HEADER + STORE_HEADER..VOLUME_HEADER.saturating_add(size);
        if room.end > flash.len() || room.is_empty() {
            return Err(refused("it is cut off"));
        }
        if flash[room.clone()].iter().any(|byte| *byte != 0xff) {
            return Err(refused("it has variables already").hint("an empty one is needed, such as OVMF_VARS_4M.fd"));
        }
        Ok(Volume { flash, room })
    }

    /// The same bytes with these variables.
    pub fn with(mut self, variables: &[Variable]) -> Result<Vec<u8>> {
        let bytes: Vec<u8> = variables.iter().flat_map(Variable::encode).collect();
        if bytes.len() > self.room.len() {
            return Err(Error::refused(format!(
                "the variables need {} bytes, and the firmware has room for {}",
                bytes.len(),
                self.room.len()
            )));
        }
        self.flash[self.room.start..self.room.start + bytes.len()].copy_from_slice(&bytes);
        Ok(self.flash)
    }
}

/// Puts an empty volume at the start.
fn format(flash: &mut [u8], size: u64) {
    flash[..BLANK_VOLUME].fill(0xff);
    let mut header = vec![0; 16];
    header.extend(VOLUME.to_disk());
    header.extend((BLANK_VOLUME as u64).to_le_bytes());
    header.extend(b"_FVH");
    header.extend(BLANK_ATTRIBUTES.to_le_bytes());
    header.extend((VOLUME_HEADER as u16).to_le_bytes());
    header.extend([0, 0, 0, 0, 0, 2]); // checksum, no further header, revision 2
    for number in [size / BLANK_BLOCK as u64, BLANK_BLOCK as u64, 0, 0] {
        header.extend((number as u32).to_le_bytes());
    }
    let sum = header.chunks_exact(2).fold(0u16, |sum, word| sum.wrapping_add(u16::from_le_bytes([word[0], word[1]])));
    header[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    header.extend(STORE.to_disk());
    header.extend(((BLANK_BLOCK - VOLUME_HEADER) as u32).to_le_bytes());
    header.extend(STATES);
    header.extend([0; 6]);
    flash[..header.len()].copy_from_slice(&header);
}

/// Reads the variables of a flash back, for tests and messages. What is damaged ends the list.
#[cfg(test)]
fn variables(flash: &[u8]) -> Vec<(String, usize)> {
    const HEADER: usize = 60;
    let mut out = Vec::new();
    let mut at = VOLUME_HEADER + STORE_HEADER;
    while flash.get(at..at + 2) == Some(&START.to_le_bytes()) {
        let number = |place: usize| u32::from_le_bytes(flash[at + place..at + place + 4].try_into().unwrap()) as usize;
        let (name, data) = (number(36), number(40));
        let units =
            flash[at + HEADER..at + HEADER + name - 2].chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        out.push((String::from_utf16(&units.collect::<Vec<_>>()).unwrap(), data));
        at = (at + HEADER + name + data).next_multiple_of(4);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::efi_variables::{GLOBAL, KEYS};

    fn variable(name: &str, size: usize) -> Variable {
        Variable { name: name.into(), vendor: GLOBAL, attributes: KEYS, time: Some(0), data: vec![7; size] }
    }

    #[test]
    fn a_blank_flash_is_formatted_and_filled() {
        let flash =
            Volume::open(vec![0; 1 << 20], 64 << 20).unwrap().with(&[variable("PK", 5), variable("db", 1)]).unwrap();
        assert_eq!(variables(&flash), [("PK".to_owned(), 5), ("db".to_owned(), 1)]);
        assert_eq!(flash.len(), 1 << 20);
        let error = Volume::open(flash.clone(), 64 << 20).unwrap_err();
        assert!(error.message().contains("variables already"), "{error}");
        let blank = Volume::open(vec![0; 1 << 20], 64 << 20).unwrap();
        assert!(blank.clone().with(&[variable("PK", 1 << 18)]).is_err());
        for at in [16, 40, 52, 80, 93] {
            let mut other = blank.flash.clone();
            other[at] ^= 1;
            assert!(Volume::open(other, 64 << 20).is_err(), "byte {at}");
        }
        for cut in [0, 40, 80, 100, 0x3_ffff] {
            assert!(Volume::open(blank.flash[..cut].to_vec(), 64 << 20).is_err(), "{cut} bytes");
        }
    }
}
