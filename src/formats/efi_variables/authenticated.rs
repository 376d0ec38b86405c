//! Writes of variables that only a key may change: `EFI_VARIABLE_AUTHENTICATION_2` in front of the data (UEFI 2.10,
//! 8.2.2). Firmware takes such a file as it is, from its setup or from a running system.

use super::utf16;
use crate::error::Result;
use crate::formats::authenticode::{Certificate, Key, detached};
use crate::formats::calendar::Civil;
use crate::formats::gpt::Guid;

/// `EFI_CERT_TYPE_PKCS7_GUID`.
const PKCS7: Guid = Guid(0x4aafd29d_68df_49ee_8aa9_347d375665a7_u128.to_be_bytes());
/// `WIN_CERT_REVISION_2_0` and `WIN_CERT_TYPE_EFI_GUID`.
const KIND: [u8; 4] = [0, 2, 0xf1, 0x0e];

/// A write of `data` to a variable at a time (seconds since the epoch), signed by whoever may change it: PK and KEK by
/// PK, db by KEK. Firmware takes no write that is not newer than the last one.
pub fn authenticated(
    (name, vendor, attributes): (&str, Guid, u32),
    data: &[u8],
    time: i64,
    (certificate, key): (&Certificate, &Key),
) -> Result<Vec<u8>> {
    let time = timestamp(time);
    let signed = [&utf16(name)[..], &vendor.to_disk(), &attributes.to_le_bytes(), &time, data].concat();
    let message = detached(&signed, certificate, key)?;
    let length = 8 + 16 + message.len();
    let mut out = time.to_vec();
    out.extend((length as u32).to_le_bytes());
    out.extend(KIND);
    out.extend(PKCS7.to_disk());
    out.extend(message);
    out.extend(data);
    Ok(out)
}

/// `EFI_TIME` in UTC, with everything below the second zero, as signed writes want it.
pub fn timestamp(time: i64) -> [u8; 16] {
    let Civil { year, month, day, hour, minute, second } = Civil::of(time);
    let [low, high] = (year as u16).to_le_bytes();
    let byte = |number: i64| number as u8;
    [low, high, byte(month), byte(day), byte(hour), byte(minute), byte(second), 0, 0, 0, 0, 0, 0, 0, 0, 0]
}
