//! A folder with the keys of Secure Boot: `PK`, `KEK` and `db`, each a private key (`.key`) and a certificate (`.crt`).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, IoContext, Result};
use crate::formats::authenticode::{Certificate, Key};
use crate::formats::calendar::Civil;
use crate::formats::efi_variables::{GLOBAL, IMAGE_SECURITY_DATABASE};
use crate::formats::gpt::Guid;
use crate::store::Digest;

/// Bytes of a key or certificate, at most.
const FILE_LIMIT: u64 = 1 << 20;
/// The file with the owner's GUID.
pub const OWNER: &str = "owner.guid";

/// What a key is for (UEFI 2.10, 32.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The platform key: decides about KEK, and turns Secure Boot on by being there.
    Pk,
    /// The key exchange key: decides about db.
    Kek,
    /// The database: what may boot.
    Db,
}

impl Role {
    /// From the most to the least powerful.
    pub const ALL: [Role; 3] = [Role::Pk, Role::Kek, Role::Db];

    /// The name of the variable, and of files.
    pub fn name(self) -> &'static str {
        match self {
            Role::Pk => "PK",
            Role::Kek => "KEK",
            Role::Db => "db",
        }
    }

    /// Whose variable it is.
    pub fn vendor(self) -> Guid {
        match self {
            Role::Db => IMAGE_SECURITY_DATABASE,
            Role::Pk | Role::Kek => GLOBAL,
        }
    }

    /// Whose key signs changes of the variable.
    pub fn signer(self) -> Role {
        match self {
            Role::Pk | Role::Kek => Role::Pk,
            Role::Db => Role::Kek,
        }
    }
}

/// A folder with keys.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    path: PathBuf,
}

impl KeyFolder {
    /// A folder that must be there.
    pub fn open(path: &Path) -> Result<KeyFolder> {
        if !path.is_dir() {
            return Err(Error::usage(format!("{}: there is no such folder of keys", path.display()))
                .hint(format!("moby keys generate {} makes one", path.display())));
        }
        Ok(KeyFolder { path: path.to_owned() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of a role's files.
    pub fn file(&self, role: Role, extension: &str) -> PathBuf {
        self.path.join(format!("{}.{extension}", role.name()))
    }

    /// A certificate.
    pub fn certificate(&self, role: Role) -> Result<Certificate> {
        read_certificate(&self.file(role, "crt"))
    }

    /// A private key, which must be that of the certificate.
    pub fn key(&self, role: Role, certificate: &Certificate) -> Result<Key> {
        let path = self.file(role, "key");
        let key = read_key(&path)?;
        if !certificate.is_for(&key) {
            return Err(Error::refused(format!(
                "{} is not the certificate of the key {}",
                self.file(role, "crt").display(),
                path.display()
            ))
            .hint("moby keys show tells which files belong together"));
        }
        Ok(key)
    }

    /// Whose keys they are, as firmware lists them: the GUID in `owner.guid`, else one made of the certificate.
    pub fn owner(&self) -> Result<Guid> {
        let path = self.path.join(OWNER);
        if !path.exists() {
            let certificate = self.certificate(Role::Db)?;
            return Ok(Guid::derived(certificate.fingerprint(), "owner of keys"));
        }
        let text = String::from_utf8_lossy(&read(&path)?).trim().to_owned();
        text.parse().context(path.display())
    }
}

/// A certificate from a file, PEM or DER.
pub fn read_certificate(path: &Path) -> Result<Certificate> {
    let bytes = read(path)?;
    // What is text is meant as PEM.
    let parsed =
        if bytes.first() == Some(&0x30) { Certificate::from_der(&bytes) } else { Certificate::from_pem(&bytes) };
    parsed.context(path.display())
}

/// A private key from a PEM file.
pub fn read_key(path: &Path) -> Result<Key> {
    Key::from_pem(&read(path)?).context(path.display())
}

/// Refuses a certificate outside its validity at a time. (Firmware looks at no time: it has no clock to trust. So an
/// expired certificate would boot, and nobody would notice that its keys should have been replaced.)
pub fn check_validity(certificate: &Certificate, now: i64, path: &Path) -> Result<()> {
    let (first, last) = certificate.validity();
    let refused = |what: String| {
        Error::refused(format!("{}: the certificate {what}", path.display())).hint(
            "firmware does not look at the dates, people do: make new keys with moby keys generate, and enrol their db",
        )
    };
    if now > last {
        return Err(refused(format!("expired on {}", date(last))));
    }
    if now < first {
        return Err(refused(format!("is valid from {} on only; is this machine's clock right?", date(first))));
    }
    Ok(())
}

/// A day in UTC.
pub fn date(time: i64) -> String {
    let Civil { year, month, day, .. } = Civil::of(time);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A digest in pairs of digits, as firmware and openssl show it.
pub fn fingerprint(digest: Digest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).at("opening", path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes).at("reading", path)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(Error::refused(format!("{} is no key or certificate: it is larger than 1 MiB", path.display())));
    }
    Ok(bytes)
}
