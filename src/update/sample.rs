//! Disks with two slots for tests, as the builder lays them out, with roots of a few blocks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::Arc;

use super::slots::bytes::hex;
use super::slots::device::{Device, SECTOR};
use crate::formats::gpt::{self, Guid};
use crate::formats::source::Source;
use crate::formats::{fat, verity};

/// Blocks of 4096 bytes of the roots here; more than one block of hashes.
pub const BLOCKS: usize = 130;

/// A sector: its number and its bytes.
pub type Sector = (u64, [u8; 512]);

/// A disk in memory: what it was at first, and what was written since, in order.
#[derive(Clone, Debug)]
pub struct Memory {
    base: Arc<Vec<u8>>,
    written: RefCell<BTreeMap<u64, [u8; 512]>>,
    /// Every write as sectors; `None` is a flush.
    pub log: RefCell<Vec<Option<Sector>>>,
    locked: Cell<bool>,
}

impl Memory {
    pub fn new(base: Arc<Vec<u8>>) -> Memory {
        Memory { base, written: RefCell::default(), log: RefCell::default(), locked: Cell::default() }
    }

    /// The same disk with these sectors written to it.
    pub fn with(&self, sectors: impl IntoIterator<Item = (u64, [u8; 512])>) -> Memory {
        let mut written = self.written.borrow().clone();
        written.extend(sectors);
        Memory { written: RefCell::new(written), ..Memory::new(Arc::clone(&self.base)) }
    }
}

impl Device for Memory {
    fn size(&self) -> u64 {
        self.base.len() as u64
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let from = at as usize;
        let base = self.base.get(from..from + bytes.len()).ok_or_else(|| io::Error::other("beyond the end"))?;
        bytes.copy_from_slice(base);
        let (first, last) = (at / SECTOR, (at + bytes.len() as u64).div_ceil(SECTOR));
        for (sector, content) in self.written.borrow().range(first..last) {
            for (offset, byte) in content.iter().enumerate() {
                if let Some(index) = (sector * SECTOR + offset as u64).checked_sub(at)
                    && let Some(place) = bytes.get_mut(index as usize)
                {
                    *place = *byte;
                }
            }
        }
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(
            at.is_multiple_of(SECTOR) && bytes.len().is_multiple_of(512),
            "not whole sectors: {at}, {}",
            bytes.len()
        );
        assert!(at + bytes.len() as u64 <= self.size());
        for (number, chunk) in (at / SECTOR..).zip(bytes.chunks(512)) {
            let sector: [u8; 512] = chunk.try_into().unwrap();
            self.written.borrow_mut().insert(number, sector);
            self.log.borrow_mut().push(Some((number, sector)));
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.log.borrow_mut().push(None);
        Ok(())
    }

    fn forget(&self, _: u64, _: u64) {}

    fn lock(&self) -> io::Result<()> {
        assert!(!self.locked.replace(true), "locked twice");
        Ok(())
    }

    fn unlock(&self) {
        assert!(self.locked.replace(false));
    }
}

/// An image of a version: the name of the kernel image is the builder's unless another is given.
pub fn disk(version: u8, name: &str) -> Arc<Vec<u8>> {
    disk_with(version, name, Vec::new())
}

/// As [`disk`], with a data partition.
pub fn disk_with_data(version: u8, name: &str) -> Arc<Vec<u8>> {
    let data = gpt::Partition::new(gpt::LINUX_DATA, "kept", Arc::new(Vec::new()));
    disk_with(version, name, vec![gpt::Partition { size: 1 << 20, ..data }])
}

fn disk_with(version: u8, name: &str, more: Vec<gpt::Partition>) -> Arc<Vec<u8>> {
    let (root, tree, hash) = root(version);
    let line = format!("roothash={} version={version}", hex(&hash));
    let size = 70_000 + usize::from(version) * 1000;
    let image = super::slots::program::tests::sample(&line, size);
    let file = |path: &str, content: Vec<u8>| fat::File {
        path: path.to_owned(),
        content: Some(Arc::new(content) as Arc<dyn Source>),
    };
    let files = [file("EFI/BOOT/BOOTX64.EFI", vec![1; 5000]), file(&format!("EFI/Linux/{name}"), image)];
    let options = fat::Options { kind: Some(fat::Kind::Fat32), free: 300_000, ..fat::Options::default() };
    let esp = fat::Fat::new(&files, &options).unwrap();
    let guid = |from: usize| Guid(std::array::from_fn(|at| hash[from + at]));
    let partition = |kind, name: &str, guid, size, content: Vec<u8>| gpt::Partition {
        guid,
        size,
        attributes: gpt::READ_ONLY,
        ..gpt::Partition::new(kind, name, Arc::new(content))
    };
    let (kind, tree_kind) = (gpt::ROOT_X86_64, gpt::ROOT_X86_64_VERITY);
    let mut partitions = vec![
        gpt::Partition::new(gpt::EFI_SYSTEM, "ESP", Arc::new(esp)),
        partition(kind, "root-A", Some(guid(0)), 1 << 20, root),
        partition(tree_kind, "root-verity-A", Some(guid(16)), 1 << 20, tree),
        partition(kind, "_empty", None, 1 << 20, Vec::new()),
        partition(tree_kind, "_empty", None, 1 << 20, Vec::new()),
    ];
    partitions.extend(more);
    let disk = gpt::Disk::new(partitions, gpt::Options::default()).unwrap();
    let mut bytes = Vec::new();
    disk.write_to(&mut bytes).unwrap();
    Arc::new(bytes)
}

/// A root, its hash tree with superblock, and its root hash.
fn root(version: u8) -> (Vec<u8>, Vec<u8>, [u8; 32]) {
    let root: Vec<u8> = (0..BLOCKS * 4096).map(|at| (at / 4096) as u8 ^ version).collect();
    let mut tree = Cursor::new(Vec::new());
    let options = verity::Options { salt: vec![version; 32], uuid: None };
    let made = verity::write(&mut root.as_slice(), root.len() as u64, &mut tree, &options).unwrap();
    (root, tree.into_inner(), made.root_hash)
}
