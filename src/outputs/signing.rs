//! Signatures of the EFI programs that outputs carry.

use std::sync::Arc;

use super::{Format, Options};
use crate::error::{Error, Result};
use crate::formats::source::Source;
use crate::secure_boot::signing::Signing;

/// A program as it goes into an output: signed, with room for a signature, or as it is. `path` is its place in the EFI
/// system partition; nothing for a file of its own. Every EFI program that an output writes goes through here.
pub fn finish(program: Arc<dyn Source>, path: Option<&str>, options: &Options<'_>) -> Result<Arc<dyn Source>> {
    finish_with(program, path, options.sign)
}

/// The same with another way to sign than the output's own.
pub fn finish_with(program: Arc<dyn Source>, path: Option<&str>, sign: Option<&Signing>) -> Result<Arc<dyn Source>> {
    match sign {
        Some(signing) => signing.finish(program, path),
        None => Ok(program),
    }
}

/// Refuses formats that have no program to sign.
pub fn check(formats: &[Format]) -> Result<()> {
    let Some(format) = formats.iter().find(|format| !format.has_efi_program()) else { return Ok(()) };
    let name = format.description().name;
    let others: Vec<_> = Format::ALL.iter().filter(|row| row.format.has_efi_program()).map(|row| row.name).collect();
    Err(Error::usage(format!("{name} has no EFI program, so there is nothing that Secure Boot could check"))
        .hint(format!("formats that can be signed are {}", others.join(", "))))
}
