//! `moby check`: the boot chain of an image, link by link.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::global::Global;
use crate::error::{Context, Error, IoContext, Result};
use crate::formats::authenticode::Identity;
use crate::formats::disk::RawFile;
use crate::inspect::parts::{self, Part};
use crate::inspect::{self, Image, Report, Status, Verdict};
use crate::ui::Ui;

/// Bytes of a certificate's file, at most.
const CERTIFICATE_LIMIT: u64 = 1 << 20;

/// Walks the boot chain of an image and shows every link with its evidence.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby check images-out/redis-efi.img                    every link, then \"sealed\" or what is missing
  moby check --keys keys/ images-out/redis-efi.img       ... signed by one of these keys and by no other
  moby check --sealed --json images-out/redis.qcow2      for scripts: exit status 3 unless it is sealed

Exit status: 0 if everything is in order, sealed or not; 3 at a broken link, and with --sealed if it is not sealed.")]
pub struct CheckArguments {
    /// The image: any file that moby build makes, under whatever name
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Folder of keys as `moby keys generate` makes it: a signature must be by its db
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Certificate that must vouch for every signature, PEM or DER; may be repeated
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// Take an image that is in order but not sealed for broken
    #[arg(long)]
    sealed: bool,
    /// Show what the image consists of instead: partitions, files, sections, members of the initrd
    #[arg(long, conflicts_with_all = ["keys", "certificate", "sealed"])]
    parts: bool,
}

/// Runs the verb. The result is the exit status.
pub fn run(arguments: &CheckArguments, global: &Global, _ui: &Ui) -> Result<i32> {
    let trusted = trusted(arguments)?;
    let image: Image = Arc::new(RawFile::open(super::given(&arguments.image)?)?);
    if arguments.parts {
        let part = Part::whole(&arguments.image.display().to_string(), image)?;
        super::print_line(parts::dump(&part)?.trim_end())?;
        return Ok(0);
    }
    let report = inspect::check(&image, &trusted).context(arguments.image.display())?;
    if global.json() {
        let mut value =
            serde_json::to_value(&report).map_err(|error| Error::failed(format!("writing JSON: {error}")))?;
        if let Some(object) = value.as_object_mut() {
            object.insert("image".into(), arguments.image.display().to_string().into());
        }
        super::print_line(&format!("{value:#}"))?;
    } else {
        super::print_line(&render(&report, std::io::stdout().is_terminal()))?;
    }
    let fails = match report.verdict {
        Verdict::Sealed { .. } => false,
        Verdict::NotSealed { .. } => arguments.sealed,
        Verdict::Broken { .. } => true,
    };
    Ok(if fails { 3 } else { 0 })
}

/// One line for each link, and the verdict.
fn render(report: &Report, colour: bool) -> String {
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let width = report.links.iter().map(|link| link.link.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for link in &report.links {
        let (code, mark) = match link.status {
            Status::Good => ("32", "good  "),
            Status::Open => ("33", "open  "),
            Status::Broken => ("31;1", "BROKEN"),
        };
        text.push_str(&format!("{}  {:<width$}  {}\n", paint(code, mark), link.link, link.evidence));
    }
    let verdict = match &report.verdict {
        Verdict::Sealed { by } => paint("32;1", &format!("sealed: every link holds, signed by {by}")),
        Verdict::NotSealed { because } => paint("33", &format!("in order, not sealed: {because}")),
        Verdict::Broken { link } => paint("31;1", &format!("broken: {link}")),
    };
    text + &verdict
}

fn trusted(arguments: &CheckArguments) -> Result<Vec<Identity>> {
    let mut found = Vec::new();
    for path in &arguments.certificate {
        found.push(certificate(path)?.ok_or_else(|| {
            Error::refused(format!("{} is no certificate", path.display())).hint("PEM and DER are taken")
        })?);
    }
    if let Some(folder) = &arguments.keys {
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(folder).at("reading", folder)? {
            paths.push(entry.at("reading", folder)?.path());
        }
        paths.sort();
        // The platform key and the key exchange keys sign no programs, so they vouch for none.
        let is_db = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            let kind = [".crt", ".pem", ".cer", ".der"].iter().any(|suffix| name.ends_with(suffix));
            kind && (name.starts_with("db.") || name.starts_with("db-") || name.starts_with("db_"))
        };
        let before = found.len();
        for path in paths.iter().filter(|path| is_db(path)) {
            found.extend(certificate(path)?);
        }
        if found.len() == before {
            return Err(Error::usage(format!("{} has no db certificate", folder.display()))
                .hint("the folder is one that moby keys generate made; --certificate takes a file of any name"));
        }
    }
    Ok(found)
}

/// A certificate in PEM or DER; `None` for something else, such as a key.
fn certificate(path: &Path) -> Result<Option<Identity>> {
    use std::io::Read;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .at("opening", path)?
        .take(CERTIFICATE_LIMIT)
        .read_to_end(&mut bytes)
        .at("reading", path)?;
    if let Ok(der) = CertificateDer::from_pem_slice(&bytes) {
        return Ok(Identity::from_der(&der));
    }
    Ok(Identity::from_der(&bytes))
}
