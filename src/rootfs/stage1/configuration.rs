//! What a kernel's configuration says of the root: modules.builtin names modules and not features, and a kernel that has no
//! modules at all has no such table.

use super::drivers::Needed;
use super::selection::needed;
use super::{Purpose, RootKind, Storage};
use crate::error::{Error, Result};

const EROFS_ZIP: Needed =
    Needed { module: "erofs", option: "CONFIG_EROFS_FS_ZIP", instead: "choose root: {compression: none}" };
const SQUASHFS_ZLIB: Needed =
    Needed { module: "squashfs", option: "CONFIG_SQUASHFS_ZLIB", instead: "choose root: {compression: zstd}" };
const SQUASHFS_XZ: Needed =
    Needed { module: "squashfs", option: "CONFIG_SQUASHFS_XZ", instead: "choose root: {compression: zstd}" };
const SQUASHFS_ZSTD: Needed =
    Needed { module: "squashfs", option: "CONFIG_SQUASHFS_ZSTD", instead: "choose root: {compression: gzip}" };

/// What a file system must be configured with to read files that are stored so.
fn decompressor(purpose: &Purpose) -> Option<Needed> {
    match (purpose.root, purpose.storage) {
        (RootKind::Erofs, Storage::Plain) | (RootKind::Iso9660 | RootKind::Ext4, _) => None,
        (RootKind::Erofs, _) => Some(EROFS_ZIP),
        // Linux wants the decompressor that the superblock names, and there is no number for none: it says zlib.
        (RootKind::Squashfs, Storage::Plain | Storage::Gzip) => Some(SQUASHFS_ZLIB),
        (RootKind::Squashfs, Storage::Xz) => Some(SQUASHFS_XZ),
        (RootKind::Squashfs, Storage::Zstd | Storage::Lz4) => Some(SQUASHFS_ZSTD),
    }
}

/// Refuses a kernel whose configuration (lines `CONFIG_NAME=y` or `=m`) lacks what `purpose` needs. Options that are
/// modules count only if the kernel's modules are at hand.
pub fn check_configuration(configuration: &[u8], with_modules: bool, purpose: &Purpose) -> Result<()> {
    let value = |option: &str| {
        configuration.split(|byte| *byte == b'\n').find_map(|line| {
            let value = line.strip_prefix(option.as_bytes())?.strip_prefix(b"=")?;
            Some(value.trim_ascii_end())
        })
    };
    for Needed { option, instead, .. } in needed(purpose).into_iter().chain(decompressor(purpose)) {
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
        let purpose = |root, verity| {
            let storage = if root == RootKind::Erofs { Storage::Lz4 } else { Storage::Zstd };
            Purpose { root, storage, verity, container: None }
        };
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

    #[test]
    fn a_root_takes_the_decompressor_that_it_is_stored_with() {
        let all = "CONFIG_EROFS_FS=y\nCONFIG_SQUASHFS=y\n";
        for (root, storage, option) in [
            (RootKind::Erofs, Storage::Plain, None),
            (RootKind::Erofs, Storage::Lz4, Some("CONFIG_EROFS_FS_ZIP")),
            (RootKind::Squashfs, Storage::Plain, Some("CONFIG_SQUASHFS_ZLIB")),
            (RootKind::Squashfs, Storage::Gzip, Some("CONFIG_SQUASHFS_ZLIB")),
            (RootKind::Squashfs, Storage::Xz, Some("CONFIG_SQUASHFS_XZ")),
            (RootKind::Squashfs, Storage::Zstd, Some("CONFIG_SQUASHFS_ZSTD")),
        ] {
            let purpose = Purpose { root, storage, verity: false, container: None };
            let found = check_configuration(all.as_bytes(), false, &purpose);
            let Some(option) = option else {
                assert!(found.is_ok());
                continue;
            };
            let error = found.unwrap_err();
            assert!(error.message().contains(&format!("takes {option},")), "{error}");
            let with = format!("{all}{option}=y\n");
            assert!(check_configuration(with.as_bytes(), false, &purpose).is_ok());
        }
    }
}
