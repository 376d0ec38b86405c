//! Rock Ridge: owners, modes, links, long names and devices, in the system use fields of directory records (System Use
//! Sharing Protocol 1.12 and Rock Ridge Interchange Protocol 1.12, IEEE P1281 and P1282).

use super::format::{SECTOR, both32, record_date};

/// Bytes of an entry at most.
const ENTRY_LIMIT: usize = 255;
/// Bytes of a name in one NM entry.
const NAME_LIMIT: usize = ENTRY_LIMIT - 5;
/// Bytes of all components in one SL entry.
const LINK_LIMIT: usize = ENTRY_LIMIT - 5;
/// Bytes of a CE entry.
const CONTINUATION_SIZE: usize = 28;
/// This entry goes on in the next one (NM, SL and components of SL).
const CONTINUE: u8 = 1;

/// What a file, folder or link says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// Type and permission bits.
    pub mode: u32,
    /// Names.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of the file; names of one file share it.
    pub serial: u32,
    /// Seconds since the epoch.
    pub mtime: i64,
}

/// Entries of a record's system use field, to be laid out.
#[derive(Debug, Default)]
pub struct Entries(Vec<Vec<u8>>);

impl Entries {
    /// PX and TF, which every record has.
    pub fn of(attributes: &Attributes) -> Entries {
        let Attributes { mode, links, uid, gid, serial, mtime } = *attributes;
        let numbers: Vec<u8> = [mode, links, uid, gid, serial].into_iter().flat_map(both32).collect();
        let mut entries = Entries::default();
        entries.push(b"PX", &numbers);
        // Flag 2: the time of modification only. Others would be the same, and readers fill them in.
        entries.push(b"TF", &[&[0x02][..], &record_date(mtime)].concat());
        entries
    }

    /// SP, first in the root's own record: the protocol is in use, and nothing is to be skipped.
    pub fn with_protocol(mut self) -> Entries {
        self.0.insert(0, b"SP\x07\x01\xbe\xef\0".to_vec());
        // ER names the extension.
        let (id, description, source) = (
            &b"IEEE_1282"[..],
            &b"THE IEEE 1282 PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"[..],
            &b"PLEASE CONTACT THE IEEE STANDARDS DEPARTMENT, PISCATAWAY, NJ, USA FOR THE 1282 SPECIFICATION"[..],
        );
        let lengths = [id.len() as u8, description.len() as u8, source.len() as u8, 1];
        self.push(b"ER", &[&lengths[..], id, description, source].concat());
        self
    }

    /// NM: the name as it is.
    pub fn with_name(mut self, name: &[u8]) -> Entries {
        let last = name.chunks(NAME_LIMIT).count().saturating_sub(1);
        for (at, part) in name.chunks(NAME_LIMIT).enumerate() {
            let flags = if at < last { CONTINUE } else { 0 };
            self.push(b"NM", &[&[flags], part].concat());
        }
        self
    }

    /// PN: a device's number. The protocol has two halves of a 64-bit `dev_t`, and so do libisofs and libarchive; Linux
    /// and mkisofs take the halves for major and minor number, unless the first is zero: then Linux takes the second
    /// for a `dev_t` of an 8-bit minor number (fs/isofs/rock.c). So that is what is written where it is enough, and
    /// what Linux reads otherwise.
    pub fn with_device(mut self, major: u32, minor: u32) -> Entries {
        let (high, low) = if major < 1 << 12 && minor < 1 << 8 { (0, major << 8 | minor) } else { (major, minor) };
        self.push(b"PN", &[both32(high), both32(low)].concat());
        self
    }

    /// SL: where a symbolic link points, byte for byte, doubled and trailing slashes included.
    pub fn with_target(mut self, target: &[u8]) -> Entries {
        let mut parts: Vec<(u8, &[u8])> = Vec::new();
        let rest = match target.strip_prefix(b"/") {
            Some(rest) => {
                parts.push((8, b""));
                rest
            }
            None => target,
        };
        // "/" alone is the root and nothing behind it.
        if !rest.is_empty() || parts.is_empty() {
            parts.extend(rest.split(|byte| *byte == b'/').map(|part| match part {
                b"." => (2, &b""[..]),
                b".." => (4, &b""[..]),
                name => (0, name),
            }));
        }
        let mut entry: Vec<u8> = Vec::new();
        let mut full = Vec::new();
        for (flags, mut part) in parts {
            loop {
                let room = LINK_LIMIT - entry.len();
                if room < 2 + part.len().min(1) {
                    full.push(std::mem::take(&mut entry));
                    continue;
                }
                let (now, later) = part.split_at(part.len().min(room - 2));
                entry.extend([if later.is_empty() { flags } else { CONTINUE }, now.len() as u8]);
                entry.extend(now);
                if later.is_empty() {
                    break;
                }
                part = later;
            }
        }
        full.push(entry);
        let last = full.len() - 1;
        for (at, components) in full.into_iter().enumerate() {
            let flags = if at < last { CONTINUE } else { 0 };
            self.push(b"SL", &[&[flags][..], &components].concat());
        }
        self
    }

    fn push(&mut self, signature: &[u8; 2], data: &[u8]) {
        let mut entry = signature.to_vec();
        entry.extend([data.len() as u8 + 4, 1]);
        entry.extend(data);
        self.0.push(entry);
    }

    /// What stands in the record, at most `room` bytes; what does not fit goes into the continuation area.
    pub fn lay_out(self, room: usize, area: &mut ContinuationArea) -> Vec<u8> {
        let total: usize = self.0.iter().map(Vec::len).sum();
        if total <= room {
            return self.0.concat();
        }
        let mut entries = self.0.into_iter().peekable();
        let mut own = Vec::new();
        while let Some(entry) = entries.next_if(|entry| own.len() + entry.len() + CONTINUATION_SIZE <= room) {
            own.extend(entry);
        }
        let rest: Vec<Vec<u8>> = entries.collect();
        own.extend(area.add(&rest));
        own
    }
}

/// Sectors behind a folder's records that hold what did not fit into them.
#[derive(Debug)]
pub struct ContinuationArea {
    /// First sector.
    start: u32,
    bytes: Vec<u8>,
}

impl ContinuationArea {
    /// An empty area that begins at a sector.
    pub fn new(start: u32) -> ContinuationArea {
        ContinuationArea { start, bytes: Vec::new() }
    }

    /// The area in whole sectors.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(SECTOR as usize), 0);
        self.bytes
    }

    /// Adds entries and gives the CE entry that points to them. A piece never crosses a sector, because Linux refuses
    /// those that do (fs/isofs/rock.c); what is longer is a chain.
    fn add(&mut self, entries: &[Vec<u8>]) -> Vec<u8> {
        const ROOM: usize = SECTOR as usize - CONTINUATION_SIZE;
        let mut piece_length = 0;
        let mut count = 0;
        for entry in entries {
            if piece_length + entry.len() > ROOM {
                break;
            }
            piece_length += entry.len();
            count += 1;
        }
        let (now, later) = entries.split_at(count);
        let length = piece_length + if later.is_empty() { 0 } else { CONTINUATION_SIZE };
        let left = self.bytes.len().next_multiple_of(SECTOR as usize) - self.bytes.len();
        if left < length {
            self.bytes.resize(self.bytes.len() + left, 0);
        }
        let at = self.bytes.len();
        self.bytes.extend(now.concat());
        if !later.is_empty() {
            self.bytes.extend([0; CONTINUATION_SIZE]);
            let next = self.add(later);
            self.bytes[at + piece_length..at + length].copy_from_slice(&next);
        }
        let sector = SECTOR as usize;
        let mut out = vec![b'C', b'E', CONTINUATION_SIZE as u8, 1];
        out.extend(both32(self.start.wrapping_add((at / sector) as u32)));
        out.extend(both32((at % sector) as u32));
        out.extend(both32(length as u32));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &[u8]) -> Vec<u8> {
        Entries::default().with_target(text).0.concat()
    }

    #[test]
    fn components_of_links() {
        assert_eq!(target(b"a"), b"SL\x08\x01\x00\x00\x01a");
        assert_eq!(target(b"/"), b"SL\x07\x01\x00\x08\x00");
        assert_eq!(target(b"/a"), b"SL\x0a\x01\x00\x08\x00\x00\x01a");
        assert_eq!(target(b"../."), b"SL\x09\x01\x00\x04\x00\x02\x00");
        assert_eq!(target(b"a/"), b"SL\x0a\x01\x00\x00\x01a\x00\x00");
        let long = target(&[b'x'; 300]);
        assert_eq!(long[..8], [b'S', b'L', 255, 1, 1, 1, 248, b'x']);
        assert_eq!(long[255..263], [b'S', b'L', 59, 1, 0, 0, 52, b'x']);
    }

    #[test]
    fn device_numbers() {
        let numbers = |major, minor| {
            let entry = Entries::default().with_device(major, minor).0.concat();
            (u32::from_le_bytes(entry[4..8].try_into().unwrap()), u32::from_le_bytes(entry[12..16].try_into().unwrap()))
        };
        assert_eq!(numbers(5, 1), (0, 0x501));
        assert_eq!(numbers(0, 7), (0, 7));
        assert_eq!(numbers(254, 300), (254, 300));
    }

    #[test]
    fn long_fields_are_chained_within_sectors() {
        let mut area = ContinuationArea::new(100);
        let entries = Entries::default().with_name(&[b'n'; 255]).with_target(&b"component/".repeat(400));
        let own = entries.lay_out(100, &mut area);
        assert!(own.len() <= 100);
        assert_eq!(own[..12], [b'C', b'E', 28, 1, 100, 0, 0, 0, 0, 0, 0, 100]);
        let bytes = area.into_bytes();
        assert_eq!(bytes.len(), 3 * 2048);
        assert_eq!(&bytes[..2], b"NM");
        // The second piece begins in the second sector.
        assert_eq!(&bytes[2048..2050], b"SL");
    }
}
