//! Images of a local Docker or podman, by `docker save` or `podman save` through a pipe into the store. No daemon is
//! spoken to: the programs know where theirs is (`DOCKER_HOST`, contexts), and podman has none.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use super::registry::ImageName;
use super::{Descriptor, ImageConfig, Manifest, Store};
use crate::Arch;
use crate::error::{Error, Result};
use crate::ui::Ui;

/// The programs, in the order in which they are looked for.
const PROGRAMS: [&str; 2] = ["docker", "podman"];
/// Of what a program says on standard error, this much is kept.
const SAID_LIMIT: u64 = 4 << 10;

/// A program that has images.
#[derive(Clone, Debug)]
pub struct LocalDocker {
    program: PathBuf,
}

impl LocalDocker {
    /// Finds docker or podman in the folders of `PATH`.
    ///
    /// # Errors
    /// Exit status 2 if there is neither.
    pub fn find() -> Result<LocalDocker> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
        let mut all = PROGRAMS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        all.find(|program| program.is_file()).map(|program| LocalDocker { program }).ok_or_else(|| {
            Error::usage("--docker looks images up in the local Docker, and neither docker nor podman is there")
                .hint("install one of them, or write images to files and name docker-archive:FILE in the blueprint")
        })
    }

    /// The manifest of an image for an architecture, with everything of it in the store; nothing if the program has
    /// none, or one for another architecture or with another digest.
    pub fn image(&self, store: &Store, name: &ImageName, arch: Arch, ui: &Ui) -> Result<Option<Descriptor>> {
        let program = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = match self.save(store, name)? {
            Ok(found) => found,
            Err(said) => {
                ui.note(format!("{program} has no {name}: {said}"));
                return Ok(None);
            }
        };
        let Some(manifest) = store.platform_manifest(&found, arch)?.filter(|manifest| store.has_image(manifest)) else {
            ui.note(format!("{program} has no {name} for {arch}"));
            return Ok(None);
        };
        if let Some(digest) = name.digest.filter(|digest| ![found.digest, manifest.digest].contains(digest)) {
            // What Docker saves is packed anew, so that the digest of the registry cannot be checked.
            ui.note(format!("{program} has {name}, but not with the digest {digest}"));
            return Ok(None);
        }
        let read: Manifest = store.read_json(&manifest.digest)?;
        let config: ImageConfig = store.read_json(&read.config.digest)?;
        if ![arch.name(), arch.kernel_name(), ""].contains(&config.architecture.as_str()) {
            ui.note(format!("{program} has {name} for {}, not for {arch}", config.architecture.escape_debug()));
            return Ok(None);
        }
        Ok(Some(manifest))
    }

    /// What the program saves under a name, or what it says instead.
    fn save(&self, store: &Store, name: &ImageName) -> Result<std::result::Result<Descriptor, String>> {
        // Without a tag it would save all there are.
        let tag = if name.tag.is_none() && name.digest.is_none() { ":latest" } else { "" };
        let failed = |error: std::io::Error| Error::io("running", &self.program, error);
        let mut child = Command::new(&self.program)
            .args(["save", "--"])
            .arg(format!("{name}{tag}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::failed("a program was started without its pipes"));
        };
        // Both pipes are read at once: a full one would stop the program.
        let listener = std::thread::Builder::new()
            .spawn(move || {
                let mut said = Vec::new();
                let _ = err.by_ref().take(SAID_LIMIT).read_to_end(&mut said);
                let _ = std::io::copy(&mut err, &mut std::io::sink());
                String::from_utf8_lossy(&said).into_owned()
            })
            .map_err(|error| Error::failed(format!("starting a thread: {error}")))?;
        let mut out = Counted { out, count: 0 };
        let images = store.read_archive(&mut out);
        let count = out.count;
        // A program that is still writing gets to know that nobody reads.
        drop(out);
        let status = child.wait().map_err(failed)?;
        let said = listener.join().unwrap_or_default();
        if !status.success() && (images.is_ok() || count == 0) {
            let line = said.lines().rev().find(|line| !line.trim().is_empty());
            return Ok(Err(line.map_or_else(|| status.to_string(), |line| line.trim().escape_debug().to_string())));
        }
        let images = images.map_err(|error| error.context(saved(&self.program, name)))?;
        let mut digests: Vec<&Descriptor> = images.iter().map(|image| &image.descriptor).collect();
        digests.dedup_by_key(|descriptor| descriptor.digest);
        match digests.as_slice() {
            [only] => Ok(Ok((*only).clone())),
            _ => Err(Error::refused(format!("{} has {} images", saved(&self.program, name), digests.len()))
                .hint("name one by its tag")),
        }
    }
}

/// Counts what comes through a pipe.
struct Counted {
    out: ChildStdout,
    count: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.out.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

fn saved(program: &Path, name: &ImageName) -> String {
    format!("what {} save wrote of {name}", program.display())
}
