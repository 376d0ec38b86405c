//! UEFI firmware: where distributions keep it, and how QEMU wants it.

use std::fs;
use std::path::{Path, PathBuf};

use super::Options;
use super::image::{Boot, Image};
use crate::Arch;
use crate::error::{Error, IoContext, Result};
use crate::secure_boot::enrol::enrol;
use crate::secure_boot::folder::{KeyFolder, Role};
use crate::store::Hasher;

/// Firmware for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// Code and variables in two flash chips; the variables are this machine's own copy.
    Flash {
        /// Code, mapped read-only.
        code: PathBuf,
        /// The copy of the variables in the state folder.
        variables: PathBuf,
    },
    /// The same with Secure Boot: only the firmware itself may write variables.
    Secure {
        /// Code, mapped read-only.
        code: PathBuf,
        /// The variables, with keys enrolled, in the state folder.
        variables: PathBuf,
    },
    /// One file for `-bios`; variables last as long as the machine runs.
    Bios(PathBuf),
}

/// Code and variables, in the order in which they are tried: Debian and Ubuntu, Fedora, Arch, QEMU's own builds.
const AMD64: [(&str, &str); 5] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
];
const ARM64: [(&str, &str); 4] = [
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
    ("/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
    ("/usr/share/qemu/edk2-aarch64-code.fd", "/usr/share/qemu/edk2-arm-vars.fd"),
];

/// The same for Secure Boot on PCs: code that runs in system management mode, where the guest cannot reach it. ARM's
/// firmware is the same with and without, and nothing there keeps a guest's kernel from the flash.
const AMD64_SECURE: [(&str, &str); 5] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/edk2-x86_64-secure-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
];

/// The firmware that the machine needs beyond QEMU's built-in BIOS; `None` for a kernel that QEMU loads and for BIOS
/// disks. ARM64 disks always need UEFI.
pub fn choose(image: &Image, arch: Arch, options: &Options, state: &Path) -> Result<Option<Firmware>> {
    let disk = !matches!(image.boot, Boot::Kernel { .. });
    if let Some(keys) = &options.secure_boot {
        return secure(keys, image, arch, options, state).map(Some);
    }
    if let Some(path) = &options.firmware {
        return given(path, state).map(Some);
    }
    let wanted = options.uefi || image.needs_uefi() || (disk && arch == Arch::Arm64);
    if !wanted {
        return Ok(None);
    }
    let known: &[(&'static str, &'static str)] = match arch {
        Arch::Amd64 => &AMD64,
        Arch::Arm64 => &ARM64,
    };
    let (code, variables) = installed(known, arch)?;
    flash(code, variables, state).map(Some)
}

/// Firmware with Secure Boot on and the keys of a folder enrolled.
fn secure(keys: &Path, image: &Image, arch: Arch, options: &Options, state: &Path) -> Result<Firmware> {
    if matches!(image.boot, Boot::Kernel { .. }) {
        return Err(Error::usage(
            "--secure-boot is for what firmware starts, and this is a kernel that QEMU loads itself",
        )
        .hint("build --format uki, raw-efi or another one for UEFI, with --sign"));
    }
    let keys = KeyFolder::open(keys)?;
    let known: &[(&'static str, &'static str)] = match arch {
        Arch::Amd64 => &AMD64_SECURE,
        Arch::Arm64 => &ARM64,
    };
    let (code, empty) = match &options.firmware {
        None => installed(known, arch).map(|(code, variables)| (code.to_owned(), variables.to_owned()))?,
        Some(path) => match given(path, state)? {
            Firmware::Flash { code, .. } => {
                let empty = partner(&code);
                (code, empty)
            }
            _ => {
                return Err(Error::usage(format!(
                    "--fw {}: no file with empty variables is beside it",
                    path.display()
                ))
                .hint("--secure-boot needs code and variables as two files, such as OVMF_CODE.fd and OVMF_VARS.fd"));
            }
        },
    };
    // Other keys are another machine: what this one has written stays with its own.
    let mut hasher = Hasher::new();
    for role in Role::ALL {
        hasher.field(keys.certificate(role)?.der());
    }
    hasher.field(code.as_os_str().as_encoded_bytes());
    let variables = state.join(format!("uefi-secure-{}.fd", &hasher.finish().hex()[..12]));
    if !variables.exists() {
        enrol(&keys, &empty, &variables)?;
    }
    Ok(Firmware::Secure { code, variables })
}

fn installed(known: &[(&'static str, &'static str)], arch: Arch) -> Result<(&'static Path, &'static Path)> {
    for &(code, variables) in known {
        if Path::new(code).is_file() && Path::new(variables).is_file() {
            return Ok((Path::new(code), Path::new(variables)));
        }
    }
    let package = if arch == Arch::Amd64 { "ovmf" } else { "qemu-efi-aarch64" };
    Err(Error::failed(format!(
        "no UEFI firmware for {arch} found ({})",
        known.iter().map(|(code, _)| *code).collect::<Vec<_>>().join(", ")
    ))
    .hint(format!("install Debian's package {package} (apt-get install {package}), or name a file with --fw")))
}

fn given(path: &Path, state: &Path) -> Result<Firmware> {
    if !path.is_file() {
        return Err(Error::usage(format!("--fw {}: there is no such file", path.display())));
    }
    // OVMF_CODE_4M.fd has its variables in OVMF_VARS_4M.fd; a file without such a partner holds both.
    let variables = partner(path);
    if variables != path && variables.is_file() {
        return flash(path, &variables, state);
    }
    Ok(Firmware::Bios(path.to_owned()))
}

/// The variables beside a file with code. Code for Secure Boot often shares them: `OVMF_CODE.secboot.fd` has no
/// `OVMF_VARS.secboot.fd`.
fn partner(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let variables = path.with_file_name(name.replace("CODE", "VARS").replace("code", "vars"));
    if variables.is_file() {
        return variables;
    }
    let shared = variables.with_file_name(name.replace("CODE", "VARS").replace("code", "vars").replace(".secboot", ""));
    if shared.is_file() { shared } else { variables }
}

fn flash(code: &Path, template: &Path, state: &Path) -> Result<Firmware> {
    // Kept from run to run, as on a real machine, unless the firmware is another one: sizes must match the code's.
    let name = template.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let variables = state.join(format!("uefi-{name}"));
    if !variables.exists() {
        // Whole or not at all: half of it would be taken for the machine's own ever after. The template belongs to the
        // system and may be read-only; the copy has mode 0600 and is written by the guest.
        let mut from = fs::File::open(template).at("opening", template)?;
        let mut copy = || {
            let mut file = tempfile::NamedTempFile::new_in(state)?;
            std::io::copy(&mut from, file.as_file_mut())?;
            file.persist(&variables).map_err(|error| error.error)
        };
        copy().at("copying UEFI variables to", &variables)?;
    }
    Ok(Firmware::Flash { code: code.to_owned(), variables })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_firmware_finds_its_variables() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let code = dir.path().join("MY_CODE.fd");
        fs::write(&code, "c").unwrap();
        assert_eq!(given(&code, &state).unwrap(), Firmware::Bios(code.clone()));
        fs::write(dir.path().join("MY_VARS.fd"), "v").unwrap();
        let Firmware::Flash { variables, .. } = given(&code, &state).unwrap() else { panic!("no flash") };
        assert_eq!(fs::read(&variables).unwrap(), b"v");
        let mode = std::os::unix::fs::PermissionsExt::mode(&variables.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        // A file whose reading fails: nothing is left that would be taken for variables.
        assert!(flash(&code, Path::new("/proc/self/mem"), &state).is_err());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        fs::write(&variables, "changed").unwrap();
        given(&code, &state).unwrap();
        assert_eq!(fs::read(&variables).unwrap(), b"changed");
        assert!(given(&dir.path().join("none"), &state).is_err());
        assert_eq!(partner(&dir.path().join("MY_CODE.secboot.fd")), dir.path().join("MY_VARS.fd"));
    }
}
