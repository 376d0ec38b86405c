//! A folder with a store, in which `moby` runs as on a machine without any settings.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use moby::store::Store;

/// A folder with a store of its own. The program runs in it.
pub struct Place {
    folder: tempfile::TempDir,
    pub store: Store,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Place { folder, store }
    }

    /// The same in the target folder, for what is too large for a `/tmp` in memory.
    pub fn in_target() -> Place {
        let folder = super::support::machine::cache_dir().parent().unwrap().join("tmp");
        std::fs::create_dir_all(&folder).unwrap();
        let folder = tempfile::tempdir_in(folder).unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Place { folder, store }
    }

    /// A path in the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program with this place's store, and nothing of the machine's own settings.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["XDG_CACHE_HOME", "MOBY_MIRROR", "MOBY_DEB_MIRROR", "SOURCE_DATE_EPOCH", "DOCKER_CONFIG"] {
            command.env_remove(name);
        }
        command.env("MOBY_CACHE", self.store.root()).env("HOME", self.folder.path());
        command
    }

    pub fn moby<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// `moby build --arch amd64 ARGUMENTS`: the images made here are of that architecture.
    pub fn build(&self, arguments: &[&str]) -> Ended {
        self.moby(["build", "--arch", "amd64"].iter().chain(arguments))
    }

    /// The names in a folder, sorted; none if it is not there.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// How the program ended.
pub struct Ended {
    pub status: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ended {
    pub fn of(output: Output) -> Ended {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Ended { status: output.status.code(), out: output.stdout, err }
    }

    #[track_caller]
    pub fn well(self) -> Ended {
        assert_eq!(self.status, Some(0), "{}", self.err);
        self
    }

    /// It ended with a status, one message that has these words in it, and a hint.
    #[track_caller]
    pub fn with(self, status: i32, words: &[&str]) -> Ended {
        assert_eq!(self.status, Some(status), "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "\"{word}\" is not in:\n{}", self.err);
        }
        let lines = |start: &str| self.err.lines().filter(|line| line.starts_with(start)).count();
        assert!(!self.err.contains("panicked"), "{}", self.err);
        assert!(lines("error: ") >= 1, "{}", self.err);
        assert!(lines("hint: ") == 1 || self.err.contains("help: "), "no hint in:\n{}", self.err);
        self
    }
}
