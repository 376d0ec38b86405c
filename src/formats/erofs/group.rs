//! Where inodes go: an inode with what follows it never crosses a block if it fits into one, so that its tail may
//! stand there, and gaps are filled with later, smaller inodes.

use super::format::{BLOCK, SLOT, SLOTS};

/// Blocks of one group. A larger group has fewer gaps at its end and takes more memory.
const GROUP_BLOCKS: u32 = 256;
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
        let slots = size.div_ceil(SLOT).max(1);
        if let Some(free) = (slots..SLOTS).find(|free| !self.open[*free as usize].is_empty()) {
            let block = self.open[free as usize].pop()?;
            self.keep(block, free - slots);
            return Some((u64::from(block) + 1) * SLOTS - free);
        }
        let first = self.blocks;
        let end = u32::try_from(u64::from(first) + slots.div_ceil(SLOTS)).ok().filter(|end| *end <= self.limit)?;
        self.blocks = end;
        self.keep(end - 1, u64::from(end - first) * SLOTS - slots);
        Some(u64::from(first) * SLOTS)
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
