//! Makes the keys of Secure Boot. The one place where random numbers belong; the time is an argument.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use p256::ecdsa::SigningKey;
use p256::elliptic_curve::rand_core::CryptoRngCore;
use rsa::pkcs8::EncodePrivateKey;

use super::folder::{OWNER, Role};
use crate::error::{Error, IoContext, Result};
use crate::formats::authenticode::{Certificate, Key, SelfSigned, pem};
use crate::formats::efi_variables::{KEYS, authenticated, signature_list};
use crate::formats::gpt::Guid;

/// The kind of key to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with 2048 bits: what every firmware checks.
    #[default]
    Rsa2048,
    /// RSA with 4096 bits: stronger, and unknown to some older firmware.
    Rsa4096,
    /// P-256: small, and unknown to most firmware of PCs.
    P256,
}

impl KeyKind {
    const ALL: [KeyKind; 3] = [KeyKind::Rsa2048, KeyKind::Rsa4096, KeyKind::P256];
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyKind::Rsa2048 => "rsa2048",
            KeyKind::Rsa4096 => "rsa4096",
            KeyKind::P256 => "p256",
        })
    }
}

impl FromStr for KeyKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<KeyKind> {
        KeyKind::ALL
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| Error::usage(format!("unknown algorithm \"{text}\"")).hint("one of rsa2048, rsa4096, p256"))
    }
}

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Generate {
    /// In front of the certificates' names.
    pub name: String,
    /// The kind of all three keys.
    pub kind: KeyKind,
    /// Days for which the certificates are valid.
    pub days: u32,
    /// Now, in seconds since the epoch.
    pub now: i64,
    /// Replace keys that are there.
    pub force: bool,
}

/// A key that was made. Not `Debug`: it has secrets.
struct Made {
    role: Role,
    secret: String,
    key: Key,
    certificate: Certificate,
}

impl Generate {
    /// Makes keys, certificates and enrolment files, and returns the files. All are made before the first is written.
    pub fn write(&self, dir: &Path, random: &mut impl CryptoRngCore) -> Result<Vec<PathBuf>> {
        self.refuse_existing(dir)?;
        let mut made = Vec::new();
        for role in Role::ALL {
            made.push(self.make(role, random)?);
        }
        let mut owner = [0; 16];
        random.fill_bytes(&mut owner);
        // A random GUID (RFC 9562, 5.4).
        owner[6] = owner[6] & 0x0f | 0x40;
        owner[8] = owner[8] & 0x3f | 0x80;
        let owner = Guid(owner);
        let mut files = vec![(OWNER.to_owned(), format!("{owner}\n").into_bytes(), 0o644)];
        for one in &made {
            let signer = made.iter().find(|other| other.role == one.role.signer());
            let signer = signer.ok_or_else(|| Error::failed("a key has nobody to sign it"))?;
            let list = signature_list(owner, one.certificate.der());
            let variable = (one.role.name(), one.role.vendor(), KEYS);
            let write = authenticated(variable, &list, self.now, (&signer.certificate, &signer.key))?;
            let mut file = |extension: &str, bytes: Vec<u8>, mode| {
                files.push((format!("{}.{extension}", one.role.name()), bytes, mode));
            };
            file("key", one.secret.clone().into_bytes(), 0o600);
            file("crt", pem("CERTIFICATE", one.certificate.der()).into_bytes(), 0o644);
            file("der", one.certificate.der().to_vec(), 0o644);
            file("esl", list, 0o644);
            file("auth", write, 0o644);
        }
        fs::create_dir_all(dir).at("making the folder", dir)?;
        files.into_iter().map(|(name, bytes, mode)| put(&dir.join(name), &bytes, mode)).collect()
    }

    fn refuse_existing(&self, dir: &Path) -> Result<()> {
        if self.force {
            return Ok(());
        }
        let there = Role::ALL.into_iter().find_map(|role| {
            ["key", "crt", "der", "esl", "auth"]
                .map(|extension| dir.join(format!("{}.{extension}", role.name())))
                .into_iter()
                .find(|path| path.symlink_metadata().is_ok())
        });
        match there {
            None => Ok(()),
            Some(path) => Err(Error::refused(format!("{} is there already", path.display())).hint(
                "machines that know the old keys boot nothing signed by new ones: choose another folder, or --force",
            )),
        }
    }

    fn make(&self, role: Role, random: &mut impl CryptoRngCore) -> Result<Made> {
        let failed = |what: &dyn fmt::Display| Error::failed(format!("making the key {}: {what}", role.name()));
        let der = match self.kind {
            KeyKind::Rsa2048 | KeyKind::Rsa4096 => {
                let bits = if self.kind == KeyKind::Rsa2048 { 2048 } else { 4096 };
                let key = rsa::RsaPrivateKey::new(random, bits).map_err(|error| failed(&error))?;
                key.to_pkcs8_der().map_err(|error| failed(&error))?
            }
            KeyKind::P256 => {
                let key = SigningKey::random(random);
                p256::pkcs8::EncodePrivateKey::to_pkcs8_der(&key).map_err(|error| failed(&error))?
            }
        };
        let secret = pem("PRIVATE KEY", der.as_bytes());
        // What is written is what is read: ring looks at the key once more.
        let key = Key::from_pem(secret.as_bytes())?;
        let mut serial = [0; 16];
        random.fill_bytes(&mut serial);
        // A day of clocks that go differently.
        let not_before = self.now - 86_400;
        let not_after = self.now + i64::from(self.days) * 86_400;
        let name = format!("{} {}", self.name, role.name());
        let certificate = SelfSigned { name: &name, serial, not_before, not_after }.issue(&key)?;
        Ok(Made { role, secret, key, certificate })
    }
}

/// Writes a file whole, with a mode that it has from the start.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_data()?;
        file.persist(path).map_err(|error| error.error)
    };
    write().at("writing", path)?;
    Ok(path.to_owned())
}
