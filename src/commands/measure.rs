//! `moby measure`: what a TPM will hold.

use std::path::PathBuf;

use clap::Args;

use super::print_line;
use crate::error::{Error, Result};
use crate::secure_boot::folder::KeyFolder;
use crate::secure_boot::measure::{Question, measure};
use crate::secure_boot::programs::Image;

/// Predicts the PCRs of a TPM for an image, as JSON.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby measure redis-efi.img --keys keys/       under Secure Boot with these keys
  moby measure redis.efi                        without Secure Boot, no keys enrolled")]
pub struct MeasureArguments {
    /// An image for UEFI, or a unified kernel image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The keys that the firmware has enrolled: PK, KEK and db; without, Secure Boot is off
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Version of systemd that a stub is of which does not say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(252..))]
    stub_version: Option<u32>,
}

/// Runs the verb.
pub fn run(arguments: &MeasureArguments) -> Result<i32> {
    let keys = arguments.keys.as_deref().map(KeyFolder::open).transpose()?;
    let question = Question { keys: keys.as_ref(), stub_version: arguments.stub_version };
    let value = measure(&Image::open(super::given(&arguments.image)?)?, question)?;
    let text = serde_json::to_string_pretty(&value).map_err(|error| Error::failed(format!("printing: {error}")))?;
    print_line(&text)?;
    Ok(0)
}
