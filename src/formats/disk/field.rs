//! Integers in headers. Reading past the end gives zero: callers have read a structure of fixed size before.

macro_rules! readers {
    ($($name:ident, $type:ty, $from:ident, $what:literal;)*) => {$(
        #[doc = $what]
        pub fn $name(bytes: &[u8], at: usize) -> $type {
            const SIZE: usize = size_of::<$type>();
            bytes.get(at..at + SIZE).and_then(|b| b.try_into().ok()).map_or(0, <$type>::$from)
        }
    )*};
}

readers! {
    be16, u16, from_be_bytes, "A big-endian 16 bit integer at `at`.";
    be32, u32, from_be_bytes, "A big-endian 32 bit integer at `at`.";
    be64, u64, from_be_bytes, "A big-endian 64 bit integer at `at`.";
    le16, u16, from_le_bytes, "A little-endian 16 bit integer at `at`.";
    le32, u32, from_le_bytes, "A little-endian 32 bit integer at `at`.";
    le64, u64, from_le_bytes, "A little-endian 64 bit integer at `at`.";
}

/// Places `value` at `at` of a structure that is being written.
pub fn put(structure: &mut [u8], at: usize, value: &[u8]) {
    structure[at..at + value.len()].copy_from_slice(value);
}
