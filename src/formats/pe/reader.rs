//! Reading an executable that may be anything: headers, sections, where the signatures lie.

use std::io::{Read, Seek, SeekFrom, Take};

use super::format::{CERTIFICATES, HEADERS_LIMIT, Headers, Section};
use crate::error::{Error, Result};

/// Reads and checks the headers: sections lie inside the file and do not overlap in it.
pub fn read(image: &mut (impl Read + Seek)) -> Result<Headers> {
    let size = image.seek(SeekFrom::End(0)).map_err(input)?;
    image.seek(SeekFrom::Start(0)).map_err(input)?;
    let mut bytes = Vec::new();
    image.by_ref().take(u64::from(HEADERS_LIMIT)).read_to_end(&mut bytes).map_err(input)?;
    let refused = |what: String| Error::refused(format!("this is no EFI executable: it has {what}"));
    let headers = Headers::decode(&bytes).map_err(refused)?;
    let mut places: Vec<(u64, u64, &Section)> = headers
        .sections
        .iter()
        .filter(|section| section.raw_size > 0)
        .map(|section| {
            (u64::from(section.raw_offset), u64::from(section.raw_offset) + u64::from(section.raw_size), section)
        })
        .collect();
    places.sort_by_key(|(start, ..)| *start);
    let mut end = u64::from(headers.size_of_headers);
    for (start, stop, section) in places {
        let name = section.name.escape_ascii();
        if start < end {
            return Err(refused(format!("a section \"{name}\" at byte {start}, within what ends at byte {end}")));
        }
        if stop > size {
            return Err(refused(format!("a section \"{name}\" up to byte {stop}, and ends at byte {size}")));
        }
        end = stop;
    }
    Ok(headers)
}

/// The section of a name. Of several the first, as systemd's stub takes them.
pub fn section<'h>(headers: &'h Headers, name: &str) -> Option<&'h Section> {
    headers.sections.iter().find(|section| section.name == name.as_bytes())
}

/// A reader of a section's content.
pub fn content<'i, I: Read + Seek>(image: &'i mut I, section: &Section) -> Result<Take<&'i mut I>> {
    image.seek(SeekFrom::Start(u64::from(section.raw_offset))).map_err(input)?;
    Ok(image.take(u64::from(section.size())))
}

/// One line per section, and where the signatures lie.
pub fn dump(headers: &Headers) -> String {
    let mut out = format!(
        "pe machine {:#x} alignment {:#x} file {:#x} headers {:#x} image {:#x}\n",
        headers.machine,
        headers.section_alignment,
        headers.file_alignment,
        headers.size_of_headers,
        headers.size_of_image
    );
    for section in &headers.sections {
        out.push_str(&format!(
            "{:8} memory {:#x}+{:#x} file {:#x}+{:#x} flags {:#x}\n",
            section.name.escape_ascii().to_string(),
            section.virtual_address,
            section.virtual_size,
            section.raw_offset,
            section.raw_size,
            section.characteristics
        ));
    }
    if let Some((offset, size)) = headers.directories.get(CERTIFICATES).filter(|(_, size)| *size > 0) {
        out.push_str(&format!("signatures {offset:#x}+{size:#x}\n"));
    }
    out
}

fn input(error: std::io::Error) -> Error {
    Error::failed(format!("reading the executable: {error}"))
}
