//! What a kernel's configuration says of the root: modules.builtin names modules and not features, and a kernel that has no
//! modules at all has no such table.

use super::drivers::Needed;
use super::selection::needed;
use super::{Purpose, RootKind};
use crate::error::{Error, Result};

/// How the images that are written here are compressed.
const EROFS_ZIP: Needed =
    Needed { module: "erofs", option: "CONFIG_EROFS_FS_ZIP", instead: "choose root: {type: squashfs}" };
const SQUASHFS_ZSTD: Needed =
    Needed { module: "squashfs", option: "CONFIG_SQUASHFS_ZSTD", instead: "choose root: {type: erofs}" };

/// Refuses a kernel whose configuration (lines `CONFIG_NAME=y` or `=m`) lacks what `purpose` needs. Options that are
/// modules count only if the kernel's modules are at hand.
pub fn check_configuration(configuration: &[u8], with_modules: bool, purpose: &Purpose) -> Result<()> {
    let value = |option: &str| {
        configuration.split(|byte| *byte == b'\n').find_map(|line| {
            let value = line.strip_prefix(option.as_bytes())?.strip_prefix(b"=")?;
            Some(value.trim_ascii_end())
        })
    };
    let compression = match purpose.root {
        RootKind::Erofs => Some(EROFS_ZIP),
        RootKind::Squashfs => Some(SQUASHFS_ZSTD),
        RootKind::Iso9660 | RootKind::Ext4 => None,
    };
    for Needed { option, instead, .. } in needed(purpose).into_iter().chain(compression) {
        let missing = match value(option) {
            Some(b"y") => continue,
            Some(b"m") if with_modules => continue,
            Some(b"m") => "has it as a module, and its modules are not in the image (kernel: tar)",
            _ => "is configured without it",
        };
        return Err(Error::refused(format!("the root takes {option}, and the kernel {missing}"))
            .hint(format!("{instead}, or use a kernel with {option}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let purpose = |root, verity| Purpose { root, verity, container: None };
        let debian = b"CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\nCONFIG_BLK_DEV_DM=m\nCONFIG_DM_VERITY=m\n";
        let erofs = purpose(RootKind::Erofs, true);
        assert!(check_configuration(debian, true, &erofs).is_ok());
        let error = check_configuration(debian, false, &erofs).unwrap_err();
        assert!(error.message().contains("CONFIG_EROFS_FS, and the kernel has it as a module"), "{error}");
        let error = check_configuration(debian, true, &purpose(RootKind::Squashfs, false)).unwrap_err();
        assert!(error.message().contains("CONFIG_SQUASHFS, and the kernel is configured without"), "{error}");
        assert_eq!(error.hint_text(), Some("choose root: {type: erofs}, or use a kernel with CONFIG_SQUASHFS"));
        let plain = b"CONFIG_EROFS_FS=y\n# CONFIG_EROFS_FS_ZIP is not set\nCONFIG_BLK_DEV_DM=y\nCONFIG_DM_VERITY=y\n";
        let error = check_configuration(plain, false, &erofs).unwrap_err();
        assert!(error.message().contains("CONFIG_EROFS_FS_ZIP"), "{error}");
        let unverified = b"CONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_ZSTD=y\n";
        assert!(check_configuration(unverified, false, &purpose(RootKind::Squashfs, false)).is_ok());
        let error = check_configuration(unverified, false, &purpose(RootKind::Squashfs, true)).unwrap_err();
        assert_eq!(error.hint_text(), Some("set root: {verity: false}, or use a kernel with CONFIG_BLK_DEV_DM"));
    }
}
