//! Where inodes go: an inode with what follows it never crosses a block if it fits into one, so that its tail may
//! stand there, and gaps are filled with later, smaller inodes.

use super::format::{BLOCK, SLOT, SLOTS};

/// Blocks of one group, 2 MiB. A larger group has fewer gaps at its end and takes more memory: of 20,000 inodes of
/// 40 to 940 bytes, groups of 1 MiB take 0.1 to 2.5 % more.
const GROUP_BLOCKS: u32 = 512;
/// Bytes of files' inodes that wait for the end of the image because they fit between folders.
const FILLED: usize = 2 << 20;
/// Inodes with an index larger than this are groups of their own.
const LARGE: u64 = 64 * BLOCK;

/// Finds room for inodes in a row of blocks: the fullest block in which an inode still fits.
#[derive(Debug)]
pub(super) struct Packer {
    /// Blocks by their number of free slots, which are at their end.
    open: Vec<Vec<u32>>,
    blocks: u32,
    limit: u32,
}

impl Packer {
    /// Room for at most `limit` blocks.
    pub fn new(limit: u32) -> Packer {
        Packer { open: vec![Vec::new(); SLOTS as usize], blocks: 0, limit }
    }

    /// The slot for `size` bytes, at least one; `None` if there is no room.
    pub fn place(&mut self, size: u64) -> Option<u64> {
        if let Some(slot) = self.fill(size) {
            return Some(slot);
        }
        let slots = size.div_ceil(SLOT).max(1);
        let first = self.blocks;
        let end = u32::try_from(u64::from(first) + slots.div_ceil(SLOTS)).ok().filter(|end| *end <= self.limit)?;
        self.blocks = end;
        self.keep(end - 1, u64::from(end - first) * SLOTS - slots);
        Some(u64::from(first) * SLOTS)
    }

    /// The same in the blocks that are in use.
    pub fn fill(&mut self, size: u64) -> Option<u64> {
        let slots = size.div_ceil(SLOT).max(1);
        let free = (slots..SLOTS).find(|free| !self.open[*free as usize].is_empty())?;
        let block = self.open[free as usize].pop()?;
        self.keep(block, free - slots);
        Some((u64::from(block) + 1) * SLOTS - free)
    }

    fn keep(&mut self, block: u32, free: u64) {
        if free > 0 {
            self.open[free as usize].push(block);
        }
    }

    /// Blocks in use.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }
}

/// A row of inodes that is not written yet.
#[derive(Debug)]
pub(super) struct Group {
    packer: Packer,
    bytes: Vec<u8>,
}

impl Group {
    /// An empty group.
    pub fn new() -> Group {
        Group { packer: Packer::new(GROUP_BLOCKS), bytes: Vec::new() }
    }

    /// Puts an inode with what follows it into the group and returns its slot; `None` if the group is full.
    pub fn add(&mut self, inode: &[u8]) -> Option<u64> {
        if inode.len() as u64 > LARGE {
            if self.packer.blocks() > 0 {
                return None;
            }
            // A group of its own: the packer takes nothing after it.
            self.packer = Packer::new(u32::MAX);
        }
        let slot = self.packer.place(inode.len() as u64)?;
        if self.packer.limit == u32::MAX {
            self.packer = Packer { limit: 0, blocks: self.packer.blocks, ..Packer::new(0) };
        }
        let start = (slot * SLOT) as usize;
        self.bytes.resize(self.packer.blocks() as usize * BLOCK as usize, 0);
        self.bytes[start..start + inode.len()].copy_from_slice(inode);
        Some(slot)
    }

    /// The group's blocks; the group is empty again.
    pub fn take(&mut self) -> Vec<u8> {
        self.packer = Packer::new(GROUP_BLOCKS);
        std::mem::take(&mut self.bytes)
    }
}

/// The row of folders' inodes, which is written last and whose places are known first. A folder of a hundred names takes
/// half a block, so there are gaps: inodes of files go there while they fit. Without that, 20,000 small files in folders
/// of 100 took 4 % more.
#[derive(Debug)]
pub(super) struct Folders {
    packer: Packer,
    /// Inodes of files, with their slots.
    filled: Vec<(u64, Box<[u8]>)>,
    filled_bytes: usize,
}

impl Folders {
    /// No folder yet.
    pub fn new() -> Folders {
        Folders { packer: Packer::new(u32::MAX), filled: Vec::new(), filled_bytes: 0 }
    }

    /// The slot of a folder's inode of so many bytes. All folders come before all files.
    pub fn place(&mut self, size: u64) -> Option<u64> {
        self.packer.place(size)
    }

    /// Takes the inode of a file, if there is room for it, and gives its slot.
    pub fn fill(&mut self, inode: &[u8]) -> Option<u64> {
        if self.filled_bytes + inode.len() > FILLED {
            return None;
        }
        let slot = self.packer.fill(inode.len() as u64)?;
        let slots = (inode.len() as u64).div_ceil(SLOT).max(1);
        if slot + slots == u64::from(self.packer.blocks()) * SLOTS {
            // fsck.erofs looks for attributes behind every inode, and the image may end here.
            self.packer.keep(self.packer.blocks() - 1, slots);
            return None;
        }
        self.filled_bytes += inode.len();
        self.filled.push((slot, inode.into()));
        Some(slot)
    }

    /// Blocks in use.
    pub fn blocks(&self) -> u32 {
        self.packer.blocks()
    }

    /// Files' inodes in the order of their slots.
    pub fn take(&mut self) -> Vec<(u64, Box<[u8]>)> {
        self.filled.sort_unstable_by_key(|(slot, _)| *slot);
        std::mem::take(&mut self.filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_and_blocks_not_crossed() {
        let mut packer = Packer::new(3);
        assert_eq!(packer.place(3000), Some(0));
        assert_eq!(packer.place(3000), Some(128));
        assert_eq!(packer.place(1000), Some(128 + 94));
        assert_eq!(packer.place(64), Some(128 + 126));
        assert_eq!(packer.place(4096), Some(256));
        assert_eq!(packer.place(4096), None);
        assert_eq!(packer.place(32), Some(94));
    }

    #[test]
    fn files_go_between_folders() {
        let mut folders = Folders::new();
        assert_eq!((folders.place(2100), folders.place(2100)), (Some(0), Some(128)));
        assert_eq!(folders.fill(&[1; 2100]), None);
        assert_eq!((folders.fill(&[2; 1900]), folders.fill(&[3; 1900])), (Some(128 + 66), Some(66)));
        assert_eq!((folders.fill(&[4; 96]), folders.blocks()), (None, 2));
        let filled = folders.take();
        assert!(filled.iter().map(|(slot, bytes)| (*slot, bytes[0])).eq([(66, 3), (128 + 66, 2)]));
        let mut many = Folders::new();
        for _ in 0..2000 {
            many.place(2100).unwrap();
        }
        assert!((0..2000).filter_map(|_| many.fill(&[5; 1900])).count() < 2000, "memory is bounded");
    }

    #[test]
    fn a_large_inode_is_a_group_of_its_own() {
        let mut group = Group::new();
        assert_eq!(group.add(&[1; 40]), Some(0));
        let large = vec![2; 5 << 20];
        assert_eq!(group.add(&large), None);
        assert_eq!(group.take().len(), 4096);
        assert_eq!(group.add(&large), Some(0));
        assert_eq!(group.add(&[3; 32]), None);
        assert_eq!(group.take(), large);
    }
}
