//! The OCI runtime: crun, runc or youki, whichever the image has. All three take the same commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::error::{Doing, Failure, Result};

/// In order of preference: the smallest and fastest first (measured under QEMU's emulation, seconds per container:
/// crun 0.6, youki 0.9, runc 1.9; runc comes second because it is what LinuxKit's images have).
const NAMES: [&str; 3] = ["crun", "runc", "youki"];

const FOLDERS: [&str; 6] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// What programs of the image find in PATH.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A config.json is at most this long, in bytes.
const LARGEST_CONFIG: u64 = 16 << 20;

/// Where this program keeps what belongs to running containers.
pub const STATE: &str = "/run/moby";

/// A runtime that was found.
#[derive(Clone, Debug)]
pub struct OciRuntime {
    program: PathBuf,
    state: PathBuf,
    debug: bool,
}

impl OciRuntime {
    /// Looks for the runtime `wanted`, else for the first of those it knows.
    pub fn find(wanted: Option<&str>, debug: bool) -> Result<OciRuntime> {
        let names: Vec<&str> = wanted.map_or_else(|| NAMES.to_vec(), |name| vec![name]);
        let found = names.iter().find_map(|name| {
            let program = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())?;
            Some(OciRuntime { program, state: Path::new("/run").join(name), debug })
        });
        found.ok_or_else(|| {
            Failure::new(format!(
                "no OCI runtime ({}) in the image: add a component with one, such as crun, to the init section",
                names.join(", ")
            ))
        })
    }

    /// `create`: the container exists and waits; its process id is in `pid_file`.
    pub fn create(&self, id: &str, bundle: &Path, pid_file: &Path) -> Result<Command> {
        let mut command = self.command();
        command.arg("create").arg("--bundle").arg(bundle).arg("--pid-file").arg(pid_file);
        if self.program.ends_with("crun")
            && let Some(config) = with_known_version(&bundle.join("config.json"))?
        {
            let path = Path::new(STATE).join(format!("{id}.json"));
            fs::write(&path, config).at("writing", &path)?;
            command.arg("--config").arg(path);
        }
        command.arg(id);
        Ok(command)
    }

    /// `start`: the container's program runs.
    pub fn start(&self, id: &str) -> Command {
        let mut command = self.command();
        command.args(["start", id]);
        command
    }

    /// `delete`: what is left of the container goes, and its processes if there are any.
    pub fn delete(&self, id: &str) -> Command {
        let mut command = self.command();
        command.args(["delete", "--force", id]);
        command
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", SEARCH_PATH).current_dir("/").arg("--root").arg(&self.state);
        if self.debug {
            command.arg("--debug");
        }
        command
    }
}

/// crun before 1.9 refuses every version of the specification but 1.0 ("unknown version specified"), although later
/// ones only add to it. Returns the configuration with a version that it takes, if it needs that.
fn with_known_version(path: &Path) -> Result<Option<Vec<u8>>> {
    let length = fs::metadata(path).at("reading", path)?.len();
    if length > LARGEST_CONFIG {
        return Err(Failure::new(format!("{}: longer than {LARGEST_CONFIG} bytes", path.display())));
    }
    let bytes = fs::read(path).at("reading", path)?;
    let mut config: Value = serde_json::from_slice(&bytes).map_err(std::io::Error::from).at("parsing", path)?;
    let version = config.get("ociVersion").and_then(Value::as_str).unwrap_or_default();
    if version.starts_with("1.0") {
        return Ok(None);
    }
    if let Some(object) = config.as_object_mut() {
        object.insert("ociVersion".to_owned(), Value::from("1.0.2"));
    }
    Ok(Some(config.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_crun_knows() {
        let path = std::env::temp_dir().join(format!("moby-init-config-{}", std::process::id()));
        let change = |text: &str| {
            fs::write(&path, text).unwrap();
            with_known_version(&path).map(|bytes| bytes.map(|bytes| String::from_utf8(bytes).unwrap()))
        };
        assert_eq!(change(r#"{"ociVersion":"1.0.2-dev"}"#).unwrap(), None);
        let changed = change(r#"{"ociVersion":"1.2.1","hostname":"x"}"#).unwrap().unwrap();
        let changed: Value = serde_json::from_str(&changed).unwrap();
        assert_eq!(changed, serde_json::json!({"ociVersion": "1.0.2", "hostname": "x"}));
        assert!(change("{").is_err());
        assert!(change("[]").unwrap().is_some());
        fs::remove_file(&path).unwrap();
    }
}
