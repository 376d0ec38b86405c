//! The header of a newc member.

/// Largest file that the format can hold: its size field has 8 hexadecimal digits.
pub const FILE_LIMIT: u64 = u32::MAX as u64;

/// Magic, then 13 fields of 8 hexadecimal digits.
pub const HEADER_SIZE: usize = 110;
/// newc without checksums. Linux also takes 070702, whose checksums it ignores.
pub const MAGIC: &[u8; 6] = b"070701";
/// The name of the last member.
pub const TRAILER: &[u8] = b"TRAILER!!!";
/// Headers and contents start at multiples of this.
pub const ALIGNMENT: u64 = 4;

/// Longest name, and longest target of a symbolic link: Linux's `PATH_MAX` without the zero byte.
pub const PATH_LIMIT: usize = 4095;

/// Why Linux would not unpack a member (init/initramfs.c): it passes over such members without a word, and ends the
/// archive at the name of the trailer. `target` is what a symbolic link has.
pub fn refusal(name: &[u8], target: Option<u64>) -> Option<String> {
    if name.is_empty() {
        return Some("has no name".to_owned());
    }
    if name == TRAILER {
        return Some("has the name that ends an archive".to_owned());
    }
    if name.len() > PATH_LIMIT {
        return Some(format!("has a path of {} bytes, and Linux unpacks at most {PATH_LIMIT}", name.len()));
    }
    match target {
        Some(0) => Some("is a symbolic link to nothing".to_owned()),
        Some(size) if size > PATH_LIMIT as u64 => {
            Some(format!("is a symbolic link with a target of {size} bytes, and Linux takes at most {PATH_LIMIT}"))
        }
        _ => None,
    }
}

/// File types as in `st_mode` (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A folder.
    Folder,
    /// A regular file.
    Regular,
    /// A symbolic link; its content is where it points.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

impl FileType {
    /// The type's bits in the mode field.
    pub fn bits(self) -> u32 {
        match self {
            FileType::Folder => 0o040_000,
            FileType::Regular => 0o100_000,
            FileType::Symlink => 0o120_000,
            FileType::CharacterDevice => 0o020_000,
            FileType::BlockDevice => 0o060_000,
            FileType::Fifo => 0o010_000,
        }
    }
}

/// A member's header. The device that the archive was made on is always written as 0:0, the check field as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Inode number; names of one file share it.
    pub ino: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Seconds since the epoch.
    pub mtime: u32,
    /// Bytes of content.
    pub size: u32,
    /// Major number of a device.
    pub rdev_major: u32,
    /// Minor number of a device.
    pub rdev_minor: u32,
    /// Bytes of the name with its closing zero byte.
    pub name_size: u32,
}

impl Header {
    /// The header as it stands in the archive.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let fields = [
            self.ino,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.mtime,
            self.size,
            0,
            0,
            self.rdev_major,
            self.rdev_minor,
            self.name_size,
            0,
        ];
        let mut out = [0; HEADER_SIZE];
        out[..6].copy_from_slice(MAGIC);
        for (field, place) in fields.iter().zip(out[6..].chunks_exact_mut(8)) {
            for (digit, byte) in place.iter_mut().enumerate() {
                *byte = DIGITS[(field >> (28 - 4 * digit) & 15) as usize];
            }
        }
        out
    }

    /// Reads a header. `None` if it is none.
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Option<Header> {
        let (magic, rest) = bytes.split_at(6);
        if magic != MAGIC {
            return None;
        }
        let mut fields = [0u32; 13];
        for (field, place) in fields.iter_mut().zip(rest.chunks_exact(8)) {
            for byte in place {
                *field = *field << 4 | (*byte as char).to_digit(16)?;
            }
        }
        let [ino, mode, uid, gid, nlink, mtime, size, _, _, rdev_major, rdev_minor, name_size, _] = fields;
        Some(Header { ino, mode, uid, gid, nlink, mtime, size, rdev_major, rdev_minor, name_size })
    }
}
