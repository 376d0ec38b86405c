//! What is to be signed elsewhere, as a folder of files.
//!
//! `requests.json` says what they are; `NAME.tbs` has the bytes whose SHA-256 digest is to be signed, `NAME.sig` is
//! where the signature belongs, `certificate.crt` is the certificate that the images were laid out for. Nothing in it is
//! secret, and nothing needs to be trusted: signatures are checked against the certificate and the program.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::read_certificate;
use crate::error::{Error, IoContext, Result};
use crate::formats::authenticode::{Algorithm, Certificate, Unsigned, pem, to_be_signed};
use crate::store::Digest;

const MANIFEST: &str = "requests.json";
const CERTIFICATE: &str = "certificate.crt";
/// Version of the manifest.
const VERSION: u32 = 1;
/// Bytes of the manifest and of a signature, at most.
const MANIFEST_LIMIT: u64 = 1 << 20;
const SIGNATURE_LIMIT: u64 = 64 << 10;

/// A program that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its Authenticode digest.
    pub digest: Digest,
    /// Its bytes without the signature.
    pub size: u64,
    /// Where it lies in EFI system partitions; nothing for a file of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
    /// The images that have it.
    #[serde(default)]
    pub images: Vec<String>,
    /// The file with the bytes to be signed.
    #[serde(default)]
    pub bytes: String,
    /// The file where the signature belongs.
    #[serde(default)]
    pub signature: String,
}

impl Request {
    /// For a program.
    pub fn new(program: &Unsigned, path: Option<&str>) -> Request {
        let name = program.digest().hex()[..16].to_owned();
        Request {
            digest: program.digest(),
            size: program.size(),
            programs: path.map(str::to_owned).into_iter().collect(),
            images: Vec::new(),
            bytes: format!("{name}.tbs"),
            signature: format!("{name}.sig"),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    algorithm: String,
    certificate: String,
    requests: Vec<Request>,
}

/// A folder of requests.
#[derive(Debug)]
pub struct Requests {
    folder: PathBuf,
    requests: Vec<Request>,
}

impl Requests {
    /// Writes requests into a folder. The same program in several images is signed once. Requests of another build that
    /// lie there are replaced; signatures stay.
    pub fn write(folder: &Path, requests: Vec<Request>, certificate: &Certificate) -> Result<Requests> {
        let mut merged: Vec<Request> = Vec::new();
        for request in requests {
            match merged.iter_mut().find(|other| other.digest == request.digest) {
                None => merged.push(request),
                Some(other) => {
                    for (all, more) in [(&mut other.programs, request.programs), (&mut other.images, request.images)] {
                        all.extend(more);
                        all.sort();
                        all.dedup();
                    }
                }
            }
        }
        merged.sort_by_key(|request| request.digest);
        fs::create_dir_all(folder).at("making the folder", folder)?;
        for request in &merged {
            put(&folder.join(&request.bytes), &to_be_signed(request.digest))?;
        }
        put(&folder.join(CERTIFICATE), pem("CERTIFICATE", certificate.der()).as_bytes())?;
        let manifest = Manifest {
            version: VERSION,
            algorithm: algorithm(certificate).to_owned(),
            certificate: CERTIFICATE.to_owned(),
            requests: merged,
        };
        let text = serde_json::to_string_pretty(&manifest)
            .map_err(|error| Error::failed(format!("writing {MANIFEST}: {error}")))?;
        put(&folder.join(MANIFEST), format!("{text}\n").as_bytes())?;
        Ok(Requests { folder: folder.to_owned(), requests: manifest.requests })
    }

    /// Reads a folder that [`Requests::write`] made.
    pub fn read(folder: &Path) -> Result<Requests> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            return Err(Error::usage(format!("{} has no {MANIFEST}", folder.display()))
                .hint("moby build --sign-prepare DIR makes such a folder"));
        }
        let text = limited(&path, MANIFEST_LIMIT)?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| Error::refused(format!("{} is damaged: {error}", path.display())))?;
        if manifest.version != VERSION {
            return Err(Error::refused(format!("{} has version {}, not {VERSION}", path.display(), manifest.version)));
        }
        let plain = |name: &str| !name.is_empty() && !name.contains('/') && name != "..";
        if !manifest.requests.iter().all(|request| plain(&request.signature) && plain(&request.bytes)) {
            return Err(Error::refused(format!("{} names files in other folders", path.display())));
        }
        Ok(Requests { folder: folder.to_owned(), requests: manifest.requests })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The programs that are to be signed.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The certificate that room was left for.
    pub fn certificate(&self) -> Result<Certificate> {
        read_certificate(&self.folder.join(CERTIFICATE))
    }

    /// The signature for a program.
    pub fn signature(&self, program: Digest) -> Result<Vec<u8>> {
        let Some(request) = self.requests.iter().find(|request| request.digest == program) else {
            return Err(Error::refused(format!(
                "{}: no signature is for the program with the digest {}",
                self.folder.display(),
                program.hex()
            ))
            .hint(
                "the image is not the one that was prepared: blueprint, lock, time and certificate must be the same",
            ));
        };
        let path = self.folder.join(&request.signature);
        if !path.exists() {
            let bytes = self.folder.join(&request.bytes);
            return Err(Error::refused(format!("{} is missing", path.display())).hint(format!(
                "openssl dgst -sha256 -sign db.key -out {} {}, where the key is",
                path.display(),
                bytes.display()
            )));
        }
        limited(&path, SIGNATURE_LIMIT)
    }
}

/// The algorithm in words that openssl and HSMs know.
fn algorithm(certificate: &Certificate) -> &'static str {
    match certificate.algorithm() {
        Algorithm::Rsa => "RSA PKCS#1 v1.5 with SHA-256",
        Algorithm::EcdsaP256 => "ECDSA P-256 with SHA-256",
    }
}

fn limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).at("opening", path)?.take(limit + 1).read_to_end(&mut bytes).at("reading", path)?;
    if bytes.len() as u64 > limit {
        return Err(Error::refused(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = crate::outputs::OutputFile::create(path)?;
    file.write_all(bytes).at("writing", path)?;
    file.commit()?;
    Ok(())
}
