//! Puts kernel, initrd and command line into systemd's stub.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::formats::pe::{self, CERTIFICATES, Checksum, DEBUG, Headers};
use crate::formats::source::{Sequential, Source};
use crate::store::{Digest, Hasher};

/// Largest stub that is taken; systemd's have 100 KB.
const STUB_LIMIT: usize = 16 << 20;
/// Sections in memory lie at multiples of pages, whatever the stub's own alignment is: systemd 252's says 512, and
/// OVMF with Secure Boot stops where it protects pages that two sections share.
const PAGE: u32 = 4096;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// Largest image: addresses have 32 bits, and firmware takes offsets as signed ones here and there.
const IMAGE_LIMIT: u64 = i32::MAX as u64;

/// A section to be added.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name, a full stop first, at most 8 bytes.
    pub name: String,
    /// What is in it.
    pub content: Arc<dyn Source>,
}

impl Section {
    /// A section of a name.
    pub fn new(name: &str, content: Arc<dyn Source>) -> Section {
        Section { name: name.to_owned(), content }
    }
}

/// A planned unified kernel image.
#[derive(Debug)]
pub struct Uki {
    /// Headers and the stub's own sections, checksum zero.
    front: Vec<u8>,
    headers: Headers,
    /// Added sections with their places.
    sections: Vec<(Section, pe::Section)>,
    stub_version: Option<u32>,
    size: u64,
    identity: Digest,
    checksum: OnceLock<u32>,
}

impl Uki {
    /// Plans an image of a stub and sections, in the order given; `.linux` goes last whatever its place in the list,
    /// because kernels that unpack themselves in place may write behind their end.
    pub fn new(stub: &[u8], sections: Vec<Section>) -> Result<Uki> {
        if stub.len() > STUB_LIMIT {
            return Err(Error::refused(format!(
                "the EFI stub has {} bytes; at most {STUB_LIMIT} are taken",
                stub.len()
            )));
        }
        let headers = pe::read(&mut std::io::Cursor::new(stub)).map_err(|error| error.context("the EFI stub"))?;
        let (last, mut ordered): (Vec<_>, Vec<_>) = sections.into_iter().partition(|section| section.name == ".linux");
        ordered.extend(last);
        check(&headers, &ordered)?;
        let mut hasher = Hasher::new();
        hasher.field(b"uki");
        hasher.field(stub);
        for section in &ordered {
            hasher.field(section.name.as_bytes());
            hasher.field(section.content.identity().as_bytes());
        }
        let mut front = stub_without_tail(stub, &headers)?;
        make_room(&mut front, &headers, ordered.len() as u16)?;
        let headers = pe::read(&mut std::io::Cursor::new(&front)).map_err(|error| error.context("the EFI stub"))?;
        let placed = place(&headers, ordered, front.len())?;
        let size = placed
            .last()
            .map_or(front.len() as u64, |(_, place)| u64::from(place.raw_offset) + u64::from(place.raw_size));
        let mut uki = Uki {
            front,
            headers,
            sections: placed,
            stub_version: super::measure::version(stub),
            size,
            identity: hasher.finish(),
            checksum: OnceLock::new(),
        };
        uki.describe();
        Ok(uki)
    }

    /// The machine that the stub is for, one of `pe::MACHINE_*`.
    pub fn machine(&self) -> u16 {
        self.headers.machine
    }

    /// The added sections.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().map(|(section, _)| section)
    }

    /// The version of systemd that the stub is of, if it says so.
    pub fn stub_version(&self) -> Option<u32> {
        self.stub_version
    }

    /// The bytes of one of the stub's own sections, such as `.sbat`.
    pub fn stub_section(&self, name: &str) -> Option<&[u8]> {
        let section = pe::section(&self.headers, name)?;
        self.front.get(section.raw_offset as usize..)?.get(..section.size() as usize)
    }

    /// Writes what the headers say about the added sections into them.
    fn describe(&mut self) {
        let headers = &self.headers;
        let mut put = |at: usize, bytes: &[u8]| self.front[at..at + bytes.len()].copy_from_slice(bytes);
        let known = headers.sections.len();
        let mut end = headers.sections.iter().map(memory_end).max().unwrap_or(0);
        for (index, (_, place)) in self.sections.iter().enumerate() {
            put(headers.section_headers() + (known + index) * pe::SECTION_HEADER_SIZE, &place.encode());
            end = end.max(memory_end(place));
        }
        put(headers.section_count(), &((known + self.sections.len()) as u16).to_le_bytes());
        let image = end.next_multiple_of(u64::from(headers.section_alignment)) as u32;
        put(headers.image_size(), &image.to_le_bytes());
        // Time, and the symbol table that was cut off with the tail.
        put(headers.start + 8, &[0; 12]);
        put(headers.checksum(), &[0; 4]);
    }

    fn write(&self, checksum: u32, out: &mut dyn Write) -> Result<()> {
        let mut out = Sequential::new(out);
        let at = self.headers.checksum();
        out.bytes(&self.front[..at])?;
        out.bytes(&checksum.to_le_bytes())?;
        out.bytes(&self.front[at + 4..])?;
        for (section, place) in &self.sections {
            out.zeros_to(u64::from(place.raw_offset))?;
            out.source(section.content.as_ref())?;
        }
        out.zeros_to(self.size)
    }
}

impl Source for Uki {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    /// The checksum stands in front of what it sums up, so the first time everything is read twice.
    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let checksum = match self.checksum.get() {
            Some(known) => *known,
            None => {
                let mut sum = Checksum::new(self.headers.checksum());
                self.write(0, &mut sum)?;
                *self.checksum.get_or_init(|| sum.finish())
            }
        };
        self.write(checksum, out)
    }
}

fn check(headers: &Headers, sections: &[Section]) -> Result<()> {
    let mut names: BTreeSet<&[u8]> = headers.sections.iter().map(|section| section.name.as_slice()).collect();
    for section in sections {
        let name = section.name.as_str();
        if !name.starts_with('.') || !(2..=8).contains(&name.len()) || !name.is_ascii() {
            return Err(Error::failed(format!("\"{}\" is no name of a section", name.escape_debug())));
        }
        if !names.insert(name.as_bytes()) {
            return Err(Error::refused(format!("the kernel image would have two sections {name}")));
        }
        if section.content.size() == 0 {
            return Err(Error::refused(format!("the section {name} would be empty")));
        }
    }
    if headers.sections.is_empty() || headers.sections.len() + sections.len() > usize::from(pe::SECTION_LIMIT) {
        return Err(Error::refused(format!(
            "the EFI stub has {} sections and {} are to be added; 1 to {} in all are allowed",
            headers.sections.len(),
            sections.len(),
            pe::SECTION_LIMIT
        )));
    }
    let signed = headers.directories.get(CERTIFICATES).is_some_and(|(_, size)| *size > 0);
    if signed {
        return Err(Error::refused("the EFI stub is signed; a signature does not survive adding sections")
            .hint("use the unsigned stub and sign the whole image"));
    }
    Ok(())
}

/// Headers and sections, without what lies behind them (symbols), filled up to the file alignment.
fn stub_without_tail(stub: &[u8], headers: &Headers) -> Result<Vec<u8>> {
    let ends = headers.sections.iter().map(|section| u64::from(section.raw_offset) + u64::from(section.raw_size));
    let end = ends.max().unwrap_or(0).max(u64::from(headers.size_of_headers)) as usize;
    let mut front = stub.get(..end).map(<[u8]>::to_vec).ok_or_else(|| Error::refused("the EFI stub is cut off"))?;
    front.resize(end.next_multiple_of(headers.file_alignment as usize), 0);
    Ok(front)
}

/// Makes the headers large enough for more sections: everything behind them moves. Addresses in memory stay, and only
/// those matter to code. systemd 252's stub for x86-64 has room for 7 sections, and a full image has 9.
fn make_room(front: &mut Vec<u8>, headers: &Headers, more: u16) -> Result<()> {
    let count = headers.sections.len() as u16 + more;
    let wanted = headers.section_headers_end(count);
    if wanted <= headers.size_of_headers {
        return Ok(());
    }
    let first = headers.sections.iter().map(|section| section.virtual_address).min().unwrap_or(0);
    let grown = (wanted - headers.size_of_headers).next_multiple_of(headers.file_alignment);
    let new_size = headers.size_of_headers + grown;
    if new_size > first || new_size > pe::HEADERS_LIMIT {
        return Err(Error::refused(format!(
            "the EFI stub has no room for {more} more sections: {wanted} bytes of headers and its first section at {first}"
        )));
    }
    let at = headers.size_of_headers as usize;
    front.splice(at..at, std::iter::repeat_n(0, grown as usize));
    let mut moved = headers.sections.clone();
    for (index, section) in moved.iter_mut().enumerate() {
        if section.raw_size > 0 {
            section.raw_offset += grown;
        }
        let header = headers.section_headers() + index * pe::SECTION_HEADER_SIZE;
        front[header..header + pe::SECTION_HEADER_SIZE].copy_from_slice(&section.encode());
    }
    front[headers.image_size() + 4..][..4].copy_from_slice(&new_size.to_le_bytes());
    move_debug_data(front, headers, &moved, grown);
    Ok(())
}

/// Debugging entries say where their data lies in the file.
fn move_debug_data(front: &mut [u8], headers: &Headers, moved: &[pe::Section], grown: u32) {
    const ENTRY: usize = 28;
    let Some(&(address, size)) = headers.directories.get(DEBUG).filter(|(_, size)| *size > 0) else { return };
    let inside = |section: &&pe::Section| {
        (section.virtual_address..section.virtual_address.saturating_add(section.raw_size)).contains(&address)
    };
    let Some(section) = moved.iter().find(inside) else { return };
    let start = (section.raw_offset + (address - section.virtual_address)) as usize;
    let end = (section.raw_offset + section.raw_size) as usize;
    for entry in 0..size as usize / ENTRY {
        let at = start + entry * ENTRY + 24;
        if at + 4 > end {
            return;
        }
        if let Some(offset) = pe::u32_at(front, at).filter(|offset| *offset > 0) {
            front[at..at + 4].copy_from_slice(&offset.wrapping_add(grown).to_le_bytes());
        }
    }
}

/// Gives every section its place in memory and in the file.
fn place(headers: &Headers, sections: Vec<Section>, front: usize) -> Result<Vec<(Section, pe::Section)>> {
    let alignment = u64::from(headers.section_alignment.max(PAGE));
    let mut address = headers.sections.iter().map(memory_end).max().unwrap_or(0);
    let mut offset = front as u64;
    let mut placed = Vec::with_capacity(sections.len());
    for section in sections {
        let size = section.content.size();
        address = address.next_multiple_of(alignment);
        if size > IMAGE_LIMIT || address + size > IMAGE_LIMIT || offset + size > IMAGE_LIMIT {
            return Err(Error::refused(format!(
                "the kernel image would be larger than 2 GiB with its section {} of {size} bytes",
                section.name
            ))
            .hint("keep the root in a file system of its own instead of the initrd"));
        }
        let raw_size = size.next_multiple_of(u64::from(headers.file_alignment));
        // All below 2 GiB, as was just checked.
        let place = pe::Section {
            name: section.name.clone().into_bytes(),
            virtual_size: size as u32,
            virtual_address: address as u32,
            raw_size: raw_size as u32,
            raw_offset: offset as u32,
            characteristics: READ_ONLY_DATA,
        };
        address += size;
        offset += raw_size;
        placed.push((section, place));
    }
    Ok(placed)
}

fn memory_end(section: &pe::Section) -> u64 {
    u64::from(section.virtual_address) + u64::from(section.virtual_size.max(section.raw_size))
}
