//! What a TPM's PCR 11 will hold once an image was booted, as `systemd-measure` computes it.
//!
//! systemd's stub extends PCR 11 twice for every section it knows: by the digest of the section's name with its zero
//! byte, then by the digest of its content. Which sections it knows, and in what order, depends on its version. Later,
//! systemd's `systemd-pcrphase` in the guest extends the PCR by the words of [`phases`]; a guest without it stays at the
//! first value.

use std::sync::Arc;

use super::Uki;
use crate::error::{Error, Result};
use crate::formats::source::Source;
use crate::store::{Digest, Hasher};

/// Sections that stubs measure, in the order in which they do; each with the first version that does so. The order has
/// not changed over versions, sections came in between. `.pcrsig` is never measured: it is signed over the result.
const MEASURED: [(&str, u32); 13] = [
    (".linux", 252),
    (".osrel", 252),
    (".cmdline", 252),
    (".initrd", 252),
    (".ucode", 257),
    (".splash", 252),
    (".dtb", 252),
    (".uname", 254),
    (".sbat", 254),
    (".pcrpkey", 252),
    (".profile", 257),
    (".dtbauto", 257),
    (".hwids", 257),
];

/// The sections that the stub of a version measures, in order.
pub fn measured(stub_version: u32) -> impl Iterator<Item = &'static str> {
    MEASURED.into_iter().filter(move |(_, since)| stub_version >= *since).map(|(name, _)| name)
}

/// The words that systemd's services extend PCR 11 by, in order (systemd-pcrphase.service(8)).
pub fn phases() -> [&'static str; 5] {
    ["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown"]
}

/// What was predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Version of the stub.
    pub stub_version: u32,
    /// Measured sections with the digests of their contents, in order.
    pub sections: Vec<(String, Digest)>,
    /// PCR 11 of the SHA-256 bank when the kernel starts.
    pub pcr11: Digest,
}

impl Measurement {
    /// PCR 11 after further words.
    pub fn after(&self, words: &[&str]) -> Digest {
        words.iter().fold(self.pcr11, |pcr, word| extend(pcr, Digest::of(word.as_bytes())))
    }
}

/// Predicts PCR 11 for an image. Refuses stubs that do not say which version of systemd they are of.
pub fn measure(uki: &Uki) -> Result<Measurement> {
    let stub_version = uki.stub_version().ok_or_else(|| {
        Error::refused("the EFI stub does not say which version of systemd it is of")
            .hint("PCR 11 can be predicted for the stubs of systemd 252 and newer")
    })?;
    let mut pcr = Digest::from_bytes([0; 32]);
    let mut sections = Vec::new();
    for name in measured(stub_version) {
        let added = uki.sections().find(|section| section.name == name).map(|section| Arc::clone(&section.content));
        let own = || uki.stub_section(name).map(|bytes| Arc::new(bytes.to_vec()) as Arc<dyn Source>);
        let Some(content) = added.or_else(own) else { continue };
        let mut hasher = Hasher::new();
        content.write_to(&mut hasher)?;
        let digest = hasher.finish();
        let mut named = Hasher::new();
        named.update(name.as_bytes());
        named.update(&[0]);
        pcr = extend(extend(pcr, named.finish()), digest);
        sections.push((name.to_owned(), digest));
    }
    Ok(Measurement { stub_version, sections, pcr11: pcr })
}

/// What a TPM makes of a register when it is extended.
fn extend(pcr: Digest, by: Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(pcr.as_bytes());
    hasher.update(by.as_bytes());
    hasher.finish()
}

/// The version of systemd that a stub is of. Every stub says `#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####`: in a
/// section `.sdmagic`, or, where the linker knew no sections beside code and data (252 for ARM64), behind them, where it
/// does not get into images. What it tells the system it starts, `systemd-stub 252...` in UTF-16, is among its data.
pub fn version(stub: &[u8]) -> Option<u32> {
    const MARK: &[u8] = b"#### LoaderInfo: systemd-stub ";
    let wide: Vec<u8> = "systemd-stub ".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let after = |mark: &[u8]| Some(stub.windows(mark.len()).position(|window| window == mark)? + mark.len());
    let digits: Vec<u8> = match after(MARK) {
        Some(at) => stub[at..].iter().copied().take(9).collect(),
        None => stub[after(&wide)?..].chunks_exact(2).take(9).filter(|unit| unit[1] == 0).map(|unit| unit[0]).collect(),
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..count]).ok()?.parse().ok()
}
