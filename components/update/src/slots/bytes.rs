//! Numbers and identifiers in bytes that come from a disk. What lies outside reads as nothing.

/// `length` bytes from `at` on.
pub fn slice(bytes: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(length)?)
}

/// Writes `value` at `at`, if it fits.
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let end = at.saturating_add(value.len());
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(value);
    }
}

/// A little-endian number of 16 bits.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*slice(bytes, at, 2)?.first_chunk()?))
}

/// A little-endian number of 32 bits.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*slice(bytes, at, 4)?.first_chunk()?))
}

/// A little-endian number of 64 bits.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*slice(bytes, at, 8)?.first_chunk()?))
}

/// Lower-case hexadecimal digits, two for a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The 32 bytes that 64 hexadecimal digits stand for.
pub fn hash_from_hex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// A UUID in the order of its text becomes a GUID as a GPT stores it, and the other way round: the first three fields are
/// little-endian (UEFI 2.10, appendix A).
pub fn swap_guid(guid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let mut out = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    put(&mut out, 8, &rest);
    out
}

/// CRC-32 as Ethernet has it (reversed polynomial 0xEDB88320), bit by bit: 16 KiB take under a millisecond.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        let bytes: [u8; 16] = std::array::from_fn(|at| at as u8);
        assert_eq!(swap_guid(bytes)[..9], [3, 2, 1, 0, 5, 4, 7, 6, 8]);
        assert_eq!(swap_guid(swap_guid(bytes)), bytes);
        assert_eq!(hash_from_hex(&"0f".repeat(32)), Some([15; 32]));
        assert_eq!((hash_from_hex("0f"), hash_from_hex(&"+f".repeat(32))), (None, None));
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
