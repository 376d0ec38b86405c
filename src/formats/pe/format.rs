//! The headers of a PE32+ executable (Microsoft, "PE Format"). All numbers are little-endian.

/// Sections that are read; Windows takes no more.
pub const SECTION_LIMIT: u16 = 96;
/// Bytes of headers that are read: with all sections they need less than 8 KiB.
pub const HEADERS_LIMIT: u32 = 64 << 10;
/// Bytes of a section's header.
pub const SECTION_HEADER_SIZE: usize = 40;
/// `IMAGE_FILE_MACHINE_AMD64`.
pub const MACHINE_AMD64: u16 = 0x8664;
/// `IMAGE_FILE_MACHINE_ARM64`.
pub const MACHINE_ARM64: u16 = 0xaa64;
/// Index of the data directory that says where the signatures lie.
pub const CERTIFICATES: usize = 4;
/// Index of the data directory of debugging data.
pub const DEBUG: usize = 6;

/// Bytes from the COFF header to the optional header.
const COFF_SIZE: usize = 24;
/// Bytes of the optional header in front of the data directories.
const OPTIONAL_SIZE: usize = 112;

/// A section's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name without the zeros behind it.
    pub name: Vec<u8>,
    /// Bytes in memory.
    pub virtual_size: u32,
    /// Address in memory, from the image's base.
    pub virtual_address: u32,
    /// Bytes in the file.
    pub raw_size: u32,
    /// Offset in the file.
    pub raw_offset: u32,
    /// Flags.
    pub characteristics: u32,
}

impl Section {
    /// The header's bytes. Names of more than 8 bytes are cut.
    pub fn encode(&self) -> [u8; SECTION_HEADER_SIZE] {
        let mut out = [0; SECTION_HEADER_SIZE];
        for (place, byte) in out[..8].iter_mut().zip(&self.name) {
            *place = *byte;
        }
        let numbers = [self.virtual_size, self.virtual_address, self.raw_size, self.raw_offset];
        for (place, number) in out[8..24].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        out[36..].copy_from_slice(&self.characteristics.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Section> {
        let name = bytes.get(..8)?;
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(8);
        Some(Section {
            name: name[..length].to_vec(),
            virtual_size: u32_at(bytes, 8)?,
            virtual_address: u32_at(bytes, 12)?,
            raw_size: u32_at(bytes, 16)?,
            raw_offset: u32_at(bytes, 20)?,
            characteristics: u32_at(bytes, 36)?,
        })
    }

    /// Bytes of content in the file: what lies behind the virtual size is padding.
    pub fn size(&self) -> u32 {
        self.virtual_size.min(self.raw_size)
    }
}

/// What the headers say, as far as images for firmware need it.
#[derive(Clone, Debug)]
pub struct Headers {
    /// Offset of the `PE` signature.
    pub start: usize,
    /// Bytes of the optional header.
    pub optional_size: usize,
    /// Machine.
    pub machine: u16,
    /// Multiple at which sections lie in memory.
    pub section_alignment: u32,
    /// Multiple at which sections lie in the file.
    pub file_alignment: u32,
    /// Bytes of the image in memory.
    pub size_of_image: u32,
    /// Bytes of all headers in the file.
    pub size_of_headers: u32,
    /// Data directories: offset or address, and size.
    pub directories: Vec<(u32, u32)>,
    /// Sections, in the order of their headers.
    pub sections: Vec<Section>,
}

impl Headers {
    /// Reads the headers at the start of `bytes`. The error says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Headers, String> {
        if !bytes.starts_with(b"MZ") {
            return Err("no \"MZ\" at its start".into());
        }
        let start = u32_at(bytes, 0x3c).and_then(|start| usize::try_from(start).ok()).unwrap_or(usize::MAX);
        let coff = bytes.get(start..).unwrap_or_default();
        if !coff.starts_with(b"PE\0\0") {
            return Err("no \"PE\" signature where its header says".into());
        }
        Headers::decode_coff(coff, start).ok_or_else(|| "headers that are cut off".to_owned())?
    }

    fn decode_coff(coff: &[u8], start: usize) -> Option<Result<Headers, String>> {
        let (sections, optional_size) = (u16_at(coff, 6)?, usize::from(u16_at(coff, 20)?));
        let optional = coff.get(COFF_SIZE..COFF_SIZE + optional_size)?;
        let magic = u16_at(optional, 0)?;
        if magic != 0x20b {
            return Some(Err(format!("the magic number {magic:#x} of a header that is not PE32+")));
        }
        if sections > SECTION_LIMIT {
            return Some(Err(format!("{sections} sections where at most {SECTION_LIMIT} are allowed")));
        }
        let headers = Headers {
            start,
            optional_size,
            machine: u16_at(coff, 4)?,
            section_alignment: u32_at(optional, 32)?,
            file_alignment: u32_at(optional, 36)?,
            size_of_image: u32_at(optional, 56)?,
            size_of_headers: u32_at(optional, 60)?,
            directories: (0..u32_at(optional, 108)?.min(16) as usize)
                .map(|index| {
                    let at = OPTIONAL_SIZE + index * 8;
                    Some((u32_at(optional, at)?, u32_at(optional, at + 4)?))
                })
                .collect::<Option<_>>()?,
            sections: coff
                .get(COFF_SIZE + optional_size..)?
                .chunks_exact(SECTION_HEADER_SIZE)
                .take(usize::from(sections))
                .map(Section::decode)
                .collect::<Option<_>>()?,
        };
        if headers.sections.len() != usize::from(sections) {
            return None;
        }
        let alignment = headers.file_alignment;
        if !alignment.is_power_of_two() || alignment > 1 << 16 || !headers.section_alignment.is_power_of_two() {
            return Some(Err(format!("alignments of {alignment} and {} bytes", headers.section_alignment)));
        }
        if headers.size_of_headers > HEADERS_LIMIT || headers.section_headers_end(sections) > headers.size_of_headers {
            return Some(Err(format!("{} bytes of headers for {sections} sections", headers.size_of_headers)));
        }
        Some(Ok(headers))
    }

    /// Offset of the checksum field.
    pub fn checksum(&self) -> usize {
        self.start + COFF_SIZE + 64
    }

    /// Offset of the number of sections.
    pub fn section_count(&self) -> usize {
        self.start + 6
    }

    /// Offset of the size of the image in memory; the size of the headers follows it.
    pub fn image_size(&self) -> usize {
        self.start + COFF_SIZE + 56
    }

    /// Offset of a data directory.
    pub fn directory(&self, index: usize) -> usize {
        self.start + COFF_SIZE + OPTIONAL_SIZE + index * 8
    }

    /// Offset of the first section's header.
    pub fn section_headers(&self) -> usize {
        self.start + COFF_SIZE + self.optional_size
    }

    /// Where the headers of so many sections end.
    pub fn section_headers_end(&self, sections: u16) -> u32 {
        (self.section_headers() + usize::from(sections) * SECTION_HEADER_SIZE) as u32
    }
}

/// The number at an offset; `None` behind the end.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// The number at an offset; `None` behind the end.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
