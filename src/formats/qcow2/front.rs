//! Data that is written into an image before anything else of it is known: clusters need not stand in the order of the disk.

use super::format::{BLOCK_ENTRIES, CLUSTER};

/// The first cluster behind the header and the first block of reference counts.
pub(super) const FIRST: u64 = 2;

/// A run of clusters side by side in the data and in the image's file. All numbers are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where it is in the data or, given to the writer, on the disk.
    pub offset: u64,
    /// Where it is in the image's file.
    pub place: u64,
    /// Its size.
    pub size: u64,
}

/// Gives clusters to data in the order in which they are asked for: from the third on, but for those in which every 2 GiB
/// have their reference counts.
#[derive(Debug)]
pub struct Front {
    runs: Vec<Placed>,
    next: u64,
}

impl Default for Front {
    fn default() -> Front {
        Front { runs: Vec::new(), next: FIRST }
    }
}

impl Front {
    /// Where a byte of the data stands in the image's file; a cluster is taken if none is there.
    pub fn place(&mut self, offset: u64) -> u64 {
        let start = offset / CLUSTER * CLUSTER;
        let behind = self.runs.partition_point(|run| run.offset <= start);
        let before = behind.checked_sub(1).and_then(|at| self.runs.get_mut(at));
        if let Some(run) = &before
            && start < run.offset + run.size
        {
            return run.place + (offset - run.offset);
        }
        if self.next.is_multiple_of(BLOCK_ENTRIES) {
            self.next += 1;
        }
        let place = self.next * CLUSTER;
        self.next += 1;
        match before {
            Some(run) if run.offset + run.size == start && run.place + run.size == place => run.size += CLUSTER,
            _ => self.runs.insert(behind, Placed { offset: start, place, size: CLUSTER }),
        }
        place + (offset - start)
    }

    /// The clusters, in the order of the data.
    pub fn runs(&self) -> &[Placed] {
        &self.runs
    }
}
