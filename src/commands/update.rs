//! `moby update`: disks with two slots that do not run.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::print_line;
use crate::error::Result;
use crate::ui::Ui;
use crate::update;

/// Looks at disks with two slots, and writes updates to them. The same is done inside a machine by the component `update`.
#[derive(Args, Clone, Debug)]
pub struct UpdateArguments {
    #[command(subcommand)]
    verb: UpdateVerb,
}

#[derive(Subcommand, Clone, Debug)]
enum UpdateVerb {
    /// Write an image to the slot that is not the one in use; it is started next, on trial
    #[command(after_help = "Examples:
  moby update stage new-efi.img --disk machine.img
  zstd -dc new-efi.img.zst | moby update stage - --disk /dev/sdb")]
    Stage {
        /// A raw disk image of a blueprint with two slots; - for standard input
        #[arg(value_name = "IMAGE")]
        image: PathBuf,
        /// The disk that is changed, an image or a block device that nothing runs from
        #[arg(long, value_name = "FILE|DEV")]
        disk: PathBuf,
        /// Where an image from standard input is kept meanwhile
        #[arg(long, value_name = "DIR")]
        spool: Option<PathBuf>,
    },
    /// Show what both slots have, and what starts next
    Show {
        /// The disk
        #[arg(long, value_name = "FILE|DEV")]
        disk: PathBuf,
    },
    /// Have the next boot of this disk's machine make its data partition anew
    ResetData {
        /// The disk
        #[arg(long, value_name = "FILE|DEV")]
        disk: PathBuf,
    },
}

/// Runs the verb.
pub fn run(arguments: &UpdateArguments, ui: &Ui) -> Result<i32> {
    match &arguments.verb {
        UpdateVerb::Stage { image, disk, spool } => {
            if image.as_os_str() != "-" {
                super::given(image)?;
            }
            super::given(disk)?;
            let spool = spool.clone().unwrap_or_else(std::env::temp_dir);
            let staged = update::stage_image(image, disk, &spool, &mut |line| ui.note(line))?;
            print_line(&format!("slot {}: {}, root hash {}", staged.slot, staged.name, staged.root_hash))?;
        }
        UpdateVerb::ResetData { disk } => {
            let number = update::reset_data(super::given(disk)?)?;
            print_line(&format!("the next boot formats partition {number}"))?;
        }
        UpdateVerb::Show { disk } => print_line(update::show(super::given(disk)?)?.trim_end())?,
    }
    Ok(0)
}
