//! `moby cache pull`, `push`, `export` and `import`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{PlatformArguments, archive, canonical, find, reference};
use crate::Arch;
use crate::commands::global::Global;
use crate::commands::{image_in_file, print_line};
use crate::error::{Error, IoContext, Result};
use crate::lock::LockFile;
use crate::outputs::{OutputFile, Target, write_filesystem};
use crate::rootfs::image_rules::GENERATED_TIME;
use crate::store::manifest::media_type;
use crate::store::registry::{ImageName, Registry};
use crate::store::{Descriptor, Index, Store};
use crate::ui::Ui;

/// Arguments of `pull`.
#[derive(Args, Clone, Debug)]
pub(super) struct PullArguments {
    /// Images of registries; or in a file: docker-archive:FILE, oci-archive:FILE, oci:FOLDER
    #[arg(value_name = "IMAGE", required_unless_present = "lock")]
    images: Vec<String>,
    #[command(flatten)]
    platforms: PlatformArguments,
    /// Everything that a lock file names, for its architectures unless others are asked for; may be repeated
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
}

/// Fetches images.
pub(super) fn pull(arguments: &PullArguments, store: &Store, global: &Global, ui: &Ui) -> Result<()> {
    let net = global.net(ui)?;
    let registry = Registry::new(&net);
    let arches = arguments.platforms.arches()?;
    for image in &arguments.images {
        if let Some(archive) = archive(image)? {
            let (name, _) = image_in_file(store, &archive)?;
            print_line(&name)?;
            continue;
        }
        let name = canonical(image)?;
        let found = match &arches {
            Some(arches) => arches.clone(),
            None => registry.platforms(store, &name, &Arch::ALL)?.images.into_keys().collect(),
        };
        for arch in found {
            let manifest = registry.pull(store, &name, arch)?;
            print_line(&format!("{name} {arch} {}", manifest.digest))?;
        }
    }
    for path in &arguments.lock {
        let lock = LockFile::read(path)?;
        store.remember_lock(path)?;
        for (key, entry) in &lock.images {
            if entry.recipe.is_some() {
                ui.note(format!("{key} is built from a recipe, not pulled"));
                continue;
            }
            let name = canonical(key)?;
            let wanted = |arch: &Arch| {
                !arguments.platforms.is_given() || arches.as_ref().is_none_or(|arches| arches.contains(arch))
            };
            for (arch, platform) in entry.platforms.iter().filter(|(arch, _)| wanted(arch)) {
                let pinned = ImageName { digest: entry.index.or(platform.manifest), ..name.clone() };
                let manifest = registry.pull(store, &pinned, *arch)?;
                print_line(&format!("{key} {arch} {}", manifest.digest))?;
            }
        }
    }
    Ok(())
}

/// Arguments of `push`.
#[derive(Args, Clone, Debug)]
pub(super) struct PushArguments {
    /// Images of the store
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Name in the registry, if it is to be another one
    #[arg(long, value_name = "NAME")]
    remote_name: Option<String>,
    /// Give each architecture's image a tag of its own, TAG-ARCH
    #[arg(long)]
    with_arch_tags: bool,
    /// Replace what the registry has under the name, if it is something else
    #[arg(long = "override")]
    overwrite: bool,
}

/// Sends images.
pub(super) fn push(arguments: &PushArguments, store: &Store, global: &Global, ui: &Ui) -> Result<()> {
    if arguments.remote_name.is_some() && arguments.images.len() > 1 {
        return Err(Error::usage("--remote-name takes one image"));
    }
    let net = global.net(ui)?;
    let registry = Registry::new(&net);
    for image in &arguments.images {
        let (name, descriptor) = find(store, image)?;
        let remote = canonical(arguments.remote_name.as_deref().unwrap_or(&name))?;
        if remote.digest.is_some() {
            return Err(Error::usage(format!("{remote} has a digest, and only tags are pushed"))
                .hint("say where to with --remote-name"));
        }
        let mut all = vec![(remote.clone(), descriptor.clone())];
        if arguments.with_arch_tags && media_type::is_index(&descriptor.media_type) {
            for arch in Arch::ALL {
                if let Some(manifest) = store.platform_manifest(&descriptor, arch)? {
                    let tag = format!("{}-{arch}", remote.tag.as_deref().unwrap_or("latest"));
                    all.push((ImageName { tag: Some(tag), ..remote.clone() }, manifest));
                }
            }
        }
        for (remote, descriptor) in all {
            // Whatever the answer is but another image: pushing says better what is wrong.
            match registry.resolve(&remote) {
                Ok(there) if there.digest == descriptor.digest => {}
                Ok(there) if !arguments.overwrite => {
                    let message = format!("{remote} is in its registry already, with the digest {}", there.digest);
                    return Err(Error::refused(message).hint("--override replaces it"));
                }
                _ => registry.push(store, &remote, &descriptor)?,
            }
            print_line(&format!("{remote} {}", descriptor.digest))?;
        }
    }
    Ok(())
}

/// Arguments of `export`.
#[derive(Args, Clone, Debug)]
pub(super) struct ExportArguments {
    /// An image of the store
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What to write: oci (a layout in a tar), docker (for docker load), filesystem (the root as a tar)
    #[arg(long, value_enum, default_value_t = ExportFormat::Oci)]
    format: ExportFormat,
    /// The file to write, - for standard output
    #[arg(short, long = "outfile", alias = "o", value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    platforms: PlatformArguments,
    /// Name of the image in the archive
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    Oci,
    Docker,
    Filesystem,
}

/// Writes an image as an archive.
pub(super) fn export(arguments: &ExportArguments, store: &Store) -> Result<()> {
    let (found, named) = find(store, &arguments.image)?;
    let name = arguments.name.clone().unwrap_or_else(|| found.clone());
    let target = match arguments.output.as_os_str() == "-" {
        true => Target::Stdout,
        false => Target::file(&arguments.output)?,
    };
    let stream = || -> Result<_> { Ok(BufWriter::with_capacity(256 << 10, OutputFile::stream(&target, ".tar")?)) };
    let finish = |out: BufWriter<OutputFile>| -> Result<()> {
        let out = out.into_inner().map_err(|error| crate::rootfs::write_error(error.into_error()))?;
        out.commit().map(drop)
    };
    match (arguments.format, arguments.platforms.arches()?) {
        (ExportFormat::Oci, None) => {
            let mut out = stream()?;
            store.export_oci(&named, &name, &mut out)?;
            finish(out)
        }
        (_, None) => Err(Error::usage("only the format oci takes several platforms").hint("say --platform linux/ARCH")),
        (format, Some(arches)) => {
            let manifest = one_platform(store, &found, &named, &arches, arguments.platforms.is_given())?;
            let (read, config) = store.whole_image(&manifest)?;
            if let Some(missing) = read.layers.iter().find(|layer| !store.has_blob(layer)) {
                return Err(Error::failed(format!("the layer {} of {found} is not in the store", missing.digest))
                    .hint("moby cache pull fetches what is missing"));
            }
            match format {
                ExportFormat::Oci | ExportFormat::Docker => {
                    let mut out = stream()?;
                    match format {
                        ExportFormat::Docker => store.export_docker(&manifest, &name, &mut out)?,
                        _ => store.export_oci(&manifest, &name, &mut out)?,
                    }
                    out.flush().map_err(crate::rootfs::write_error)?;
                    finish(out)
                }
                ExportFormat::Filesystem => {
                    let layers = read.layers.iter().zip(&config.rootfs.diff_ids);
                    let layers: Vec<_> =
                        layers.map(|(layer, diff_id)| store.layer(layer, diff_id)).collect::<Result<_>>()?;
                    write_filesystem(&layers, GENERATED_TIME, &target).map(drop)
                }
            }
        }
    }
}

/// The image for the architecture that was asked for or, if none was, for this machine's or the only one there is.
fn one_platform(store: &Store, name: &str, named: &Descriptor, arches: &[Arch], given: bool) -> Result<Descriptor> {
    let [arch] = arches else { return Err(Error::usage("one platform at a time, or all")) };
    if !media_type::is_index(&named.media_type) {
        return Ok(named.clone());
    }
    let there = |arch: Arch| -> Result<Option<Descriptor>> {
        Ok(store.platform_manifest(named, arch)?.filter(|manifest| store.has_blob(manifest)))
    };
    if let Some(manifest) = there(*arch)? {
        return Ok(Descriptor { platform: None, ..manifest });
    }
    let mut others = Vec::new();
    for other in Arch::ALL {
        others.extend(there(other)?.map(|manifest| (other, manifest)));
    }
    match others.as_slice() {
        [(_, only)] if !given => Ok(Descriptor { platform: None, ..only.clone() }),
        _ => {
            let known: Vec<_> = others.iter().map(|(arch, _)| arch.name()).collect();
            let known = if known.is_empty() { "no architecture".to_string() } else { known.join(" and ") };
            let index: Index = store.read_json(&named.digest)?;
            Err(Error::failed(format!("{name} is in the store for {known}, not for {arch}")).hint(format!(
                "moby cache pull --arch {arch} fetches it; its index has {} images",
                index.manifests.len()
            )))
        }
    }
}

/// Arguments of `import`.
#[derive(Args, Clone, Debug)]
pub(super) struct ImportArguments {
    /// The archive, - for standard input; compressed or not
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name for the image, if the archive has one image only
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Reads images from an archive.
pub(super) fn import(arguments: &ImportArguments, store: &Store) -> Result<()> {
    let name = arguments.name.as_deref().map(canonical).transpose()?.map(|name| name.to_string());
    let known = |text: &str| reference(text).ok().and_then(|_| canonical(text).ok()).map(|name| name.to_string());
    let images = match arguments.file.as_os_str() == "-" {
        true => store.import(std::io::stdin(), name.as_deref(), &known),
        false => {
            let path: &Path = &arguments.file;
            let file = File::open(crate::commands::given(path)?).at("opening", path)?;
            store.import(file, name.as_deref(), &known).map_err(|error| error.context(path.display()))
        }
    }?;
    for image in images {
        print_line(&format!("{} {}", image.name, image.descriptor.digest))?;
    }
    Ok(())
}
