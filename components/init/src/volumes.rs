//! Volumes: folders that several containers share. `lower` holds what the image gave, `merged` is what containers
//! bind.

use std::fs;
use std::path::Path;

use crate::console::say;
use crate::error::{Doing, Result};
use crate::mounts::mount_line;

/// Mounts every volume below /containers/volumes.
pub fn mount_volumes() {
    let base = Path::new("/containers/volumes");
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.join("lower").is_dir()).collect();
    names.sort();
    for volume in names {
        if let Err(failure) = mount_volume(&volume) {
            say(&format!("volume {}: {failure}", volume.display()));
        }
    }
}

/// A volume with a `tmp` folder can be written: an overlay whose upper part is a tmpfs there. One without is
/// read-only, and stays so for everyone (LinuxKit mounts it writable, because its builder always makes `tmp`).
fn mount_volume(volume: &Path) -> Result<()> {
    let [lower, upper, work, tmp, merged] = ["lower", "tmp/upper", "tmp/work", "tmp", "merged"]
        .map(|name| volume.join(name).to_string_lossy().into_owned());
    if !Path::new(&tmp).is_dir() {
        return mount_line(&lower, &merged, "", "bind,ro");
    }
    mount_line("tmpfs", &tmp, "tmpfs", "nodev,nosuid,relatime")?;
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).at("creating", Path::new(folder))?;
    }
    mount_line("overlay", &merged, "overlay", &format!("lowerdir={lower},upperdir={upper},workdir={work}"))
}
