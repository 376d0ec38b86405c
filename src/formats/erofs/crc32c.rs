//! CRC-32C (Castagnoli), as the superblock's checksum has it: no inversion at the end.

/// The reversed polynomial 0x1EDC6F41 (RFC 3720, section 12.1).
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// Continues a checksum over `bytes`. The superblock's starts with `u32::MAX`.
pub(super) fn update(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| TABLE[((state ^ u32::from(*byte)) & 255) as usize] ^ state >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and ascending.
        assert_eq!(!update(u32::MAX, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!update(u32::MAX, &[0xff; 32]), 0x62a8_ab43);
        assert_eq!(!update(u32::MAX, &std::array::from_fn::<u8, 32, _>(|at| at as u8)), 0x46dd_794e);
        assert_eq!(!update(u32::MAX, b"123456789"), 0xe306_9283);
    }
}
