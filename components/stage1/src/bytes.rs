//! Numbers and identifiers in bytes that come from a disk. What lies outside reads as nothing.

/// `length` bytes from `at` on.
pub fn slice(bytes: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(length)?)
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

/// The bytes that hexadecimal digits stand for.
pub fn from_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The text of a UUID whose 16 bytes stand in the order of the text (RFC 9562). All zeros is no UUID.
pub fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.first_chunk::<16>()?;
    if bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let digits = hex(bytes);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    Some([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

/// The text of a GUID as GPT stores it: the first three fields are little-endian (UEFI 2.10, appendix A).
pub fn guid(bytes: &[u8]) -> Option<String> {
    let &[a, b, c, d, e, f, g, h, rest @ ..] = bytes.first_chunk::<16>()?;
    let mut ordered = vec![d, c, b, a, f, e, h, g];
    ordered.extend_from_slice(&rest);
    uuid(&ordered)
}

/// The text up to the first zero byte, without spaces at its end. Empty text is none.
pub fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(..end)?);
    let text = text.trim_end_matches(' ');
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(u16_at(&bytes, 7), Some(0x0908));
        assert_eq!(u32_at(&bytes, 0), Some(0x0403_0201));
        assert_eq!(u64_at(&bytes, 2), None);
        assert_eq!(slice(&bytes, usize::MAX, 2), None);
    }

    #[test]
    fn identifiers() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes).as_deref(), Some("00010203-0405-0607-0809-0a0b0c0d0e0f"));
        assert_eq!(guid(&bytes).as_deref(), Some("03020100-0504-0706-0809-0a0b0c0d0e0f"));
        assert_eq!((uuid(&[0; 16]), guid(&[1; 15])), (None, None));
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(from_hex("00fF"), Some(vec![0, 255]));
        assert_eq!((from_hex("0"), from_hex("+1"), from_hex("0g"), from_hex("éé")), (None, None, None, None));
        assert_eq!(hex(&[0, 255]), "00ff");
    }

    #[test]
    fn texts() {
        assert_eq!(text(b"a b  \0c").as_deref(), Some("a b"));
        assert_eq!((text(b"\0x"), text(b"   ")), (None, None));
    }
}
