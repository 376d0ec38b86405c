//! The `moby` program: reads the command line, calls the library, prints the error.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use moby::commands;
use moby::ui::{Mode, Ui};

/// Assembles operating system images: a YAML blueprint in, bootable read-only images out.
#[derive(Parser, Debug)]
#[command(name = "moby", version, max_term_width = 100)]
struct Arguments {
    /// Show warnings only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Show progress as JSON events, one a line, on standard error
    #[arg(long, global = true, conflicts_with = "quiet")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Boot an image in QEMU
    Run(Box<commands::run::RunArguments>),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mode = match (arguments.quiet, arguments.json) {
        (true, _) => Mode::Quiet,
        (_, true) => Mode::Json,
        _ => Mode::detect(),
    };
    let ui = Ui::new(mode);
    let result = match arguments.command {
        Command::Run(run) => commands::run::run(*run, &ui),
    };
    match result {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            commands::report(&error, &ui);
            ExitCode::from(error.exit() as u8)
        }
    }
}
