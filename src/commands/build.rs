//! `moby build`: a blueprint to images.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::extras::ExtraArguments;
use super::global::Global;
use super::shared_cache::SharedCacheArguments;
use super::sign::SignArguments;
use super::watch::{self, Watched};
use crate::Arch;
use crate::blueprint::{self, ArchiveReference, Blueprint, Input, Place, ReadOptions};
use crate::component::Components;
use crate::error::{Context, Error, Result};
use crate::formats::compress::Method;
use crate::lock::{LoaderPins, LockPlace, Resolver};
use crate::net::{Net, Reason};
use crate::outputs::{Extras, Format, Loaders, Options, OutputFile, System, Target};
use crate::report;
use crate::rootfs::assemble::{Assembling, assemble, host_path};
use crate::rootfs::image_rules::GENERATED_TIME;
use crate::rootfs::input_tar::{InputTar, same_file};
use crate::rootfs::write_error;
use crate::run::disk::parse_size;
use crate::secure_boot::requests::{Request, Requests};
use crate::secure_boot::signing::Signing;
use crate::store::{LocalDocker, Store};
use crate::ui::Ui;

/// Builds images from blueprints.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby build blueprints/minimal.yml                     kernel, initrd and command line in images-out/
  moby build --format tar -o - minimal.yml | tar t      the root file system
  moby build --arch arm64 base.yml extra.yml            two blueprints merged, for another architecture
  moby build --format raw-efi --size 1G minimal.yml     a disk that UEFI boots
  moby build --format raw-efi --sign keys/ redis.yml    the same, signed for Secure Boot
  moby build --format list                              the formats there are")]
pub struct BuildArguments {
    /// Blueprints, merged from left to right: files, http(s) URLs, - for standard input. Their images come from
    /// registries, recipes (@pkg:FOLDER) and files (docker-archive:FILE, oci-archive:FILE, oci:FOLDER)
    #[arg(value_name = "FILE", required_unless_present = "format")]
    files: Vec<OsString>,
    /// Formats to make, separated by commas; `list` shows them [default: kernel+initrd, or tar with -o]
    #[arg(short, long, value_name = "FORMAT", value_delimiter = ',')]
    format: Vec<String>,
    /// Folder for the outputs
    #[arg(long, value_name = "DIR", default_value = "images-out")]
    dir: PathBuf,
    /// Base name of the outputs [default: that of the last blueprint]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// One output file; - for standard output, for formats that are one stream
    #[arg(short, long, alias = "o", value_name = "FILE", conflicts_with_all = ["name", "dir"])]
    output: Option<PathBuf>,
    /// Architecture to build for: amd64, arm64 [default: this machine's]
    #[arg(long, value_name = "ARCH")]
    arch: Option<Arch>,
    /// Look for images in the local Docker or podman first (docker save, podman save)
    #[arg(long)]
    docker: bool,
    /// An earlier tar output: the bytes of files, by their digests, where the store has of a layer the index only
    #[arg(long, value_name = "FILE", conflicts_with = "pull")]
    input_tar: Option<PathBuf>,
    /// Ask registries and package archives again, even for what the store has
    #[arg(long)]
    pull: bool,
    /// Lock file to build by [default: NAME.lock beside the last blueprint, if it is there]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Refuse to build anything that the lock does not name
    #[arg(long, conflicts_with = "pull")]
    locked: bool,
    /// Print the merged blueprint and stop
    #[arg(long)]
    dry_run: bool,
    /// Compression of the initrd: none, gzip[:1-9] (for kernels before 5.9), zstd[:1-19]
    #[arg(long, value_name = "METHOD", default_value_t)]
    compression: Method,
    #[command(flatten)]
    extras: ExtraArguments,
    /// Size of disk images, in MiB or with M, G or T [default: what their content needs]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// Unpack the kernel (x86: bzImage to ELF vmlinux; ARM64: Image.gz to Image), for what starts it without firmware
    #[arg(long)]
    decompress_kernel: bool,
    /// Write NAME-timings.html and NAME-timings.json: what took how long, and what was reused
    #[arg(long)]
    timings: bool,
    /// Build again whenever a blueprint, a component's folder or a source of `files` changes
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,
    /// Run the image after each build, with the arguments of `moby run` after --
    #[arg(long, requires = "watch")]
    run: bool,
    /// Arguments of `moby run`
    #[arg(last = true, requires = "run", value_name = "RUN-ARGUMENTS", allow_hyphen_values = true)]
    run_arguments: Vec<String>,
    #[command(flatten)]
    sign: SignArguments,
    #[command(flatten)]
    shared: SharedCacheArguments,
    /// Taken for LinuxKit's sake: no list of materials is written
    #[arg(long, hide = true)]
    no_sbom: bool,
}

/// Runs the verb.
pub fn run(arguments: &BuildArguments, global: &Global, ui: &Ui) -> Result<i32> {
    if arguments.format.iter().any(|name| name == "list") {
        return list();
    }
    if arguments.watch {
        if inputs(arguments).contains(&Input::StandardInput) {
            return Err(
                Error::usage("standard input cannot be read again").hint("--watch needs blueprints that are files")
            );
        }
        let run = arguments.run.then_some(arguments.run_arguments.as_slice());
        return watch::run(
            |watched| recorded(arguments, global, ui, watched).map(|files| image(arguments, files)),
            run,
            ui,
        );
    }
    recorded(arguments, global, ui, &Watched::default()).map(|_| 0)
}

/// What `moby run` takes for the outputs of a build: the prefix of several files, or the one.
fn image(arguments: &BuildArguments, files: Vec<PathBuf>) -> PathBuf {
    match files.as_slice() {
        [file] => file.clone(),
        _ => arguments.dir.join(name(arguments)),
    }
}

fn name(arguments: &BuildArguments) -> String {
    arguments.name.clone().unwrap_or_else(|| blueprint::output_name(&inputs(arguments)))
}

fn inputs(arguments: &BuildArguments) -> Vec<Input> {
    arguments.files.iter().map(|file| Input::from_argument(file)).collect()
}

/// Builds, with a report of timings if one is asked for.
fn recorded(arguments: &BuildArguments, global: &Global, ui: &Ui, watched: &Watched) -> Result<Vec<PathBuf>> {
    if !arguments.timings {
        return build(arguments, global, ui, watched);
    }
    let (ui, timings) = ui.recorded();
    let files = build(arguments, global, &ui, watched)?;
    let (name, units) = (name(arguments), timings.units());
    let reports = [("html", report::timings::html(&name, &units)), ("json", report::timings::json(&units))];
    let folder = match arguments.output.as_deref().filter(|path| path.as_os_str() != "-") {
        Some(file) => file.parent().unwrap_or(Path::new("")),
        None => &arguments.dir,
    };
    for (suffix, text) in reports {
        let mut out = OutputFile::create(&folder.join(format!("{name}-timings.{suffix}")))?;
        out.write_all(text.as_bytes()).map_err(write_error)?;
        ui.note(format!("{:>9} {}", "timings", out.commit()?.display()));
    }
    Ok(files)
}

/// Builds once. Gives the files of the last format.
fn build(arguments: &BuildArguments, global: &Global, ui: &Ui, watched: &Watched) -> Result<Vec<PathBuf>> {
    let Wanted { formats, arch, extras, time, signing } = Wanted::of(arguments)?;
    let inputs = inputs(arguments);
    let net = global.net(ui)?;
    let store = global.store(ui)?;
    let shared = arguments.shared.open(&store, &net, ui)?;
    let components = Components::new(&store, &net, ui).sharing(&shared);
    let mut blueprint = read(&inputs, (&store, &net, &components), ui, watched)?;
    if arguments.dry_run {
        return super::print(&blueprint.to_yaml()).map(|()| Vec::new());
    }
    formats.iter().try_for_each(|format| format.check_sources(&blueprint, arch))?;
    components.add_data(&mut blueprint)?;
    watch_sources(&blueprint, watched);
    let target = target(arguments)?;
    let place = LockPlace::of(&inputs, arguments.lock.as_deref());
    let lock = place.read(&store)?;
    super::lock::check((&place, lock.as_ref()), &blueprint, &components, arch, arguments.locked, ui)?;
    components.pin_loaders(LoaderPins::new(&place, lock.as_ref(), arguments.locked));
    let (pull, locked, lock, components) = (arguments.pull, arguments.locked, lock.as_ref(), &components);
    let docker = arguments.docker.then(LocalDocker::find).transpose()?;
    let docker = docker.as_ref();
    let input = arguments.input_tar.as_deref().map(|path| input_tar(path, &formats, &target, &store)).transpose()?;
    let decompress_kernel = arguments.decompress_kernel;
    let made = |with_input: bool| {
        let input = input.as_ref().filter(|_| with_input);
        let resolver = Resolver { store: &store, net: &net, arch, pull, lock, locked, docker, input, components };
        let locked = resolver.lock(blueprint.clone())?;
        assemble(&locked, Assembling { store: &store, ui, arch, time, decompress_kernel, input })
    };
    let system = || -> Result<System> {
        let system = match made(input.is_some()) {
            // Whatever it was, the build that does without the earlier output says it better, or works.
            Err(error) if input.is_some() => {
                ui.note(format!("{}; building without --input-tar", error.message()));
                made(false)?
            }
            made => made?,
        };
        formats.iter().try_for_each(|format| format.check_root(&system))?;
        Ok(system)
    };
    let (compression, size, sign) = (arguments.compression, arguments.size, signing.as_ref());
    let loaders = Loaders::default();
    let options = Options { store: &store, ui, components, size, sign, compression, extras, time, loaders };
    let files = write(&formats, system, &target, &options, arguments.sign.sign_prepare.as_deref())?;
    shared.send()?;
    Ok(files)
}

/// What the flags ask for, checked before anything else is done.
struct Wanted {
    formats: Vec<Format>,
    arch: Arch,
    extras: Extras,
    time: i64,
    signing: Option<Signing>,
}

impl Wanted {
    fn of(arguments: &BuildArguments) -> Result<Wanted> {
        if arguments.files.is_empty() {
            return Err(Error::usage("no blueprint given").hint("moby build FILE"));
        }
        let formats = formats(arguments)?;
        check_name(arguments.name.as_deref())?;
        let arch = super::arch(arguments.arch)?;
        for format in &formats {
            format.check_arch(arch)?;
        }
        if arguments.size.is_some() && !formats.iter().any(|format| format.is_disk()) {
            return Err(Error::usage("--size is for disk images, and none of the formats is one")
                .hint("moby build --format list shows the formats; raw-efi is one"));
        }
        if arguments.decompress_kernel {
            check_unpacked(&formats, arch)?;
        }
        arguments.extras.check(&formats)?;
        let extras = arguments.extras.read()?;
        let time = build_time()?;
        let signing = arguments.sign.signing(&formats)?;
        Ok(Wanted { formats, arch, extras, time, signing })
    }
}

/// Reads the blueprints with what they refer to, and shows warnings.
fn read(
    inputs: &[Input],
    (store, net, components): (&Store, &Net, &Components<'_>),
    ui: &Ui,
    watched: &Watched,
) -> Result<Blueprint> {
    for input in inputs {
        if let Input::File(path) = input {
            watched.add(path);
        }
    }
    let fetch = |url: &str| {
        net.get_bytes(url, 16 << 20).map_err(|failure| match failure.reason() {
            Reason::NotFound => Error::from(failure).hint("check the blueprint's URL"),
            _ => failure.into(),
        })
    };
    let resolve = |folder: &Path, _: &Place| {
        watched.add(folder);
        let component = components.add(folder)?;
        if let Some(cargo) = &component.recipe.cargo {
            watched.add(component.folder.join(cargo.path.as_str()));
        }
        Ok(component.reference.clone())
    };
    let archives = |archive: &ArchiveReference| {
        watched.add(&archive.path);
        let _span = ui.span("import", archive.to_string());
        super::image_in_file(store, archive).map(|(reference, _)| reference)
    };
    let options = ReadOptions { fetch: Some(&fetch), resolve: Some(&resolve), archives: Some(&archives) };
    let reading = ui.span("read", "blueprints");
    let (blueprint, warnings) = blueprint::read(inputs, options)?;
    drop(reading);
    super::show_warnings(&warnings, ui);
    Ok(blueprint)
}

fn watch_sources(blueprint: &Blueprint, watched: &Watched) {
    for file in &blueprint.files {
        if let blueprint::Content::Source(source) = &file.content {
            watched.add(host_path(source));
        }
    }
}

fn target(arguments: &BuildArguments) -> Result<Target> {
    Ok(match &arguments.output {
        Some(path) if path.as_os_str() == "-" => Target::Stdout,
        Some(path) => Target::file(path)?,
        None => Target::Base(arguments.dir.join(name(arguments))),
    })
}

/// Writes every format, and what is to be signed elsewhere. Gives the files of the last format. What was found damaged in
/// the store is made again, and so is the system; formats that were whole by then stay.
fn write(
    formats: &[Format],
    system: impl Fn() -> Result<System>,
    target: &Target,
    options: &Options<'_>,
    sign_prepare: Option<&Path>,
) -> Result<Vec<PathBuf>> {
    let (mut files, mut requests, mut done) = (Vec::new(), Vec::new(), 0);
    let attempt = || {
        let system = system()?;
        while let Some(format) = formats.get(done) {
            let written = format.write(&system, target, options).context(format.description().name);
            // Those of an attempt that failed are asked for again.
            let asked: Vec<Request> = options.sign.iter().flat_map(|signing| signing.take_requests()).collect();
            files = written?;
            let images: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            requests.extend(asked.into_iter().map(|request| Request { images: images.clone(), ..request }));
            done += 1;
            if target_is_file(target) {
                images.iter().try_for_each(|image| super::print_line(image))?;
            }
        }
        Ok(())
    };
    if target_is_file(target) {
        options.store.mending(attempt)?;
    } else {
        // What went out cannot be taken back.
        options.store.mending_for_later(attempt)?;
    }
    if let (Some(folder), Some(signing)) = (sign_prepare, options.sign) {
        super::sign::explain(&Requests::write(folder, requests, signing.certificate())?, options.ui);
    }
    Ok(files)
}

fn target_is_file(target: &Target) -> bool {
    !matches!(target, Target::Stdout)
}

/// The formats that were asked for, checked against the way the output goes.
fn formats(arguments: &BuildArguments) -> Result<Vec<Format>> {
    let mut formats: Vec<Format> = Vec::new();
    for name in &arguments.format {
        let format: Format = name.parse()?;
        if !formats.contains(&format) {
            check_files(&formats, format)?;
            formats.push(format);
        }
    }
    if formats.is_empty() {
        formats.push(if arguments.output.is_some() { Format::Tar } else { Format::KernelInitrd });
    }
    if let Some(output) = &arguments.output {
        let format = formats[0];
        let name = format.description().name;
        if formats.len() > 1 || format.description().suffixes.len() != 1 {
            return Err(Error::usage(format!("-o takes one format that is one file, and {name} is not that alone"))
                .hint("use --dir and --name, or --format tar"));
        }
        if output.as_os_str() == "-" && !format.streams() {
            return Err(Error::usage(format!("{name} cannot go to standard output")).hint("use -o with a file's name"));
        }
    }
    Ok(formats)
}

/// Refuses names that would lead out of the folder for outputs.
fn check_name(name: Option<&str>) -> Result<()> {
    match name {
        Some(name) if name.is_empty() || name.contains('/') => {
            Err(Error::usage(format!("--name \"{}\" is no base name of files", name.escape_debug()))
                .hint("it is put in front of -kernel, .img and the like; --dir says the folder"))
        }
        _ => Ok(()),
    }
}

/// Refuses two formats that would write the same file: the second would take what the first one made.
fn check_files(formats: &[Format], format: Format) -> Result<()> {
    let (name, suffixes) = (format.description().name, format.description().suffixes);
    for other in formats.iter().map(|other| other.description()) {
        if let Some(same) = suffixes.iter().find(|suffix| other.suffixes.contains(suffix)) {
            return Err(Error::usage(format!("{} and {name} both write NAME{same}", other.name))
                .hint("build them one after the other, each with its own --dir or --name"));
        }
    }
    Ok(())
}

/// Opens an earlier output, which must not be what is written now.
fn input_tar(path: &Path, formats: &[Format], target: &Target, store: &Store) -> Result<InputTar> {
    let outputs = match target {
        Target::Stdout => Vec::new(),
        Target::File(path) => vec![path.clone()],
        Target::Base(base) => formats.iter().flat_map(|format| format.files(base)).collect(),
    };
    for output in outputs {
        if same_file(path, &output)? {
            return Err(Error::usage(format!("--input-tar {} is what this build writes", path.display()))
                .hint("write to another file: --name, --dir or -o"));
        }
    }
    InputTar::open(path, store)
}

/// Refuses formats whose loaders would not find their way into a vmlinux.
fn check_unpacked(formats: &[Format], arch: Arch) -> Result<()> {
    let boots = |format: &&Format| arch == Arch::Amd64 && format.description().firmware != "-";
    match formats.iter().find(boots) {
        Some(format) => {
            let (name, firmware) = (format.description().name, format.description().firmware);
            Err(Error::usage(format!("--decompress-kernel: {name} is booted by {firmware}, which needs a bzImage"))
                .hint("use it with kernel+initrd, tar or another format that hands out the kernel"))
        }
        None => Ok(()),
    }
}

/// The time of what has none of its own: SOURCE_DATE_EPOCH (reproducible-builds.org), else a fixed one.
pub(super) fn build_time() -> Result<i64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => {
            text.parse().ok().filter(|time| (0..=i64::from(u32::MAX)).contains(time)).ok_or_else(|| {
                Error::usage(format!("SOURCE_DATE_EPOCH is \"{}\"", text.escape_debug()))
                    .hint("it is a number of seconds since 1970, below 4294967296")
            })
        }
        _ => Ok(GENERATED_TIME),
    }
}

fn list() -> Result<i32> {
    let rows: Vec<[String; 5]> = Format::ALL
        .iter()
        .map(|row| {
            let files: Vec<String> = row.suffixes.iter().map(|suffix| format!("NAME{suffix}")).collect();
            let arches: Vec<String> = row.arches.iter().map(Arch::to_string).collect();
            [row.name.into(), files.join(" "), arches.join(" "), row.firmware.into(), row.purpose.into()]
        })
        .collect();
    let head = ["FORMAT", "FILES", "ARCHITECTURES", "FIRMWARE", "FOR"].map(str::to_owned);
    let rows: Vec<&[String; 5]> = std::iter::once(&head).chain(&rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(&format!("{}\n", row[4]));
    }
    super::print(&text).map(|()| 0)
}
