//! The checksum of an executable's header.

use std::io::{self, Write};

/// Sums an executable up as `CheckSumMappedFile` does: its 16-bit words with the carry added back, the checksum field
/// taken as zero, and the number of bytes. Firmware does not look at it; signing tools compare it.
#[derive(Clone, Debug)]
pub struct Checksum {
    /// Offset of the field.
    field: u64,
    position: u64,
    sum: u64,
}

impl Checksum {
    /// The sum of nothing yet; `field` is the offset of the checksum in the file, which is even.
    pub fn new(field: usize) -> Checksum {
        Checksum { field: field as u64, position: 0, sum: 0 }
    }

    /// The checksum of all that was written.
    pub fn finish(&self) -> u32 {
        let mut sum = self.sum;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // The field has 32 bits; files of 4 GiB and more are no executables.
        (sum + self.position) as u32
    }

    fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.position % 2 == 1
            && let Some((first, others)) = rest.split_first()
        {
            self.sum += u64::from(*first) << 8;
            rest = others;
        }
        // Words of 32 bits give the same sum once they are folded, in half the steps. The sum cannot overflow: 2^32
        // words of 2^32 are 16 GiB of file.
        let words = rest.chunks_exact(4);
        let tail = words.remainder();
        self.sum += words.map(|word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))).sum::<u64>();
        for (at, byte) in tail.iter().enumerate() {
            self.sum += u64::from(*byte) << (8 * (at % 2));
        }
        self.position += bytes.len() as u64;
    }
}

impl Checksum {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        // The field and what is around it, if it lies in these bytes.
        let start = self.field.saturating_sub(self.position).min(bytes.len() as u64) as usize;
        let end = (self.field + 4).saturating_sub(self.position).min(bytes.len() as u64) as usize;
        self.add(&bytes[..start]);
        self.add(&[0; 4][..end - start]);
        self.add(&bytes[end..]);
    }

    /// Adds what replaces zeros at an even place of what was added before.
    pub fn add_elsewhere(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            self.sum += pair.iter().enumerate().map(|(at, byte)| u64::from(*byte) << (8 * at)).sum::<u64>();
        }
    }
}

impl Write for Checksum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_matter() {
        let bytes: Vec<u8> = (0..1000u32).map(|number| (number * 7 % 251) as u8).collect();
        let of = |piece: usize| {
            let mut sum = Checksum::new(100);
            bytes.chunks(piece).for_each(|piece| sum.write_all(piece).unwrap());
            sum.finish()
        };
        let mut plain = 0u64;
        for (at, pair) in bytes.chunks(2).enumerate() {
            if !(50..52).contains(&at) {
                plain += u64::from(pair[0]) | u64::from(pair[1]) << 8;
            }
        }
        plain = (plain & 0xffff) + (plain >> 16);
        plain = (plain & 0xffff) + (plain >> 16);
        for piece in [1, 2, 3, 7, 99, 103, 1000] {
            assert_eq!(of(piece), plain as u32 + 1000, "in pieces of {piece}");
        }
    }
}
