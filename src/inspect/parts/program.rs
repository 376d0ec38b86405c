//! Programs for UEFI: headers, sections, signatures.

use super::super::{Image, chain};
use super::disk::window;
use super::{Content, Opened, Part};
use crate::error::Result;
use crate::formats::disk::{Cursor, DiskImage};
use crate::formats::{authenticode, pe};

/// The part that holds the signatures.
pub const SIGNATURES: &str = "signatures";
/// The field of the checksum, which a signature changes.
pub const CHECKSUM: &str = "checksum";

/// Opens a program. The headers' bytes are shown without the checksum and the place of the signatures, which are fields
/// and a part of their own.
pub fn open(image: &Image) -> Result<Opened> {
    let headers = pe::read(&mut Cursor::new(image))?;
    let mut front = vec![0; u64::from(headers.size_of_headers).min(image.size()) as usize];
    image.read_at(&mut front, 0)?;
    let checksum = pe::u32_at(&front, headers.checksum()).unwrap_or(0);
    for (at, size) in [(headers.checksum(), 4), (headers.directory(pe::CERTIFICATES), 8)] {
        if let Some(place) = front.get_mut(at..at + size) {
            place.fill(0);
        }
    }
    let mut parts = Vec::new();
    for section in &headers.sections {
        let name = section.name.escape_ascii().to_string();
        let content = window(image, u64::from(section.raw_offset), u64::from(section.size()))?;
        parts.push(match name.as_str() {
            ".initrd" => Part::found(name, Vec::new(), content)?,
            _ => Part::leaf(name, Vec::new(), Content::Image(content)),
        });
    }
    parts.push(Part::leaf("headers", Vec::new(), Content::bytes(front)));
    let end = headers.sections.iter().map(|section| u64::from(section.raw_offset) + u64::from(section.raw_size)).max();
    let end = end.unwrap_or(0).max(u64::from(headers.size_of_headers));
    if end < image.size() {
        let signers = authenticode::read(image).map(|found| {
            let names: Vec<_> = found.signatures.into_iter().map(|signature| signature.signer.subject).collect();
            names.join("; ")
        });
        let fields = vec![("signer", signers.unwrap_or_else(|error| format!("none that is valid: {error}")))];
        parts.push(Part::leaf(SIGNATURES, fields, Content::Image(window(image, end, image.size() - end)?)));
    }
    Ok(Opened { fields: vec![(CHECKSUM, format!("{checksum:#010x}"))], parts })
}

/// The text of a section, if it is one that is text.
pub fn text(part: &Part) -> Option<String> {
    let is_text = matches!(part.name.as_str(), ".cmdline" | ".osrel" | ".uname" | ".sbat");
    match &part.content {
        Content::Image(image) if is_text && image.size() <= chain::TEXT_LIMIT => {
            let mut bytes = vec![0; image.size() as usize];
            image.read_at(&mut bytes, 0).ok()?;
            String::from_utf8(bytes).ok()
        }
        _ => None,
    }
}
