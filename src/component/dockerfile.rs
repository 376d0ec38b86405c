//! Images from a Dockerfile, which another program builds: `buildah`, else `docker buildx`.
//!
//! The program gets a copy of the component's folder, so that what is built is what was hashed, and gives an OCI archive,
//! which is read into the store like any other. Its commands run as its own rules say; without `network: true` they have
//! no network. Two builds of one Dockerfile need not give the same image: that is the Dockerfile's affair.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

use super::image::{Materials, labels};
use super::recipe::Dockerfile;
use super::{Component, Components};
use crate::Arch;
use crate::error::{Error, IoContext, Result};
use crate::rootfs::image_rules::GENERATED_TIME;
use crate::store::Descriptor;

/// The names that hosts give the builders.
const BUILDAH: &str = "buildah";
const DOCKER: &str = "docker";

/// The archive that a builder makes, in the folder that it runs in. It is named by that alone: a comma in the path of the
/// store would end the name for buildx, and a colon for buildah.
const ARCHIVE: &str = "image.tar";

/// As much of what a builder said is shown when it fails.
const SHOWN: u64 = 4 << 10;

/// A program that builds Dockerfiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Builder {
    Buildah,
    Buildx,
}

/// What is to be built.
struct Order<'a> {
    context: &'a Path,
    dockerfile: &'a Dockerfile,
    arch: Arch,
    /// The image's name in the archive.
    name: &'a str,
    labels: Vec<String>,
    arguments: Vec<String>,
}

impl Components<'_> {
    /// Has a component's Dockerfile built, and puts the image in the store.
    pub(super) fn build_dockerfile(
        &self,
        component: &Component,
        dockerfile: &Dockerfile,
        arch: Arch,
    ) -> Result<Descriptor> {
        let builder = Builder::find()?;
        let materials = Materials { recipe: component.hash.clone(), ..Materials::default() };
        let labels = labels(&component.recipe, &materials)?;
        let folder = self.store.temporary_folder()?;
        let context = folder.path().join("context");
        component.copy_to(&context)?;
        let name = format!("{}-{arch}", component.canonical()?);
        let order = Order {
            context: &context,
            dockerfile,
            arch,
            name: &name,
            labels: labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            arguments: arguments(component, dockerfile),
        };
        let archive = folder.path().join(ARCHIVE);
        {
            let _task = self.ui.task("building", format!("{} with {}", component.reference, builder.name()), None);
            builder.build(&order, folder.path())?;
        }
        let file = File::open(&archive).at("opening", &archive)?;
        let imported = self.store.import(file, Some(&name), &|name| Some(name.to_owned()))?;
        let named = imported.into_iter().next().map(|image| image.descriptor);
        let manifest = match named {
            Some(named) => self.store.platform_manifest(&named, arch)?,
            None => None,
        };
        let manifest =
            manifest.ok_or_else(|| Error::refused(format!("{} made no image for {arch}", builder.name())))?;
        let (_, config) = self.store.whole_image(&manifest)?;
        if config.architecture != arch.name() {
            let message = format!("{} made an image for {}, not for {arch}", builder.name(), config.architecture);
            return Err(Error::refused(message).hint("FROM names an image that is not there for the architecture"));
        }
        Ok(manifest)
    }
}

/// The arguments of the recipe, and those that LinuxKit gives to every Dockerfile.
fn arguments(component: &Component, dockerfile: &Dockerfile) -> Vec<String> {
    let mut all = dockerfile.arguments.clone();
    let automatic = [("PKG_HASH", component.hash.as_str()), ("PKG_IMAGE", component.reference.as_str())];
    for (name, value) in automatic {
        if !all.iter().any(|argument| argument.split('=').next() == Some(name)) {
            all.push(format!("{name}={value}"));
        }
    }
    all
}

impl Builder {
    fn find() -> Result<Builder> {
        if answers(BUILDAH, &["--version"]) {
            return Ok(Builder::Buildah);
        }
        if answers(DOCKER, &["buildx", "version"]) {
            return Ok(Builder::Buildx);
        }
        Err(Error::failed("it has a Dockerfile, and there is neither buildah nor docker buildx on this machine to build it")
            .hint("install buildah (Debian's package needs no daemon), or say what is in the image in build.yml: packages, files, cargo"))
    }

    fn name(self) -> &'static str {
        match self {
            Builder::Buildah => BUILDAH,
            Builder::Buildx => "docker buildx",
        }
    }

    fn build(self, order: &Order<'_>, folder: &Path) -> Result<()> {
        match self {
            Builder::Buildah => {
                let id_file = folder.join("id");
                let mut command = Command::new(BUILDAH);
                command.args(["build", "--format", "oci", "--os", "linux", "--arch", order.arch.name()]);
                command.args(["--timestamp", &GENERATED_TIME.to_string()]);
                // Not `--layers`: buildah 1.28 takes a layer of another architecture for the same.
                command.arg("--no-cache");
                command.arg("--iidfile").arg(&id_file);
                order.common(&mut command);
                self.run(command, folder)?;
                let id = std::fs::read_to_string(&id_file).at("reading", &id_file)?;
                let mut command = Command::new(BUILDAH);
                command.args(["push", "--quiet", id.trim()]);
                command.arg(format!("oci-archive:{ARCHIVE}:{}", order.name));
                let pushed = self.run(command, folder);
                // It has no name there, and would stay for ever.
                let mut command = Command::new(BUILDAH);
                command.args(["rmi", "--force", id.trim()]);
                pushed.and(self.run(command, folder))
            }
            Builder::Buildx => {
                let mut command = Command::new(DOCKER);
                command.args(["buildx", "build", "--platform", &format!("linux/{}", order.arch)]);
                command.args(["--provenance=false", "--sbom=false", "--progress=plain"]);
                command.arg("--build-arg").arg(format!("SOURCE_DATE_EPOCH={GENERATED_TIME}"));
                if !order.dockerfile.cache {
                    command.arg("--no-cache");
                }
                let name = order.name;
                command.arg("--output").arg(format!("type=oci,dest={ARCHIVE},name={name},rewrite-timestamp=true"));
                order.common(&mut command);
                self.run(command, folder)
            }
        }
    }

    fn run(self, mut command: Command, folder: &Path) -> Result<()> {
        let log = folder.join("log");
        let said = File::create(&log).at("making", &log)?;
        let also = said.try_clone().at("making", &log)?;
        command.current_dir(folder).stdin(Stdio::null()).stdout(said).stderr(also);
        let status =
            command.status().map_err(|error| Error::failed(format!("{} cannot be run: {error}", self.name())))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::failed(format!("{} failed ({status}):\n{}", self.name(), end_of(&log)?)))
    }
}

impl Order<'_> {
    /// What both builders are told in the same words.
    fn common(&self, command: &mut Command) {
        for label in &self.labels {
            command.arg("--label").arg(label);
        }
        for argument in &self.arguments {
            command.arg("--build-arg").arg(argument);
        }
        if !self.dockerfile.network {
            command.args(["--network", "none"]);
        }
        command.arg("--file").arg(self.context.join(&self.dockerfile.file)).arg(self.context);
    }
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn end_of(log: &Path) -> Result<String> {
    let mut file = File::open(log).at("opening", log)?;
    let size = file.metadata().at("reading", log)?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(SHOWN))).at("reading", log)?;
    let mut bytes = Vec::new();
    file.take(SHOWN).read_to_end(&mut bytes).at("reading", log)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
