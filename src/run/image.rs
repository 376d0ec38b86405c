//! What the argument of `moby run` stands for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext, Result};
use crate::formats::disk::{DiskImage, RawFile};
use crate::formats::{qcow2, vhd, vhdx, vmdk};

/// Suffixes of disk and CD images, in the order in which they are tried behind a bare name. `-efi` ones boot by UEFI.
const SUFFIXES: [&str; 18] = [
    ".img",
    ".raw",
    ".qcow2",
    ".iso",
    "-bios.img",
    "-efi.img",
    "-efi.raw",
    "-efi.qcow2",
    "-efi.iso",
    "-bios.iso",
    "-efi-initrd.iso",
    ".efi",
    ".vhdx",
    ".vmdk",
    ".vhd",
    "-dynamic.vhd",
    "-hybrid.qcow2",
    "-hybrid.iso",
];
/// Behind the kernel's prefix: roots on disks of their own. Squashfs has no identifier and must be the first disk.
const ROOTS: [&str; 3] = ["-squashfs.img", "-erofs.img", "-rootfs.iso"];
/// Bytes of a disk's first sector that BIOS runs.
const BOOT_CODE: usize = 440;

/// A kind of image, where a flag names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `NAME-kernel`, `NAME-initrd.img`, `NAME-cmdline`.
    Kernel,
    /// A CD image.
    Iso,
}

/// An image on disk.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name, for messages.
    pub name: String,
    /// Path without the suffix: what the state folder's name is made from.
    pub prefix: PathBuf,
    /// How it boots.
    pub boot: Boot,
}

/// How an image boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads the kernel itself.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// The initial file system, if there is one.
        initrd: Option<PathBuf>,
        /// The kernel's command line, without line ends.
        command_line: String,
        /// Disks with the root, if the initial file system looks for one.
        roots: Vec<PathBuf>,
    },
    /// UEFI starts a unified kernel image, which QEMU hands it.
    Uki {
        /// The image.
        path: PathBuf,
    },
    /// Firmware boots a disk.
    Disk {
        /// The disk image.
        path: PathBuf,
        /// QEMU's name of its format.
        format: &'static str,
    },
    /// Firmware boots a CD.
    Cd {
        /// The ISO 9660 image.
        path: PathBuf,
    },
}

impl Image {
    /// Finds `name`: a path or path prefix as it stands, else in `dir`.
    pub fn find(name: &str, dir: &Path, forced: Option<Kind>) -> Result<Image> {
        if name.is_empty() {
            return Err(Error::usage("the name of the image is empty"));
        }
        let mut places = vec![PathBuf::from(name)];
        if !name.contains('/') {
            // A bare name is an image of the folder first: a stray file of that name elsewhere must not win.
            places.insert(0, dir.join(name));
        }
        for place in &places {
            if let Some(image) = at(place, forced)? {
                return Ok(image);
            }
        }
        Err(not_found(name, dir, &places))
    }

    /// The state folder that is used unless one is named: `NAME-state` beside the image.
    pub fn default_state(&self) -> PathBuf {
        with_suffix(&self.prefix, "-state")
    }

    /// The file that boots.
    pub fn path(&self) -> &Path {
        match &self.boot {
            Boot::Kernel { kernel, .. } => kernel,
            Boot::Disk { path, .. } | Boot::Cd { path } | Boot::Uki { path } => path,
        }
    }

    /// Whether it boots by UEFI: the file's name says so, or a disk has nothing that BIOS could run.
    pub fn needs_uefi(&self) -> bool {
        let name = self.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let named = name.contains("-efi.") || name.contains("-efi-initrd.");
        match &self.boot {
            Boot::Kernel { .. } => false,
            Boot::Uki { .. } => true,
            Boot::Cd { .. } => named,
            // A disk that cannot be read here is QEMU's to complain about.
            Boot::Disk { path, format } => named || has_no_boot_code(path, format).unwrap_or(false),
        }
    }
}

/// Whether a disk has a boot record with a partition and no program in front of it.
fn has_no_boot_code(path: &Path, format: &str) -> Result<bool> {
    let file = RawFile::open(path)?;
    let disk: Box<dyn DiskImage> = match format {
        "qcow2" => Box::new(qcow2::Reader::open(file)?),
        "vmdk" => Box::new(vmdk::Reader::open(file)?),
        "vpc" => Box::new(vhd::Reader::open(file)?),
        "vhdx" => Box::new(vhdx::Reader::open(file)?),
        _ => Box::new(file),
    };
    let mut record = [0; 512];
    disk.read_at(&mut record, 0)?;
    let (code, tables) = record.split_at(BOOT_CODE);
    Ok(tables.ends_with(&[0x55, 0xaa]) && code.iter().all(|&byte| byte == 0))
}

fn at(place: &Path, forced: Option<Kind>) -> Result<Option<Image>> {
    let text = place.to_string_lossy().into_owned();
    if forced != Some(Kind::Iso) {
        // `images-out/minimal-kernel`, as a shell completes it, is the prefix with a tail.
        let prefix = match text.strip_suffix("-kernel") {
            Some(prefix) if place.is_file() => PathBuf::from(prefix),
            _ => place.to_owned(),
        };
        let kernel = with_suffix(&prefix, "-kernel");
        if kernel.is_file() {
            return Ok(Some(kernel_image(prefix, kernel)?));
        }
    }
    if forced == Some(Kind::Kernel) {
        return Ok(None);
    }
    if place.is_file() {
        return disk_image(place, forced).map(Some);
    }
    for suffix in SUFFIXES.iter().filter(|suffix| forced.is_none() || suffix.ends_with(".iso")) {
        let path = with_suffix(place, suffix);
        if path.is_file() {
            return disk_image(&path, forced).map(Some);
        }
    }
    Ok(None)
}

fn kernel_image(prefix: PathBuf, kernel: PathBuf) -> Result<Image> {
    let initrd = with_suffix(&prefix, "-initrd.img");
    let initrd = initrd.is_file().then_some(initrd);
    let path = with_suffix(&prefix, "-cmdline");
    let command_line = if path.is_file() {
        let text = fs::read_to_string(&path).at("reading", &path)?;
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        String::new()
    };
    // Without the word the root is the initramfs, and such a disk was left by another build.
    let wanted = command_line.split(' ').any(|word| word.trim_start_matches('"').starts_with("root="));
    let roots = ROOTS.iter().map(|suffix| with_suffix(&prefix, suffix)).filter(|path| wanted && path.is_file());
    let roots = roots.collect();
    Ok(Image { name: file_name(&prefix), boot: Boot::Kernel { kernel, initrd, command_line, roots }, prefix })
}

fn disk_image(path: &Path, forced: Option<Kind>) -> Result<Image> {
    let extension = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
    let boot = match extension.as_str() {
        _ if forced == Some(Kind::Iso) => Boot::Cd { path: path.to_owned() },
        "iso" => Boot::Cd { path: path.to_owned() },
        "img" | "raw" => Boot::Disk { path: path.to_owned(), format: "raw" },
        "qcow2" => Boot::Disk { path: path.to_owned(), format: "qcow2" },
        "vmdk" => Boot::Disk { path: path.to_owned(), format: "vmdk" },
        "vhd" => Boot::Disk { path: path.to_owned(), format: "vpc" },
        "vhdx" => Boot::Disk { path: path.to_owned(), format: "vhdx" },
        "efi" => Boot::Uki { path: path.to_owned() },
        "yml" | "yaml" => {
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            return Err(Error::usage(format!("{} is a blueprint, not an image", path.display()))
                .hint(format!("moby build {} && moby run {name}", path.display())));
        }
        _ => {
            return Err(Error::usage(format!("{}: not known as an image by its name", path.display())).hint(
                "disk images end in .img, .raw, .qcow2, .vmdk, .vhd, .vhdx or .iso; a kernel in -kernel or .efi",
            ));
        }
    };
    Ok(Image { name: file_name(path), prefix: path.with_extension(""), boot })
}

fn not_found(name: &str, dir: &Path, places: &[PathBuf]) -> Error {
    let tried: Vec<_> = places.iter().map(|place| format!("{}-kernel", place.display())).collect();
    let error =
        Error::usage(format!("no image \"{name}\": neither {} nor a disk image of that name", tried.join(", ")));
    let mut built: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kernel = name.strip_suffix("-kernel").map(str::to_owned);
            kernel.or_else(|| {
                SUFFIXES.iter().any(|end| name.ends_with(end) && !name.ends_with("-initrd.img")).then_some(name)
            })
        })
        .collect();
    built.sort();
    if built.is_empty() {
        error.hint(format!("nothing is built in {}: moby build BLUEPRINT first", dir.display()))
    } else {
        error.hint(format!("built in {}: {}", dir.display(), built.join(", ")))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_prefixes_and_kernel_paths_mean_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("a.b");
        fs::write(with_suffix(&prefix, "-kernel"), "k").unwrap();
        fs::write(with_suffix(&prefix, "-initrd.img"), "i").unwrap();
        fs::write(with_suffix(&prefix, "-cmdline"), "console=ttyS0  quiet\n").unwrap();
        let full = prefix.to_string_lossy().into_owned();
        for name in ["a.b", full.as_str(), &format!("{full}-kernel")] {
            let image = Image::find(name, dir.path(), None).unwrap();
            assert_eq!(image.default_state(), with_suffix(&prefix, "-state"));
            let Boot::Kernel { initrd, command_line, .. } = image.boot else { panic!("{name}") };
            assert!(initrd.is_some());
            assert_eq!(command_line, "console=ttyS0 quiet");
        }
    }

    #[test]
    fn disks_by_suffix_and_efi_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x-efi.qcow2"), "").unwrap();
        fs::write(dir.path().join("y.iso"), "").unwrap();
        let image = Image::find("x", dir.path(), None).unwrap();
        assert!(image.needs_uefi());
        assert!(matches!(image.boot, Boot::Disk { format: "qcow2", .. }));
        assert!(matches!(Image::find("y.iso", dir.path(), None).unwrap().boot, Boot::Cd { .. }));
        fs::write(dir.path().join("z.efi"), "").unwrap();
        assert!(Image::find("z", dir.path(), None).unwrap().needs_uefi());
    }

    #[test]
    fn disks_without_a_program_for_bios_need_uefi() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = vec![0; 1024];
        record[510..512].copy_from_slice(&[0x55, 0xaa]);
        for (first, uefi) in [(0, true), (0xfa, false)] {
            record[0] = first;
            fs::write(dir.path().join("x.raw"), &record).unwrap();
            assert_eq!(Image::find("x", dir.path(), None).unwrap().needs_uefi(), uefi);
        }
    }

    #[test]
    fn roots_on_disks() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a-kernel", "a-erofs.img", "a-squashfs.img"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let roots = || match Image::find("a", dir.path(), None).unwrap().boot {
            Boot::Kernel { roots, .. } => roots,
            _ => panic!("no kernel"),
        };
        assert!(roots().is_empty());
        fs::write(dir.path().join("a-cmdline"), "quiet root=/dev/vda").unwrap();
        assert_eq!(roots(), ["a-squashfs.img", "a-erofs.img"].map(|name| dir.path().join(name)));
    }

    #[test]
    fn what_is_missing_names_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let error = Image::find("redis", dir.path(), None).unwrap_err();
        assert!(error.hint_text().unwrap().contains("moby build"), "{error}");
        fs::write(dir.path().join("minimal-kernel"), "").unwrap();
        fs::write(dir.path().join("minimal-initrd.img"), "").unwrap();
        let error = Image::find("redis", dir.path(), None).unwrap_err();
        assert!(error.hint_text().unwrap().ends_with(": minimal"), "{error}");
        let blueprint = dir.path().join("b.yml");
        fs::write(&blueprint, "").unwrap();
        let error = Image::find(&blueprint.to_string_lossy(), dir.path(), None).unwrap_err();
        assert!(error.message().contains("blueprint"), "{error}");
    }
}
