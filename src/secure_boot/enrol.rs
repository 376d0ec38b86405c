//! Firmware of virtual machines that knows the keys of a folder.

use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::folder::{KeyFolder, Role};
use crate::error::{Context, IoContext, Result};
use crate::formats::efi_variables::{BOOT_SERVICE, HEAD, KEYS, NON_VOLATILE, Variable, Volume, signature_list};
use crate::formats::gpt::Guid;

/// The vendor of the switch that turns Secure Boot on (EDK II): `gEfiSecureBootEnableDisableGuid`.
const SECURE_BOOT_ENABLE: Guid = Guid(0xf0a30bc7_af08_4556_99c4_001009c93a44_u128.to_be_bytes());
/// The vendor of the switch that lets anybody in front of the machine change keys: `gEfiCustomModeEnableGuid`.
const CUSTOM_MODE: Guid = Guid(0xc076ec0c_7028_4399_a072_71ee5c448b9f_u128.to_be_bytes());
/// The time of the first writes; later ones must be newer: 2010-01-01.
const FIRST_WRITE: i64 = 1_262_304_000;

/// The variables of a machine with Secure Boot on and the keys of a folder enrolled. There is no dbx: it would name what
/// db allows and is bad, and db allows one key.
pub fn variables(keys: &KeyFolder) -> Result<Vec<Variable>> {
    let owner = keys.owner()?;
    let switch = |name: &str, vendor, on: bool| Variable {
        name: name.to_owned(),
        vendor,
        attributes: NON_VOLATILE | BOOT_SERVICE,
        time: None,
        data: vec![u8::from(on)],
    };
    let mut variables =
        vec![switch("CustomMode", CUSTOM_MODE, false), switch("SecureBootEnable", SECURE_BOOT_ENABLE, true)];
    for role in Role::ALL {
        variables.push(Variable {
            name: role.name().to_owned(),
            vendor: role.vendor(),
            attributes: KEYS,
            time: Some(FIRST_WRITE),
            data: signature_list(owner, keys.certificate(role)?.der()),
        });
    }
    Ok(variables)
}

/// Makes the flash with the variables of a machine, `to`, from the empty one that came with the firmware.
pub fn enrol(keys: &KeyFolder, empty: &Path, to: &Path) -> Result<()> {
    let variables = variables(keys)?;
    let mut from = fs::File::open(empty).at("opening", empty)?;
    let size = from.metadata().at("reading", empty)?.len();
    let mut head = Vec::new();
    Read::by_ref(&mut from).take(HEAD).read_to_end(&mut head).at("reading", empty)?;
    let head = Volume::open(head, size).and_then(|volume| volume.with(&variables)).context(empty.display())?;
    let folder = to.parent().unwrap_or(Path::new("."));
    let mut write = || {
        // Its mode is 0600 from the start: it decides what this machine boots.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        from.rewind()?;
        std::io::copy(&mut from, file.as_file_mut())?;
        file.rewind()?;
        file.write_all(&head)?;
        file.persist(to).map_err(|error| error.error)
    };
    write().at("writing", to)?;
    Ok(())
}
