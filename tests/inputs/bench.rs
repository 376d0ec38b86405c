//! A folder with a blueprint and a store, and the program run in it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

/// A folder of its own.
pub struct Bench {
    folder: tempfile::TempDir,
}

/// How the program ended.
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub said: String,
}

/// A member of a tar: type, mode, time, content.
pub type Member = (tar::EntryType, u32, u64, Vec<u8>);

impl Bench {
    pub fn new(blueprint: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        bench.write("web.yml", blueprint);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs the program in the folder; `more` are variables of the environment.
    pub fn run_with(&self, more: &[(&str, &str)], words: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_moby"))
            .args(words)
            .current_dir(self.folder.path())
            .env("MOBY_CACHE", self.path("store"))
            .env_remove("MOBY_MIRROR")
            .env("DOCKER_CONFIG", self.path("none"))
            .envs(more.iter().copied())
            .output()
            .unwrap();
        Ran {
            status: output.status.code().unwrap(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        self.run_with(&[], words)
    }

    pub fn works(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.said);
        ran
    }

    /// Builds the root file system of `web.yml` for amd64.
    pub fn tar(&self, name: &str, flags: &[&str]) -> Vec<u8> {
        let mut words = vec!["build", "--format", "tar", "--arch", "amd64", "-o", name, "web.yml"];
        words.extend_from_slice(flags);
        self.works(&words);
        self.read(name)
    }
}

/// What a tar has, by path.
pub fn members(tar: &[u8]) -> BTreeMap<String, Member> {
    let mut archive = tar::Archive::new(tar);
    let member = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let header = entry.header();
        let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
        (path.trim_end_matches('/').to_string(), (header.entry_type(), mode, mtime, content))
    };
    archive.entries().unwrap().map(member).collect()
}
