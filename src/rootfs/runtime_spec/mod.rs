//! The two files beside a container's root: config.json of the OCI runtime specification (version 1.2.1), and
//! runtime.json, LinuxKit's word to the init of the guest on what to mount and make around it.
//!
//! What a container is told comes from three places: the image's own configuration, overruled by the label
//! `org.mobyproject.config`, overruled by the blueprint. Only program, environment and working folder can come from the
//! first. `User` of the image is not looked at, as in LinuxKit: containers run as root unless the blueprint or the label
//! say otherwise.
//!
//! | file | what |
//! |---|---|
//! | `precedence` | blueprint over label, value by value |
//! | `ids` | the numbers of users that are named after containers |
//! | `process`, `mounts`, `linux` | the parts of config.json |
//! | `seccomp` | the profile of `security: strict` |
//! | `around` | runtime.json |

mod around;
mod ids;
mod linux;
mod mounts;
mod precedence;
mod process;
mod seccomp;

pub use ids::IdMap;

use crate::blueprint::{Image, MapBuilder, Security, Settings, Value};
use crate::{Arch, Result};
use precedence::Precedence;

/// The version of the OCI runtime specification that config.json follows.
pub const OCI_VERSION: &str = "1.2.1";

/// What an image's own configuration says (OCI image specification, `config.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OciConfig {
    /// `Entrypoint`: program and first arguments.
    pub entrypoint: Vec<String>,
    /// `Cmd`: more arguments.
    pub cmd: Vec<String>,
    /// `Env`.
    pub env: Vec<String>,
    /// `WorkingDir`; may be empty.
    pub working_dir: String,
}

/// What a bundle is made from.
#[derive(Clone, Copy, Debug)]
pub struct BundleInputs<'a> {
    /// The container in the blueprint.
    pub image: &'a Image,
    /// The label of its image, if it has one.
    pub label: Option<&'a Settings>,
    /// The image's own configuration.
    pub oci: &'a OciConfig,
    /// The numbers of users that are named after containers.
    pub ids: &'a IdMap,
    /// How it is confined unless blueprint or label say: [`crate::blueprint::Blueprint::security`].
    pub security: Security,
    /// For the system calls that a profile names.
    pub arch: Arch,
    /// Where the bundle lies in the image, without `/` at the start: `containers/services/web`.
    pub bundle_path: &'a str,
    /// Where the image's files lie, without `/` at the start: `containers/services/web/lower`, or those of another
    /// bundle with the same image.
    pub root_of_image: &'a str,
    /// Where the data partition of the disk is mounted, if there is one.
    pub data: Option<&'a str>,
}

/// The files of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleConfig {
    /// config.json, indented by 4, without a newline at the end.
    pub config_json: String,
    /// runtime.json, indented by 4, without a newline at the end.
    pub runtime_json: String,
}

/// Whether the root of a container is read-only; decides how its bundle is laid out, so it is asked before
/// [`generate`].
pub fn readonly(image: &Image, label: Option<&Settings>) -> bool {
    Precedence { label, blueprint: &image.settings }.truth(|settings| &settings.readonly)
}

/// The files of a bundle. The error is a mistake in the label: those of the blueprint were found when it was read.
pub fn generate(inputs: &BundleInputs<'_>) -> Result<BundleConfig> {
    let settings = Precedence { label: inputs.label, blueprint: &inputs.image.settings };
    let readonly = readonly(inputs.image, inputs.label);
    let capabilities = process::Capabilities::of(settings);
    let security = settings.first(|settings| &settings.security).map_or(inputs.security, |security| security.value);
    // A container that may do everything is confined by nothing, as Docker's privileged ones.
    let strict = security == Security::Strict && !capabilities.everything();

    let mut config = MapBuilder::default();
    config.put("ociVersion", Value::text(OCI_VERSION));
    config.put("process", process::process(settings, inputs.oci, inputs.ids, &capabilities)?);
    let mut root = MapBuilder::default();
    root.put("path", Value::text("rootfs")).maybe("readonly", readonly.then_some(Value::Bool(true)));
    config.put("root", root.build());
    let hostname = settings.text(|settings| &settings.hostname);
    config.maybe("hostname", hostname.map(Value::text));
    config.put("mounts", mounts::mounts(settings, readonly, inputs.data));
    let annotations = settings.first(|settings| &settings.annotations);
    config.maybe("annotations", annotations.map(|pairs| precedence::pairs(pairs)).filter(|map| !map.is_empty()));
    config.put("linux", linux::linux(settings, strict.then_some(inputs.arch), &capabilities));

    Ok(BundleConfig {
        config_json: config.build().to_json(4),
        runtime_json: around::runtime(settings, inputs.bundle_path, inputs.root_of_image, readonly).to_json(4),
    })
}

#[cfg(test)]
mod tests;
