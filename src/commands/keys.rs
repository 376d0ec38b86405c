//! `moby keys`: keys for Secure Boot.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use p256::elliptic_curve::rand_core::OsRng;

use super::print_line;
use crate::error::{Error, Result};
use crate::formats::authenticode::{Algorithm, Certificate};
use crate::secure_boot::folder::{KeyFolder, OWNER, Role, date, fingerprint, read_certificate, read_key};
use crate::secure_boot::generate::{Generate, KeyKind};
use crate::ui::{Mode, Ui};

/// Keys for Secure Boot.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby keys generate keys/                   three keys, their certificates and enrolment files
  moby keys show keys/                       what is there, and whether it belongs together
  moby build --format raw-efi --sign keys/ blueprints/redis.yml")]
pub struct KeysArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Make PK, KEK and db: private keys, certificates, and files that firmware enrols
    Generate {
        /// Folder for the keys; made if it is missing
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// In front of the names in the certificates
        #[arg(long, value_name = "NAME", default_value = "moby")]
        name: String,
        /// Kind of the keys: rsa2048, rsa4096, p256 (which most firmware of PCs refuses)
        #[arg(long, value_name = "KIND", default_value_t, value_parser = kind)]
        algorithm: KeyKind,
        /// Days for which the certificates are valid
        #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Replace keys that are there
        #[arg(long)]
        force: bool,
    },
    /// Print what a folder of keys or a certificate holds
    Show {
        /// A folder of keys, or a certificate
        #[arg(value_name = "DIR|CERTIFICATE")]
        path: PathBuf,
    },
}

/// Runs the verb.
pub fn run(arguments: &KeysArguments, ui: &Ui) -> Result<i32> {
    match &arguments.verb {
        Verb::Generate { dir, name, algorithm, days, force } => {
            let request = Generate { name: name.clone(), kind: *algorithm, days: *days, now: now()?, force: *force };
            let files = request.write(dir, &mut OsRng)?;
            for file in &files {
                ui.event(serde_json::json!({"event": "file", "path": file}));
            }
            if ui.mode() != Mode::Json {
                explain(dir)?;
            }
            Ok(0)
        }
        Verb::Show { path } => show(path),
    }
}

/// The real clock: certificates are judged by it, images never.
pub fn now() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_err(|_| Error::failed("this machine's clock stands before 1970"))?.as_secs();
    i64::try_from(seconds).map_err(|_| Error::failed("this machine's clock is out of range"))
}

fn explain(dir: &Path) -> Result<()> {
    let at = |name: &str| dir.join(name).display().to_string();
    print_line(&format!("made in {}:", dir.display()))?;
    for (file, belongs) in [
        ("PK.key", "the platform key: only for changing KEK. Keep it offline, with a copy"),
        ("KEK.key", "the key exchange key: only for changing db. Keep it offline, with a copy"),
        ("db.key", "signs images: moby build --sign; where builds run, or in an HSM (--sign-command)"),
        ("*.auth", "for firmware: enrol db.auth, then KEK.auth, and PK.auth last, which turns Secure Boot on"),
        ("*.esl", "the same as plain lists, for tools and clouds that take those"),
        ("*.der, *.crt", "the certificates, for firmware setup pages (DER) and for openssl and sbverify (PEM)"),
        (OWNER, "the name under which firmware lists the keys"),
    ] {
        print_line(&format!("  {file:<13} {belongs}"))?;
    }
    print_line(&format!("sign:    moby build --format raw-efi --sign {} BLUEPRINT", dir.display()))?;
    print_line(&format!("try it:  moby run --secure-boot {} IMAGE", dir.display()))?;
    print_line(&format!("secrets: {}, {}, {} (mode 0600)", at("PK.key"), at("KEK.key"), at("db.key")))
}

fn show(path: &Path) -> Result<i32> {
    super::given(path)
        .map_err(|error| error.hint(format!("moby keys generate {} makes a folder of keys", path.display())))?;
    if !path.is_dir() {
        describe(path, &read_certificate(path)?, now()?)?;
        return Ok(0);
    }
    let folder = KeyFolder::open(path)?;
    let mut failures = Vec::new();
    let mut found = false;
    for role in Role::ALL {
        let (file, secret) = (folder.file(role, "crt"), folder.file(role, "key"));
        if !file.exists() {
            let what = if secret.exists() { "a key without a certificate" } else { "not there" };
            print_line(&format!("{}: {what}", role.name()))?;
            continue;
        }
        found = true;
        let certificate = match read_certificate(&file) {
            Ok(certificate) => certificate,
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        describe(&file, &certificate, now()?)?;
        match read_key(&secret) {
            _ if !secret.exists() => print_line("  key          elsewhere")?,
            Ok(key) if certificate.is_for(&key) => print_line(&format!("  key          {}", secret.display()))?,
            Ok(_) => {
                print_line(&format!("  key          {} is another certificate's", secret.display()))?;
                failures.push(Error::refused(format!(
                    "{} is not the certificate of the key {}",
                    file.display(),
                    secret.display()
                )));
            }
            Err(error) => failures.push(error),
        }
    }
    if !found {
        return Err(Error::refused(format!("{} has no certificates PK.crt, KEK.crt or db.crt", path.display()))
            .hint(format!("moby keys generate {} makes them", path.display())));
    }
    failures.into_iter().next().map_or(Ok(0), Err)
}

fn describe(path: &Path, certificate: &Certificate, now: i64) -> Result<()> {
    let (first, last) = certificate.validity();
    let kind = match certificate.algorithm() {
        Algorithm::Rsa => format!("RSA, {} bits", certificate.bits()),
        Algorithm::EcdsaP256 => "P-256".to_owned(),
    };
    let state = match now {
        now if now > last => ", EXPIRED",
        now if now < first => ", NOT YET VALID",
        _ => "",
    };
    print_line(&format!("{}", path.display()))?;
    print_line(&format!("  subject      {}", certificate.subject()))?;
    print_line(&format!("  kind         {kind}"))?;
    print_line(&format!("  valid        {} to {}{state}", date(first), date(last)))?;
    print_line(&format!("  fingerprint  {}", fingerprint(certificate.fingerprint())))
}

fn kind(text: &str) -> Result<KeyKind, String> {
    text.parse().map_err(|error: Error| format!("{error}: {}", error.hint_text().unwrap_or_default()))
}
