//! The `moby` program: reads the command line, calls the library, prints the error.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use moby::commands;

/// Assembles operating system images: a YAML blueprint in, bootable read-only images out.
#[derive(Parser, Debug)]
#[command(name = "moby", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    global: commands::global::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Build images from blueprints
    Build(Box<commands::build::BuildArguments>),
    /// Build components by themselves
    Pkg(Box<commands::pkg::PkgArguments>),
    /// Look after the store of images
    Cache(commands::cache::CacheArguments),
    /// Pin every image of blueprints to digests
    Lock(commands::lock::LockArguments),
    /// Walk the boot chain of an image, link by link
    Check(commands::check::CheckArguments),
    /// Rebuild an image from its lock and compare
    Verify(commands::verify::VerifyArguments),
    /// Print the JSON Schema of blueprints and recipes, for editors
    Schema(commands::schema::SchemaArguments),
    /// Make and show keys for Secure Boot
    Keys(commands::keys::KeysArguments),
    /// Sign EFI programs and images for Secure Boot
    Sign(commands::sign::SignVerb),
    /// Predict what a TPM measures of an image
    Measure(commands::measure::MeasureArguments),
    /// Update disks with two slots
    Update(commands::update::UpdateArguments),
    /// Boot an image in QEMU
    Run(Box<commands::run::RunArguments>),
}

fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| commands::with_hint(error).exit());
    let ui = arguments.global.ui();
    let result = match arguments.command {
        Command::Build(build) => commands::build::run(&build, &arguments.global, &ui),
        Command::Pkg(pkg) => commands::pkg::run(&pkg, &arguments.global, &ui),
        Command::Cache(cache) => commands::cache::run(&cache, &arguments.global, &ui),
        Command::Lock(lock) => commands::lock::run(&lock, &arguments.global, &ui),
        Command::Check(check) => commands::check::run(&check, &arguments.global, &ui),
        Command::Verify(verify) => commands::verify::run(&verify, &arguments.global, &ui),
        Command::Schema(schema) => commands::schema::run(&schema),
        Command::Keys(keys) => commands::keys::run(&keys, &ui),
        Command::Sign(sign) => commands::sign::run(&sign, &ui),
        Command::Measure(measure) => commands::measure::run(&measure),
        Command::Update(update) => commands::update::run(&update, &ui),
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
