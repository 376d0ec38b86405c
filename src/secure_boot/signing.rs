//! How EFI programs get their signatures: from a key at hand, from a command, or on another day.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use p256::ecdsa::Signature;

use super::folder::{KeyFolder, Role, check_validity, read_certificate};
use super::requests::{Request, Requests};
use crate::error::{Context, Error, Result};
use crate::formats::authenticode::{Algorithm, Certificate, Key, Unsigned, detached_file, message, to_be_signed};
use crate::formats::source::Source;
use crate::store::Digest;

/// Bytes that a command may print.
const ANSWER_LIMIT: u64 = 64 << 10;

/// Where signatures come from.
#[derive(Debug)]
enum Method {
    /// A key in memory.
    Key(Key),
    /// A command that gets the bytes on its standard input and prints the signature.
    Command(String),
    /// Nowhere yet: what is to be signed is collected.
    Prepare(Mutex<Vec<Request>>),
    /// Files that were made from what was collected.
    Signatures(Requests),
    /// Messages by the digests that they cover, out of an image that is rebuilt.
    Messages(Vec<(Digest, Vec<u8>)>),
}

/// A certificate, and how signatures for it are made.
#[derive(Debug)]
pub struct Signing {
    certificate: Certificate,
    method: Method,
}

/// Where the certificate is, and the key if it is at hand.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// A folder of keys, of which `db` is used.
    pub keys: Option<PathBuf>,
    /// A certificate elsewhere.
    pub certificate: Option<PathBuf>,
}

impl Place {
    /// The certificate, which must be valid at `now` (seconds since the epoch).
    fn certificate(&self, now: i64) -> Result<Certificate> {
        let path = match (&self.certificate, &self.keys) {
            (Some(path), _) => path.clone(),
            (None, Some(keys)) => KeyFolder::open(keys)?.file(Role::Db, "crt"),
            (None, None) => {
                return Err(Error::usage("a signature needs a certificate, and none is named")
                    .hint("name a folder of keys: moby sign FILE --keys DIR, moby build --sign DIR"));
            }
        };
        let certificate = read_certificate(&path)?;
        check_validity(&certificate, now, &path)?;
        if certificate.algorithm() == Algorithm::Rsa && !(2048..=4096).contains(&certificate.bits()) {
            return Err(Error::refused(format!("{}: an RSA key of {} bits", path.display(), certificate.bits()))
                .hint("2048 to 4096 bits are taken: fewer are too weak, and firmware does not check more"));
        }
        Ok(certificate)
    }
}

impl Signing {
    /// With the key of a folder.
    pub fn with_key(place: &Place, now: i64) -> Result<Signing> {
        let certificate = place.certificate(now)?;
        let Some(keys) = &place.keys else {
            return Err(Error::usage("a signature needs a key, and none is named")
                .hint("name a folder with db.key, or for a key elsewhere a command: moby build --sign-command, moby sign --command"));
        };
        let keys = KeyFolder::open(keys)?;
        if !keys.file(Role::Db, "key").exists() {
            return Err(Error::usage(format!("{} has no db.key", keys.path().display())).hint(
                "for a key that is elsewhere: moby build --sign-command or moby sign --command; or moby build --sign-prepare, and moby sign attach on another day",
            ));
        }
        let key = keys.key(Role::Db, &certificate)?;
        Ok(Signing { certificate, method: Method::Key(key) })
    }

    /// With a command that `sh` runs: the bytes to be signed are its standard input, the signature of their SHA-256
    /// digest its standard output.
    pub fn with_command(place: &Place, command: &str, now: i64) -> Result<Signing> {
        Ok(Signing { certificate: place.certificate(now)?, method: Method::Command(command.to_owned()) })
    }

    /// Not at all: programs get room for signatures, and what is to be signed is collected.
    pub fn prepare(place: &Place, now: i64) -> Result<Signing> {
        Ok(Signing { certificate: place.certificate(now)?, method: Method::Prepare(Mutex::default()) })
    }

    /// With signatures that were made from what [`Signing::prepare`] collected.
    pub fn with_signatures(folder: &Path) -> Result<Signing> {
        let requests = Requests::read(folder)?;
        Ok(Signing { certificate: requests.certificate()?, method: Method::Signatures(requests) })
    }

    /// With the PKCS#7 messages of an image that was signed, by the digests that they cover. A program of another digest
    /// gets room for a signature, and none.
    pub fn with_messages(certificate: Certificate, messages: Vec<(Digest, Vec<u8>)>) -> Signing {
        Signing { certificate, method: Method::Messages(messages) }
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whether the key is at hand.
    pub fn has_key(&self) -> bool {
        matches!(self.method, Method::Key(_))
    }

    /// Whether the same program gets the same bytes every time, and nothing else happens meanwhile: only with a key at
    /// hand. Commands are to be run, and what is prepared is to be collected.
    pub fn is_repeatable(&self) -> bool {
        matches!(self.method, Method::Key(_))
    }

    /// A program with its signature, or with room for it. `path` is the program's place in an EFI system partition.
    pub fn finish(&self, program: Arc<dyn Source>, path: Option<&str>) -> Result<Arc<dyn Source>> {
        let unsigned = Unsigned::new(program)?;
        if let Method::Prepare(requests) = &self.method {
            let request = Request::new(&unsigned, path);
            let mut requests = requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            requests.push(request);
            return Ok(Arc::new(unsigned.reserve_for(&self.certificate)));
        }
        if let Method::Messages(messages) = &self.method {
            return Ok(match messages.iter().find(|(digest, _)| *digest == unsigned.digest()) {
                Some((_, message)) => Arc::new(unsigned.attach_for(&self.certificate, message)?),
                None => Arc::new(unsigned.reserve_for(&self.certificate)),
            });
        }
        let message = self.message(unsigned.digest())?;
        Ok(Arc::new(unsigned.attach_for(&self.certificate, &message)?))
    }

    /// The PKCS#7 message for a program of a digest. Signatures that do not fit the certificate are refused.
    pub fn message(&self, program: Digest) -> Result<Vec<u8>> {
        let bytes = to_be_signed(program);
        let signature = match &self.method {
            Method::Key(key) => key.sign(&bytes)?,
            Method::Command(command) => ask(command, &bytes)?,
            Method::Signatures(requests) => requests.signature(program)?,
            Method::Prepare(_) | Method::Messages(_) => return Err(Error::failed("there is no signature yet")),
        };
        let signature = self.as_der(signature);
        let made = message(program, &self.certificate, &signature);
        match &self.method {
            Method::Command(command) => made.context(format!("--sign-command {command}")),
            Method::Signatures(requests) => made.context(requests.folder().display()),
            _ => made,
        }
    }

    /// A signature of a dm-verity root hash, given as its digits: what `veritysetup --root-hash-signature` takes, and
    /// kernels with CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG check. Only with the key at hand: the root hash is inside what is
    /// signed for Secure Boot, so one has to be there before the other.
    pub fn root_hash(&self, digits: &str) -> Result<Vec<u8>> {
        match &self.method {
            Method::Key(key) => detached_file(digits.as_bytes(), &self.certificate, key),
            _ => Err(Error::usage("a root hash (`signature: required`) is signed with the key at hand only").hint(
                "--sign DIR, or root: {signature: optional}: the signed kernel image vouches for the root hash too",
            )),
        }
    }

    /// What was collected since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        match &self.method {
            Method::Prepare(requests) => {
                std::mem::take(&mut *requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
            }
            _ => Vec::new(),
        }
    }

    /// PKCS#11 has signatures of ECDSA as two numbers of 32 bytes; X.509 has them in DER.
    fn as_der(&self, signature: Vec<u8>) -> Vec<u8> {
        if self.certificate.algorithm() == Algorithm::EcdsaP256
            && signature.len() == 64
            && let Ok(plain) = Signature::from_slice(&signature)
        {
            return plain.to_der().as_bytes().to_vec();
        }
        signature
    }
}

fn ask(command: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let failed = |what: String| {
        Error::failed(format!("--sign-command {command}: {what}"))
            .hint("the command gets the bytes on standard input and prints the raw signature of their SHA-256 digest")
    };
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // A few hundred bytes, which a pipe holds. A command that does not read them says so by its signature.
        let _ = input.write_all(bytes);
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(ANSWER_LIMIT).read_to_end(&mut answer).map_err(|error| failed(error.to_string()))?;
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(format!("ended with {status}")));
    }
    if answer.is_empty() {
        return Err(failed("printed nothing".into()));
    }
    Ok(answer)
}
