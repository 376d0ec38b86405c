//! As much DER (X.690) as a signature needs.

/// Tags.
pub mod tag {
    /// INTEGER.
    pub const INTEGER: u8 = 0x02;
    /// BIT STRING.
    pub const BIT_STRING: u8 = 0x03;
    /// OCTET STRING.
    pub const OCTET_STRING: u8 = 0x04;
    /// SEQUENCE.
    pub const SEQUENCE: u8 = 0x30;
    /// SET.
    pub const SET: u8 = 0x31;
    /// A context-specific tag with something built in it.
    pub const fn context(number: u8) -> u8 {
        0xa0 | number
    }
}

/// A value with its tag and length.
pub fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let used = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        out.push(0x80 | used.len() as u8);
        out.extend(used);
    }
    out.extend(parts.concat());
    out
}

/// Values one after another.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

/// A value that was read.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// Its tag.
    pub tag: u8,
    /// What is in it.
    pub content: &'a [u8],
    /// All of it, tag and length included.
    pub whole: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next value; `None` at the end and for what is no DER.
    pub fn next_value(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, start) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let length = rest.get(..count)?.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
            (length, 2 + count)
        };
        let end = start.checked_add(length)?;
        let whole = self.0.get(..end)?;
        self.0 = &self.0[end..];
        Some(Value { tag, content: &whole[start..], whole })
    }

    /// The next value, which must have a tag.
    pub fn expect(&mut self, tag: u8) -> Option<Value<'a>> {
        self.next_value().filter(|value| value.tag == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let bytes = value(tag::OCTET_STRING, &[&content]);
            let mut reader = Reader(&bytes);
            assert_eq!(reader.expect(tag::OCTET_STRING).unwrap().content, content);
            assert!(reader.next_value().is_none());
        }
        assert_eq!(value(tag::SET, &[&[1], &[2; 127]])[..3], [0x31, 0x81, 0x80]);
        for bad in [
            &[0x30][..],
            &[0x30, 0x80],
            &[0x30, 2, 1],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(Reader(bad).next_value().is_none(), "{bad:?}");
        }
    }
}
