//! What runs at start, in order: the image's own /etc/init.d programs, and the three stages of this program at the
//! places where LinuxKit's images have programs for them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::console::say;
use crate::logs::LogPlace;
use crate::runtime::SEARCH_PATH;
use crate::supervisor::Supervisor;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Mount the volumes.
    Volumes,
    /// Run the onboot containers.
    Onboot,
    /// Start the services.
    Services,
    /// A program of the image.
    Script(PathBuf),
}

/// The steps at start. A program of the image with the name that LinuxKit gives a stage replaces it: its service
/// manager does that part then.
pub fn boot_stages(folder: &Path) -> Vec<Stage> {
    let mut stages = BTreeMap::from([
        ("005-volumes".to_owned(), Stage::Volumes),
        ("010-onboot".to_owned(), Stage::Onboot),
        ("020-containerd".to_owned(), Stage::Services),
    ]);
    for script in scripts(folder) {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        stages.insert(name, Stage::Script(script));
    }
    stages.into_values().collect()
}

/// The programs in a folder, by name.
pub fn scripts(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let executable =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let mut scripts: Vec<PathBuf> = entries.filter(executable).collect();
    scripts.sort();
    scripts
}

/// Runs a program of the image to its end. Its status is told and changes nothing.
pub fn run_script(supervisor: &mut Supervisor, script: &Path, quiet: bool) {
    let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let log = LogPlace {
        folder: PathBuf::from("/var/log"),
        name: format!("init.d.{name}"),
        console: (!quiet).then(|| name.clone()),
    };
    let mut command = Command::new(script);
    command.env_clear().env("PATH", SEARCH_PATH).current_dir("/");
    match supervisor.run(&mut command, Some(&log)) {
        Ok(Ok(exit)) if exit.code() == 0 => {}
        Ok(Ok(exit)) => say(&format!("{}: {exit}", script.display())),
        Ok(Err(_)) => say(&format!("{}: interrupted", script.display())),
        Err(failure) => say(&failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_image_take_their_place() {
        let folder = std::env::temp_dir().join(format!("moby-init-stages-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, mode) in [("000-issue", 0o755), ("010-onboot", 0o755), ("015-notes", 0o644), ("030-late", 0o755)] {
            fs::write(folder.join(name), "").unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let script = |name| Stage::Script(folder.join(name));
        let expected = [script("000-issue"), Stage::Volumes, script("010-onboot"), Stage::Services, script("030-late")];
        assert_eq!(boot_stages(&folder), expected);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(boot_stages(&folder), [Stage::Volumes, Stage::Onboot, Stage::Services]);
    }
}
