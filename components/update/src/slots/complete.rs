//! Marking a good boot: the running image is no longer on trial.

use super::device::Device;
use super::failure::{Failure, Result};
use super::layout::{Layout, name_of, root_guid};

/// What became of the running image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completed {
    /// It was not on trial.
    Already(String),
    /// It was; these are the names before and after.
    Renamed(String, String),
}

/// Takes the tries out of the name of the image with this root hash: that is the running one, because no two slots have
/// the same.
pub fn complete(disk: &dyn Device, running: &[u8; 32]) -> Result<Completed> {
    let mut layout = Layout::read(disk)?;
    let of_running =
        layout.images.iter().filter(|image| image.root_hash.as_ref().map(root_guid) == Some(root_guid(running)));
    let Some(image) = of_running.max_by_key(|image| image.generation).cloned() else {
        return Err(Failure::refused("the running kernel image is not on this disk's EFI system partition"));
    };
    if image.tries.is_none() {
        return Ok(Completed::Already(image.file.name));
    }
    let name = name_of(image.generation, None);
    layout.volume.rename(layout.folder, &image.file, &name)?;
    Ok(Completed::Renamed(image.file.name, name))
}
