//! `moby verify`: an image rebuilt from its lock, and compared.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::extras::ExtraArguments;
use super::global::Global;
use crate::Arch;
use crate::blueprint::{self, ArchiveReference, Input, Place, ReadOptions};
use crate::component::Components;
use crate::error::{Context, Error, Exit, Result};
use crate::formats::compress::Method;
use crate::formats::disk::RawFile;
use crate::inspect::compare::{self, Difference};
use crate::inspect::origin::{Origin, origin};
use crate::inspect::parts::Part;
use crate::inspect::{Image, detect};
use crate::lock::{LoaderPins, LockPlace, Resolver};
use crate::outputs::{Format, Loaders, Options, Target};
use crate::rootfs::assemble::{Assembling, assemble};
use crate::run::disk::parse_size;
use crate::secure_boot::signing::Signing;
use crate::store::Store;
use crate::ui::Ui;

/// Rebuilds an image from its lock, and says whether every byte is the same.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby verify images-out/redis-efi.img --lock redis.lock            rebuilds redis.yml beside the lock
  moby verify redis.iso --lock prod.lock base.yml prod.yml          of two blueprints
  moby verify redis-squashfs.img --lock redis.lock --format kernel+squashfs

Exit status: 0 if it was reproduced; 3 if not, with the first difference.")]
pub struct VerifyArguments {
    /// The image, or one file of several
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The lock that it was built by
    #[arg(long, value_name = "FILE")]
    lock: PathBuf,
    /// Blueprints, as for moby build [default: NAME.yml beside NAME.lock]
    #[arg(value_name = "BLUEPRINT")]
    files: Vec<OsString>,
    /// The format that it was built as [default: what its bytes say]
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The architecture that it was built for [default: that of the programs in it]
    #[arg(long, value_name = "ARCH")]
    arch: Option<Arch>,
    /// Size of the disk that was asked for [default: the one that it has]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// Compression of the initrd that was asked for [default: the image's, at the usual level]
    #[arg(long, value_name = "METHOD")]
    compression: Option<Method>,
    #[command(flatten)]
    extras: ExtraArguments,
    /// It was built with --decompress-kernel
    #[arg(long)]
    decompress_kernel: bool,
}

/// Runs the verb. The result is the exit status.
pub fn run(arguments: &VerifyArguments, global: &Global, ui: &Ui) -> Result<i32> {
    let image: Image = Arc::new(RawFile::open(super::given(&arguments.image)?)?);
    let path = arguments.image.display();
    let looking = ui.span("look", path.to_string());
    let found = origin(&image).or_else(|error| {
        // Damage is what a comparison is for, if it is known what to compare with.
        if arguments.format.is_some() {
            Ok(Origin::default())
        } else {
            Err(error.context(&path).hint("with --format it is compared all the same"))
        }
    })?;
    drop(looking);
    let format = match &arguments.format {
        Some(name) => name.parse()?,
        None => found.format.ok_or_else(|| {
            Error::usage(format!("{path}: its bytes do not say in which format it was built")).hint("say --format")
        })?,
    };
    let arch = match arguments.arch.or(found.arch) {
        Some(arch) => arch,
        None => super::arch(None)?,
    };
    format.check_arch(arch)?;
    let store = global.store(ui)?;
    let scratch = store.temporary_folder()?;
    let rebuild = Rebuild { arguments, global, ui, store: &store, format, arch, origin: &found };
    let files = store.mending(|| rebuild.files(scratch.path()))?;
    let ours = same_file(&files, &arguments.image, &image)?;
    let comparing = ui.span("compare", path.to_string());
    let expected = Part::whole("rebuilt", Arc::new(RawFile::open(&ours)?))?;
    let whole = Part::whole("image", image)?;
    let difference = compare::first_difference(&expected, &whole).context(&path)?;
    drop(comparing);
    let digest = compare::digest(&whole)?;
    let name = format.description().name;
    let mut signers: Vec<String> = found.signatures.iter().map(|claim| claim.signer.subject.clone()).collect();
    signers.dedup();
    if global.json() {
        let value = serde_json::json!({
            "image": path.to_string(), "format": name, "arch": arch.name(), "digest": digest,
            "reproduced": difference.is_none(), "signatures": signers,
            "difference": difference.as_ref().map(|d| serde_json::json!({"place": d.place, "what": d.what})),
        });
        super::print_line(&format!("{value:#}"))?;
    } else {
        super::print_line(&text(&path.to_string(), name, arch, digest, difference.as_ref(), &signers))?;
    }
    Ok(if difference.is_none() { 0 } else { Exit::Refused as i32 })
}

fn text(
    path: &str,
    format: &str,
    arch: Arch,
    digest: impl std::fmt::Display,
    difference: Option<&Difference>,
    signers: &[String],
) -> String {
    // No rebuild makes a signature: it was taken from the image.
    let but = match signers {
        [] => String::new(),
        all => format!(" but for the signature of {}", all.join("; ")),
    };
    match difference {
        None => format!("reproduced{but}: {path} ({format}, {arch}), {digest}"),
        Some(difference) => format!("not reproduced: {path} ({format}, {arch})\nfirst difference: {difference}"),
    }
}

/// Of the files of a format, the one that the image is: the one of its kind, or else of its name.
fn same_file(files: &[PathBuf], path: &Path, image: &Image) -> Result<PathBuf> {
    if let [only] = files {
        return Ok(only.clone());
    }
    let kind = detect(image)?;
    let end = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.rsplit_once('-').map(|(_, end)| end.to_owned()).unwrap_or_default()
    };
    for file in files {
        let other: Image = Arc::new(RawFile::open(file)?);
        let known = kind != crate::inspect::Kind::Unknown;
        if (known && detect(&other)? == kind) || (!known && end(file) == end(path)) {
            return Ok(file.clone());
        }
    }
    let names: Vec<_> = files.iter().map(|file| end(file)).collect();
    Err(Error::usage(format!("{} is none of the files of that format: {}", path.display(), names.join(", ")))
        .hint("say --format, if it is another one"))
}

struct Rebuild<'a> {
    arguments: &'a VerifyArguments,
    global: &'a Global,
    ui: &'a Ui,
    store: &'a Store,
    format: Format,
    arch: Arch,
    origin: &'a Origin,
}

impl Rebuild<'_> {
    /// Builds as `moby build --locked` does, into a folder. The files are those of the format.
    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let Rebuild { arguments, global, ui, store, format, arch, origin } = *self;
        let inputs = self.inputs()?;
        let net = global.net(ui)?;
        let fetch = |url: &str| net.get_bytes(url, 16 << 20).map_err(Error::from);
        let components = Components::new(store, &net, ui);
        let resolve = |folder: &Path, _: &Place| components.add(folder).map(|component| component.reference.clone());
        let archives =
            |archive: &ArchiveReference| super::image_in_file(store, archive).map(|(reference, _)| reference);
        let options = ReadOptions { fetch: Some(&fetch), resolve: Some(&resolve), archives: Some(&archives) };
        let (blueprint, warnings) = blueprint::read(&inputs, options)?;
        super::show_warnings(&warnings, ui);
        let place = LockPlace::of(&inputs, Some(&arguments.lock));
        let lock = place.read(store)?;
        super::lock::check((&place, lock.as_ref()), &blueprint, &components, arch, true, ui)?;
        components.pin_loaders(LoaderPins::new(&place, lock.as_ref(), true));
        let extras = arguments.extras.read()?;
        let time = super::build::build_time()?;
        let (lock, components) = (lock.as_ref(), &components);
        let (pull, docker, input) = (false, None, None);
        let resolver = Resolver { store, net: &net, arch, pull, lock, locked: true, docker, input, components };
        let locked = resolver.lock(blueprint)?;
        let decompress_kernel = arguments.decompress_kernel;
        let system = assemble(&locked, Assembling { store, ui, arch, time, decompress_kernel, input })?;
        let name = origin.name.clone().or_else(|| base_name(format, &arguments.image)).filter(|name| is_plain(name));
        let name = name.unwrap_or_else(|| "image".to_owned());
        let target = Target::Base(folder.join(name));
        let compression = arguments.compression.or(origin.compression).unwrap_or_default();
        let asked = arguments.size.or(origin.size.filter(|_| format.is_disk()));
        let signing = self.signing();
        let build = |size| {
            let (sign, loaders) = (signing.as_ref(), Loaders::default());
            let options =
                Options { store, ui, components, size, sign, compression, extras: extras.clone(), time, loaders };
            format.write(&system, &target, &options).context(format.description().name)
        };
        match build(asked) {
            // What belongs into the image does not fit into a disk of its size, so it was another one.
            Err(error) if error.exit() == Exit::Usage && arguments.size.is_none() && asked.is_some() => build(None),
            other => other,
        }
    }

    /// The image's own signatures, so that they stand in the rebuilt one as well. They are not judged here.
    fn signing(&self) -> Option<Signing> {
        let claims = &self.origin.signatures;
        let certificate = claims.first()?.signer.certificate()?.clone();
        Some(Signing::with_messages(certificate, claims.iter().map(|c| (c.digest, c.message.clone())).collect()))
    }

    fn inputs(&self) -> Result<Vec<Input>> {
        let VerifyArguments { files, lock, .. } = self.arguments;
        if !files.is_empty() {
            return Ok(files.iter().map(|file| Input::from_argument(file)).collect());
        }
        let beside = ["yml", "yaml"].map(|extension| lock.with_extension(extension));
        match beside.iter().find(|path| path.is_file()) {
            Some(path) => Ok(vec![Input::File(path.clone())]),
            None => Err(Error::usage(format!("there is no {} beside the lock", beside[0].display()))
                .hint("name the blueprints: moby verify IMAGE --lock LOCK BLUEPRINT...")),
        }
    }
}

/// The base name that a file of a format has. Scripts of iPXE name the other files.
fn base_name(format: Format, path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    format.description().suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).map(str::to_owned)
}

/// A name that stays in its folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}
