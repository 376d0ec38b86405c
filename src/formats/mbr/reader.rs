//! Reading a master boot record from an image that may be anything.

use std::io::{Read, Seek, SeekFrom};

use super::format::{Record, SIZE, kind};
use crate::error::{Error, Result};

/// Partition type of hybrid ISO images for the whole of the image.
const WHOLE_IMAGE: u8 = 0x17;

/// Reads the record of an image and checks its table: partitions lie in the image and do not overlap. `None` if there is
/// no record, or one with an empty table, as the first sector of a FAT volume looks.
pub fn read(image: &mut (impl Read + Seek)) -> Result<Option<Record>> {
    let failed = |error: std::io::Error| Error::failed(format!("reading the image: {error}"));
    let size = image.seek(SeekFrom::End(0)).map_err(failed)?;
    image.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut bytes = Vec::new();
    image.by_ref().take(SIZE as u64).read_to_end(&mut bytes).map_err(failed)?;
    let Some(record) = Record::decode(&bytes) else { return Ok(None) };
    if record.entries.iter().all(Option::is_none) {
        return Ok(None);
    }
    let refused = |what: String| Error::refused(format!("the master boot record is damaged: {what}"));
    let sectors = size / 512;
    let mut places: Vec<(u64, u64, usize)> = Vec::new();
    for (index, entry) in record.entries.iter().enumerate() {
        let Some(entry) = entry else { continue };
        let number = index + 1;
        let (first, end) = (u64::from(entry.first_lba), u64::from(entry.first_lba) + u64::from(entry.sectors));
        // A protective entry may say more than there is: it covers disks of any size.
        if entry.kind == kind::PROTECTIVE {
            continue;
        }
        // The whole image as one partition, as isohybrid has it, begins with the record itself.
        let whole = entry.kind == WHOLE_IMAGE && first == 0;
        if (first == 0 && !whole) || first == end || end > sectors {
            return Err(refused(format!("partition {number} lies at {first} to {end} of {sectors} sectors"))
                .hint("the image may be cut off"));
        }
        if let Some((.., other)) = places.iter().find(|(start, stop, _)| first < *stop && *start < end) {
            return Err(refused(format!("partitions {other} and {number} overlap")));
        }
        places.push((first, end, number));
    }
    if record.entries.iter().flatten().filter(|entry| entry.active).count() > 1 {
        return Err(refused("more than one partition is marked to be booted".into()));
    }
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::Entry;
    use super::*;

    fn image(entries: &[(u32, u32)]) -> Vec<u8> {
        let mut record = Record::default();
        for (place, (first_lba, sectors)) in record.entries.iter_mut().zip(entries) {
            let (first_lba, sectors) = (*first_lba, *sectors);
            *place = Some(Entry { active: false, kind: kind::FAT32, first_lba, sectors });
        }
        let mut bytes = record.encode().to_vec();
        bytes.resize(100 * 512, 0);
        bytes
    }

    #[test]
    fn tables_are_checked() {
        let good = read(&mut Cursor::new(image(&[(1, 50), (51, 49)]))).unwrap().unwrap();
        assert_eq!(good.entries.iter().flatten().count(), 2);
        assert!(read(&mut Cursor::new(image(&[]))).unwrap().is_none());
        assert!(read(&mut Cursor::new(vec![0; 100])).unwrap().is_none());
        for (bad, what) in [
            (&[(1, 50), (50, 10)][..], "overlap"),
            (&[(1, 100)], "cut off"),
            (&[(0, 5)], "lies at 0"),
            (&[(3, 0)], "lies at 3"),
        ] {
            let error = read(&mut Cursor::new(image(bad))).unwrap_err();
            let text = format!("{} {}", error.message(), error.hint_text().unwrap_or_default());
            assert!(text.contains(what), "{text}");
        }
    }
}
