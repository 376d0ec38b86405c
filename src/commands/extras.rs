//! Flags of what an image has beside its blueprint, the same for `moby build` and `moby verify`.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Result};
use crate::formats::qcow2;
use crate::outputs::{Extras, Format};

/// The flags.
#[derive(Args, Clone, Debug, Default)]
pub struct ExtraArguments {
    /// Picture that the UEFI stub shows at the start: a Windows bitmap
    #[arg(long, value_name = "FILE")]
    splash: Option<PathBuf>,
    /// Device tree that the kernel gets from the UEFI stub instead of the firmware's
    #[arg(long, value_name = "FILE")]
    device_tree: Option<PathBuf>,
    /// Compress the clusters of qcow2: smaller, and slower to read
    #[arg(long, value_name = "METHOD", value_parser = ["zlib", "zstd"])]
    qcow2_compression: Option<String>,
}

impl ExtraArguments {
    /// Refuses flags that none of the formats heeds.
    pub fn check(&self, formats: &[Format]) -> Result<()> {
        let program = formats.iter().any(|format| format.has_efi_program());
        let qcow2 = formats.iter().any(|format| format.description().name.starts_with("qcow2"));
        let useless = [
            ("--splash", self.splash.is_some() && !program, "an EFI program"),
            ("--device-tree", self.device_tree.is_some() && !program, "an EFI program"),
            ("--qcow2-compression", self.qcow2_compression.is_some() && !qcow2, "a qcow2 image"),
        ];
        match useless.into_iter().find(|(_, useless, _)| *useless) {
            Some((flag, _, what)) => {
                Err(Error::usage(format!("{flag} is for {what}, and none of the formats has one"))
                    .hint("moby build --format list shows the formats"))
            }
            None => Ok(()),
        }
    }

    /// Reads what the flags name.
    pub fn read(&self) -> Result<Extras> {
        let mut extras = Extras::default();
        if let Some(path) = &self.splash {
            extras = extras.with_splash(path)?;
        }
        if let Some(path) = &self.device_tree {
            extras = extras.with_device_tree(path)?;
        }
        extras.qcow2 = self.qcow2_compression.as_deref().map(|method| match method {
            "zlib" => qcow2::Compression::ZLIB,
            _ => qcow2::Compression::ZSTD,
        });
        Ok(extras)
    }
}
