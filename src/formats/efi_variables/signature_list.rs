//! Lists of certificates (UEFI 2.10, 32.4.1), what PK, KEK and db hold.

use crate::formats::gpt::Guid;

/// `EFI_CERT_X509_GUID`.
const X509: Guid = Guid(0xa5c059a1_94e4_4aa7_87b5_ab155c2bf072_u128.to_be_bytes());
/// Bytes of the owner in front of a certificate.
pub const SIGNATURE_OWNER_SIZE: usize = 16;

/// A list of one certificate: type, size of the list, of its header and of an entry, then owner and certificate.
pub fn signature_list(owner: Guid, certificate: &[u8]) -> Vec<u8> {
    const HEADER: usize = 28;
    let entry = SIGNATURE_OWNER_SIZE + certificate.len();
    let mut out = X509.to_disk().to_vec();
    for number in [HEADER + entry, 0, entry] {
        out.extend((number as u32).to_le_bytes());
    }
    out.extend(owner.to_disk());
    out.extend(certificate);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_of_list_and_entry() {
        let list = signature_list(Guid([1; 16]), b"cert");
        assert_eq!(list.len(), 48);
        assert_eq!(list[16..28], [48, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0]);
        assert_eq!(list[..4], [0xa1, 0x59, 0xc0, 0xa5]);
    }
}
