//! Bytes as PEM (RFC 7468).

/// DER as text between lines that say what it is, such as `CERTIFICATE`.
pub fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = format!("-----BEGIN {label}-----\n");
    // 48 bytes are a line of 64 digits.
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bytes = [group[0], group.get(1).copied().unwrap_or(0), group.get(2).copied().unwrap_or(0)];
            let number = u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2]);
            for at in 0..4 {
                let digit = DIGITS[(number >> (18 - 6 * at)) as usize & 63];
                out.push(if at <= group.len() { digit as char } else { '=' });
            }
        }
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_padding() {
        assert_eq!(pem("X", b"abc"), "-----BEGIN X-----\nYWJj\n-----END X-----\n");
        assert_eq!(pem("X", b"abcd").lines().nth(1), Some("YWJjZA=="));
        assert_eq!(pem("X", b"abcde").lines().nth(1), Some("YWJjZGU="));
        assert!(pem("X", &[0; 200]).lines().all(|line| line.len() <= 64));
    }
}
