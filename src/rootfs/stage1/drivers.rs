//! Which modules finding a root can take. A name that a kernel does not have is passed over: it may be built in, be
//! called differently, or not exist for the architecture.
//!
//! Not here: network block devices, RAID, LVM, FireWire, floppy and parallel-port drives.

/// What stands between the processor and a disk. Names as modules have them, with `_`.
pub const HARDWARE: &[(&str, &[&str])] = &[
    ("virtio", &["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi"]),
    ("NVMe", &["nvme", "vmd"]),
    ("SATA", &["ahci", "ahci_platform", "ata_piix", "ata_generic"]),
    ("SCSI disks and CD-ROM drives", &["sd_mod", "sr_mod"]),
    ("SAS and RAID controllers", &["megaraid_sas", "mpt3sas", "hpsa", "smartpqi"]),
    (
        "USB",
        &[
            "xhci_pci",
            "xhci_plat_hcd",
            "ehci_pci",
            "ehci_platform",
            "ohci_pci",
            "uhci_hcd",
            "dwc2",
            "usb_storage",
            "uas",
        ],
    ),
    ("MMC", &["mmc_block", "sdhci_pci", "sdhci_acpi", "sdhci_iproc", "bcm2835"]),
    ("Raspberry Pi", &["pcie_brcmstb", "reset_raspberrypi", "clk_raspberrypi", "sdhci_brcmstb"]),
    ("Hyper-V", &["hv_vmbus", "hv_storvsc", "pci_hyperv"]),
    ("Xen", &["xen_blkfront", "xen_scsifront"]),
    ("VMware", &["vmw_pvscsi", "mptspi", "mptsas"]),
];

/// SHA-256 with the processor's instructions, which makes dm-verity several times faster, and CRC-32C for EROFS.
pub const DIGESTS: &[&str] = &["sha256_ssse3", "sha2_ce", "sha256_arm64", "crc32c_intel"];

/// What FAT reads names with; the kernel would ask for these while it mounts.
pub const FAT_NAMES: &[&str] = &["nls_cp437", "nls_iso8859_1", "nls_ascii", "nls_utf8"];

/// Something that must be in the kernel, one way or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The module.
    pub module: &'static str,
    /// The kernel's option.
    pub option: &'static str,
    /// What to do without it.
    pub instead: &'static str,
}

/// Root file systems, their holders, and what is between.
pub const EROFS: Needed =
    Needed { module: "erofs", option: "CONFIG_EROFS_FS", instead: "choose root: {type: squashfs}" };
/// See [`EROFS`].
pub const SQUASHFS: Needed =
    Needed { module: "squashfs", option: "CONFIG_SQUASHFS", instead: "choose root: {type: erofs}" };
/// See [`EROFS`].
pub const ISO9660: Needed =
    Needed { module: "isofs", option: "CONFIG_ISO9660_FS", instead: "choose an image format whose root is no ISO" };
/// See [`EROFS`].
pub const EXT4: Needed = Needed { module: "ext4", option: "CONFIG_EXT4_FS", instead: "choose root: {type: erofs}" };
/// See [`EROFS`].
pub const VFAT: Needed =
    Needed { module: "vfat", option: "CONFIG_VFAT_FS", instead: "choose a format with a partition for the root" };
/// See [`EROFS`].
pub const LOOP: Needed =
    Needed { module: "loop", option: "CONFIG_BLK_DEV_LOOP", instead: "choose a format with a partition for the root" };
/// See [`EROFS`].
pub const DEVICE_MAPPER: Needed =
    Needed { module: "dm_mod", option: "CONFIG_BLK_DEV_DM", instead: "set root: {verity: false}" };
/// See [`EROFS`].
pub const VERITY: Needed =
    Needed { module: "dm_verity", option: "CONFIG_DM_VERITY", instead: "set root: {verity: false}" };
