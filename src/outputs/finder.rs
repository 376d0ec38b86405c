//! What the kernel starts with where the root is a file system on a disk: an initramfs whose only task is to find it.

use super::{Options, System, uki};
use crate::error::Result;
use crate::rootfs::Tree;
use crate::rootfs::stage1::{self, Purpose};

/// The component that finds the root.
const STAGE1: &str = "components/stage1";
/// Bytes of a kernel's configuration, at most; Debian's have 300 KB.
pub const CONFIG_LIMIT: u64 = 4 << 20;

/// The initramfs for a system's kernel, and says what it took. A kernel that cannot have such a root, as far as its
/// modules and its configuration tell, is refused.
pub fn initramfs(system: &System, purpose: &Purpose, options: &Options<'_>) -> Result<Tree> {
    if let Some(config) = &uki::kernel(system)?.config {
        let with_modules = stage1::release(&system.tree)?.is_some();
        stage1::check_configuration(&config.read(CONFIG_LIMIT)?, with_modules, purpose)?;
    }
    let program = options.component(STAGE1, system.arch)?;
    let made = stage1::initramfs(&program, &system.tree, purpose, options.time)?;
    options.ui.note(format!("initramfs: {}", made.summary));
    Ok(made.tree)
}
