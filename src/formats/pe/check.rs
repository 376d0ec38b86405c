//! Checking an executable beyond what reading its headers does.

use super::checksum::Checksum;
use super::format::{Headers, u32_at};
use super::reader::read;
use crate::error::{Error, Result};
use crate::formats::disk::{Cursor, DiskImage};

/// Pages of the machine: firmware protects memory in these.
const PAGE: u64 = 4096;

/// An executable whose headers and checksum were checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The headers.
    pub headers: Headers,
    /// The checksum that the headers have, which is the right one. `None`: they have none, as tools leave it that do not
    /// compute it.
    pub checksum: Option<u32>,
    /// Sections that share a page in memory: firmware that protects pages may stop there.
    pub shared_page: Option<(String, String)>,
}

/// Reads an executable and checks its checksum, and that its sections do not overlap in memory and lie within the
/// image's size there.
pub fn check(image: &dyn DiskImage) -> Result<Checked> {
    let refused = |what: String| Error::refused(format!("the EFI executable has {what}"));
    let headers = read(&mut Cursor::new(image))?;
    let mut places: Vec<(u64, u64, String)> = headers
        .sections
        .iter()
        .map(|section| {
            let start = u64::from(section.virtual_address);
            let end = start + u64::from(section.virtual_size);
            (start, end, section.name.escape_ascii().to_string())
        })
        .filter(|(start, end, _)| start < end)
        .collect();
    places.sort();
    let mut shared_page = None;
    for pair in places.windows(2) {
        let ((_, end, first), (start, _, second)) = (&pair[0], &pair[1]);
        if start < end {
            return Err(refused(format!("sections {first} and {second} that overlap in memory at {start:#x}")));
        }
        if start / PAGE < end.div_ceil(PAGE) && shared_page.is_none() {
            shared_page = Some((first.clone(), second.clone()));
        }
    }
    if let Some((_, end, name)) = places.last()
        && *end > u64::from(headers.size_of_image)
    {
        return Err(refused(format!("a section {name} up to {end:#x} in memory of {:#x}", headers.size_of_image)));
    }
    let mut sum = Checksum::new(headers.checksum());
    let mut stated = None;
    let mut buffer = vec![0; 1 << 20];
    let mut position = 0;
    while position < image.size() {
        let length = (image.size() - position).min(buffer.len() as u64) as usize;
        image.read_at(&mut buffer[..length], position)?;
        if position == 0 {
            stated = u32_at(&buffer[..length], headers.checksum());
        }
        sum.update(&buffer[..length]);
        position += length as u64;
    }
    let stated = stated.filter(|stated| *stated != 0);
    match stated {
        Some(stated) if stated != sum.finish() => {
            Err(refused(format!("the checksum {:#010x}, and its headers say {stated:#010x}", sum.finish())))
        }
        _ => Ok(Checked { headers, checksum: stated, shared_page }),
    }
}
