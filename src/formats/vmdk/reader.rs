//! Reading VMDK, both forms.

use std::io::Read;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::format::{AT_END, DESCRIPTOR, Header, TABLE_ENTRIES};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, SECTOR, check_range, le32, le64, pieces, read_part};

/// A VMDK as a disk. Tables are read when they are needed; memory is the grain directory and one grain.
#[derive(Debug)]
pub struct Reader<S> {
    container: S,
    header: Header,
    directory: Vec<u32>,
    /// The compressed grain that was read last, by its sector.
    last: Mutex<Option<(u32, Vec<u8>)>>,
}

impl<S: DiskImage> Reader<S> {
    /// Reads the header or footer and the grain directory.
    pub fn open(container: S) -> Result<Reader<S>> {
        let sector = SECTOR as usize;
        let mut header = Header::decode(&read_part(&container, 0, sector, "the header")?)?;
        if header.directory == AT_END {
            // The footer stands before the end mark.
            let at = container.size().saturating_sub(2 * SECTOR);
            let footer = Header::decode(&read_part(&container, at, sector, "the footer")?)
                .map_err(|error| error.context("the footer").hint("the file may have been cut off"))?;
            if (footer.capacity, footer.grain_sectors) != (header.capacity, header.grain_sectors) {
                return Err(Error::refused("header and footer of the VMDK do not agree"));
            }
            header = footer;
        }
        let most = container.size() / 4;
        if header.tables() > most {
            return Err(Error::refused(format!(
                "the VMDK is said to have {} grain tables, more than fit into its {} bytes",
                header.tables(),
                container.size()
            )));
        }
        let at = header.directory.saturating_mul(SECTOR);
        let bytes = read_part(&container, at, header.tables() as usize * 4, "the grain directory")?;
        let directory = bytes.chunks_exact(4).map(|entry| le32(entry, 0)).collect();
        Ok(Reader { container, header, directory, last: Mutex::new(None) })
    }

    /// The header, or a stream's footer.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The descriptor's text.
    pub fn descriptor(&self) -> Result<String> {
        let (start, sectors) = DESCRIPTOR;
        let bytes = read_part(&self.container, start * SECTOR, (sectors * SECTOR) as usize, "the descriptor")?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn grain_size(&self) -> u64 {
        self.header.grain_sectors * SECTOR
    }

    /// Entries of a table from grain `number` on, at most `most`. `None` stands for a table that is not there; the
    /// number is how many grains that tells of.
    fn entries(&self, number: u64, most: u64) -> Result<(u64, Option<Vec<u32>>)> {
        let within = number % TABLE_ENTRIES;
        let count = most.min(TABLE_ENTRIES - within);
        let table = usize::try_from(number / TABLE_ENTRIES).ok().and_then(|i| self.directory.get(i)).copied();
        match table {
            None | Some(0) => Ok((TABLE_ENTRIES - within, None)),
            Some(table) => {
                let at = u64::from(table) * SECTOR + within * 4;
                let bytes = read_part(&self.container, at, count as usize * 4, "a grain table")?;
                Ok((count, Some(bytes.chunks_exact(4).map(|entry| le32(entry, 0)).collect())))
            }
        }
    }

    fn read_compressed(&self, number: u64, sector: u32, within: u64, buffer: &mut [u8]) -> Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let start = within as usize;
        if let Some((of, grain)) = &*last
            && *of == sector
        {
            buffer.copy_from_slice(&grain[start..start + buffer.len()]);
            return Ok(());
        }
        let at = u64::from(sector) * SECTOR;
        let marker = read_part(&self.container, at, 12, "a grain's marker")?;
        let (lba, length) = (le64(&marker, 0), u64::from(le32(&marker, 8)));
        // Deflate makes nothing twice as large.
        if lba != number * self.header.grain_sectors || length > 2 * self.grain_size() {
            return Err(Error::refused(format!(
                "the marker at {at} of the VMDK says sector {lba} and {length} bytes, where grain {number} has to be"
            )));
        }
        let bytes = read_part(&self.container, at + 12, length as usize, "a grain")?;
        let mut grain = vec![0; self.grain_size() as usize];
        flate2::read::ZlibDecoder::new(bytes.as_slice())
            .read_exact(&mut grain)
            .map_err(|_| Error::refused(format!("grain {number} of the VMDK is damaged")))?;
        buffer.copy_from_slice(&grain[start..start + buffer.len()]);
        *last = Some((sector, grain));
        Ok(())
    }
}

/// Entry 1 is a grain of zeros in files with zeroed-grain entries, which no place of a grain can be.
fn is_data(entry: &u32) -> bool {
    *entry > 1
}

impl<S: DiskImage> DiskImage for Reader<S> {
    fn size(&self) -> u64 {
        self.header.capacity * SECTOR
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let grain = self.grain_size();
        let end = self.size().div_ceil(grain);
        let mut number = offset / grain;
        while number < end {
            let (count, entries) = self.entries(number, TABLE_ENTRIES)?;
            if let Some(entries) = entries
                && let Some(first) = entries.iter().position(is_data)
            {
                let run = entries[first..].iter().take_while(|entry| is_data(entry)).count() as u64;
                let first = number + first as u64;
                let range = (first * grain).max(offset)..((first + run) * grain).min(self.size());
                return Ok((range.start < range.end).then_some(range));
            }
            number += count;
        }
        Ok(None)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        for (number, within, range) in pieces(offset, buffer.len(), self.grain_size()) {
            let (_, entries) = self.entries(number, 1)?;
            let entry = entries.and_then(|entries| entries.first().copied()).unwrap_or(0);
            let part = &mut buffer[range];
            if !is_data(&entry) {
                part.fill(0);
            } else if self.header.stream {
                self.read_compressed(number, entry, within, part)?;
            } else {
                let at = u64::from(entry) * SECTOR + within;
                let there = self.container.size().saturating_sub(at).min(part.len() as u64) as usize;
                if there < part.len() {
                    return Err(Error::refused(format!("grain {number} of the VMDK is behind the end of the file")));
                }
                self.container.read_at(part, at)?;
            }
        }
        Ok(())
    }
}
