//! `moby sign`: signatures for Secure Boot, into programs and images that are there; and the flags that `moby build` has for
//! them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::keys::now;
use crate::error::{Error, Result};
use crate::outputs::{Format, signing};
use crate::secure_boot::attach;
use crate::secure_boot::requests::Requests;
use crate::secure_boot::signing::{Place, Signing};
use crate::ui::{Mode, Ui};

/// The flags of `moby build`.
#[derive(Args, Clone, Debug, Default)]
pub struct SignArguments {
    /// Sign EFI programs with the key db.key of this folder, for Secure Boot
    #[arg(long, value_name = "DIR")]
    pub sign: Option<PathBuf>,
    /// Sign with a command instead: it gets the bytes on standard input and prints the signature (HSMs)
    #[arg(long, value_name = "COMMAND")]
    pub sign_command: Option<String>,
    /// The certificate of the key, where no folder is named [default: db.crt of --sign]
    #[arg(long, value_name = "FILE")]
    pub sign_certificate: Option<PathBuf>,
    /// Leave room for signatures and write what is to be signed into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "sign_command")]
    pub sign_prepare: Option<PathBuf>,
    /// Sign with the signatures that were put into a folder of --sign-prepare
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sign", "sign_command", "sign_certificate", "sign_prepare"])]
    pub sign_attach: Option<PathBuf>,
}

impl SignArguments {
    /// How programs are signed; nothing if no flag asks for it. Keys and certificates are checked here, before anything
    /// is built, against the real clock.
    pub fn signing(&self, formats: &[Format]) -> Result<Option<Signing>> {
        let place = Place { keys: self.sign.clone(), certificate: self.sign_certificate.clone() };
        let made = match (&self.sign_attach, &self.sign_prepare, &self.sign_command) {
            (Some(folder), _, _) => Signing::with_signatures(folder)?,
            (_, Some(_), _) => Signing::prepare(&place, now()?)?,
            (_, _, Some(command)) => Signing::with_command(&place, command, now()?)?,
            _ if self.sign.is_some() || self.sign_certificate.is_some() => Signing::with_key(&place, now()?)?,
            _ => return Ok(None),
        };
        signing::check(formats)?;
        Ok(Some(made))
    }
}

/// Signs EFI programs and images for Secure Boot.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  moby sign redis-efi.img --keys keys/            the programs of an image, in place
  moby sign grubx64.efi --keys keys/ -o signed.efi
  moby sign attach redis-efi.img --signatures requests/")]
pub struct SignVerb {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// An EFI program, or a raw image
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    /// Folder with db.key and db.crt
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Sign with a command instead: it gets the bytes on standard input and prints the signature (HSMs)
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// The certificate of the key [default: db.crt of --keys]
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Write the signed file here [default: in place]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Put signatures that were made elsewhere into an image of `moby build --sign-prepare`
    Attach {
        /// The image
        #[arg(value_name = "IMAGE")]
        image: PathBuf,
        /// The folder that --sign-prepare wrote, with the signatures in it
        #[arg(long, value_name = "DIR")]
        signatures: PathBuf,
        /// Write the signed image here [default: in place]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Runs the verb.
pub fn run(arguments: &SignVerb, ui: &Ui) -> Result<i32> {
    let (signed, to) = match (&arguments.verb, &arguments.file) {
        (Some(Verb::Attach { image, signatures, output }), _) => {
            let to = output.as_ref().unwrap_or(image);
            (attach::attach(super::given(image)?, Requests::read(signatures)?, to)?, to)
        }
        (None, Some(file)) => {
            super::given(file)?;
            let place = Place { keys: arguments.keys.clone(), certificate: arguments.certificate.clone() };
            let signing = match &arguments.command {
                Some(command) => Signing::with_command(&place, command, now()?)?,
                None => Signing::with_key(&place, now()?)?,
            };
            let to = arguments.output.as_ref().unwrap_or(file);
            (attach::sign(file, &signing, to)?, to)
        }
        (None, None) => return Err(Error::usage("which file?").hint("moby sign FILE --keys DIR")),
    };
    for program in signed {
        ui.event(serde_json::json!({"event": "signed", "image": to, "program": program}));
        ui.note(format!("{}: {program} is signed", to.display()));
    }
    super::print_line(&to.display().to_string())?;
    Ok(0)
}

/// Says what to do with requests.
pub fn explain(requests: &Requests, ui: &Ui) {
    let folder = requests.folder();
    for request in requests.requests() {
        ui.event(serde_json::json!({
            "event": "to-be-signed", "bytes": folder.join(&request.bytes), "signature": folder.join(&request.signature),
            "images": request.images, "programs": request.programs,
        }));
    }
    if ui.mode() == Mode::Json {
        return;
    }
    let count = requests.requests().len();
    ui.note(format!(
        "{count} program{} to be signed; where the key is, for each .tbs file of {}:",
        if count == 1 { "" } else { "s" },
        folder.display()
    ));
    for request in requests.requests() {
        ui.note(format!("  openssl dgst -sha256 -sign db.key -out {} {}", request.signature, request.bytes));
    }
    ui.note(format!("then: moby sign attach IMAGE --signatures {}", folder.display()));
}
