//! What the guest must know of the disk's layout to make its data partition: `etc/moby/disk.json`.

use super::Assembly;
use crate::blueprint::{MapBuilder, Value};
use crate::error::{Error, Result};
use crate::rootfs::{Content, Inode, Kind, Meta};

/// Where the guest finds it.
const PATH: &str = "etc/moby/disk.json";

impl Assembly<'_> {
    /// Writes the file if there is something to say. All values are there, defaults included: the guest has none.
    pub(super) fn disk(&mut self) -> Result<()> {
        let disk = &self.locked.blueprint.disk;
        if disk.data.is_none() && disk.slots() < 2 {
            return Ok(());
        }
        if let Some(data) = &disk.data {
            let origin = self.origin("disk", "disk");
            self.folder_if_missing(data.mount().trim_start_matches('/'), origin)?;
        }
        let mut map = MapBuilder::default();
        map.put("slots", Value::Integer(disk.slots().into()));
        map.maybe(
            "data",
            disk.data.as_ref().map(|data| {
                let mut map = MapBuilder::default();
                map.put("size", Value::Text(data.size().to_string())).put("label", Value::text(data.label()));
                map.put("mount", Value::text(data.mount())).put("filesystem", Value::text(data.file_system()));
                map.put("encrypt", Value::text(data.encrypt())).build()
            }),
        );
        if self.tree.lookup(PATH.as_bytes()).is_some() {
            return Err(Error::usage(format!(
                "/{PATH} is in the image already, and `disk:` of the blueprint makes it"
            ))
            .hint("remove the file or `disk:`"));
        }
        let origin = self.origin("disk", "disk");
        let kind = Kind::File(Content::bytes(map.build().to_json(2).into_bytes()));
        let inode = Inode { meta: Meta::root(0o644, self.time), kind, origin };
        let missing = self.missing();
        self.tree.insert(PATH.as_bytes(), inode, &missing).map(drop)
    }
}
