//! The descriptor, a text inside the file ("Virtual Disk Format 5.0", section "The Descriptor File").

use super::format::{DESCRIPTOR, GRAIN};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, Identity, SECTOR, checked_size};

/// The controller that VMware attaches the disk to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adapter {
    /// A SCSI controller; also stands for paravirtual ones and NVMe, which have no name of their own here.
    #[default]
    LsiLogic,
    /// An IDE controller.
    Ide,
}

/// How a VMDK is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where the content id comes from.
    pub identity: Identity,
    /// The controller.
    pub adapter: Adapter,
    /// Version of VMware's virtual hardware that the disk asks for: 13 is ESXi 6.5.
    pub hardware_version: u32,
    /// Level of deflate from 1 to 9, for streams.
    pub level: u32,
}

impl Options {
    /// A SCSI disk for hardware of version 13, compressed at level 9: in zlib-rs that is as small and quick as level 6
    /// of zlib. The level 6 of zlib-rs is 2 % larger and 2.5 times as quick.
    pub fn new(identity: Identity) -> Options {
        Options { identity, adapter: Adapter::default(), hardware_version: 13, level: 9 }
    }
}

/// The disk's size rounded up to a grain, in sectors. File offsets in sectors have 32 bits.
pub fn capacity(disk: &dyn DiskImage) -> Result<u64> {
    const LIMIT: u64 = (1 << 41) - (1 << 32);
    Ok(checked_size(disk, "VMDK", LIMIT)?.next_multiple_of(GRAIN) / SECTOR)
}

/// The descriptor's sectors. The extent's file name is left at "disk.vmdk": readers take the file that they opened.
pub fn encode(capacity: u64, create_type: &str, options: &Options) -> Result<Vec<u8>> {
    let id = options.identity.derive("vmdk content");
    // 0xffffffff stands for "no parent", 0xfffffffe for "not set".
    let cid = u32::from_le_bytes([id[0], id[1], id[2], id[3]]).min(0xffff_fffd);
    let long: String = id[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let (adapter, heads) = match options.adapter {
        Adapter::LsiLogic => ("lsilogic", 255),
        Adapter::Ide => ("ide", 16),
    };
    let cylinders = capacity / (heads * 63);
    let version = options.hardware_version;
    let text = format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         CID={cid:08x}\n\
         parentCID=ffffffff\n\
         createType=\"{create_type}\"\n\
         \n\
         # Extent description\n\
         RW {capacity} SPARSE \"disk.vmdk\"\n\
         \n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.virtualHWVersion = \"{version}\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\n\
         ddb.geometry.sectors = \"63\"\n\
         ddb.adapterType = \"{adapter}\"\n\
         ddb.longContentID = \"{long}\"\n"
    );
    let mut bytes = text.into_bytes();
    let room = (DESCRIPTOR.1 * SECTOR) as usize;
    if bytes.len() > room {
        return Err(Error::failed(format!("a VMDK descriptor of {} bytes, over {room}", bytes.len())));
    }
    bytes.resize(room, 0);
    Ok(bytes)
}
