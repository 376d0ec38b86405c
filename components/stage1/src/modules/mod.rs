//! Kernel modules: which ones the hardware asks for, and loading them in order. Reads the text files that depmod
//! writes; the image needs no other program for it.

pub mod coldplug;
pub mod index;
pub mod pattern;

use index::{ModuleIndex, normal_name};

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::{finit_module, uname};

use crate::error::{Doing, Failure, Result};
use crate::options::module_parameters;

/// finit_module(2): the file is compressed, and the kernel knows how (Linux 5.17).
const COMPRESSED_FILE: i32 = 4;

/// Loads modules of the running kernel, each at most once.
#[derive(Debug)]
pub struct Loader {
    folder: PathBuf,
    index: ModuleIndex,
    command_line: String,
    tried: HashSet<String>,
}

impl Loader {
    /// For the running kernel. A kernel without a modules folder has all it needs built in: an empty loader.
    pub fn open() -> Result<Loader> {
        let release = String::from_utf8_lossy(uname().release().to_bytes()).into_owned();
        // The second is for a root whose /lib is no link into /usr, with a kernel whose modules are there.
        let folders = ["/lib/modules", "/usr/lib/modules"].map(|folder| Path::new(folder).join(&release));
        let [first, _] = &folders;
        let folder = folders.iter().find(|folder| folder.is_dir()).unwrap_or(first).clone();
        let index = ModuleIndex::read(&folder)?;
        let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Ok(Loader { folder, index, command_line, tried: HashSet::new() })
    }

    /// Loads what each of these module names or aliases stands for, and what that needs. Returns the failures; an
    /// alias that nothing answers to is none.
    pub fn load_aliases(&mut self, aliases: &[String]) -> Vec<Failure> {
        let names = match self.index.modules_of(&self.folder, aliases) {
            Ok(names) => names,
            Err(failure) => return vec![failure],
        };
        names.iter().filter_map(|name| self.load(name, 0).err()).collect()
    }

    /// Loads one module after what it depends on. `depth` bounds soft dependencies that go round in a circle.
    fn load(&mut self, name: &str, depth: usize) -> Result<()> {
        if depth > 16 || !self.tried.insert(normal_name(name)) {
            return Ok(());
        }
        let Some(module) = self.index.module(name) else { return Ok(()) };
        let path = self.folder.join(&module.path);
        let before = self.index.soft_dependencies(name);
        // modules.dep lists what is needed with the nearest first: the last must be loaded first.
        let dependencies: Vec<String> =
            module.dependencies.iter().rev().map(|path| index::name_of_path(path)).collect();
        for soft in before {
            let names = self.index.modules_of(&self.folder, &[soft])?;
            for name in names {
                // A soft dependency that fails is the kernel's to miss.
                let _ = self.load(&name, depth + 1);
            }
        }
        for dependency in dependencies {
            self.load(&dependency, depth + 1)?;
        }
        self.insert(name, &path)
    }

    fn insert(&self, name: &str, path: &Path) -> Result<()> {
        let file = File::open(path).at("opening", path)?;
        let compressed = path.extension().is_some_and(|extension| extension != "ko");
        let parameters = CString::new(module_parameters(&self.command_line, name))
            .map_err(|_| Failure::new(format!("module {name}: a parameter holds a zero byte")))?;
        match finit_module(&file, &parameters, if compressed { COMPRESSED_FILE } else { 0 }) {
            // Loaded by someone else meanwhile.
            Err(Errno::EXIST) => Ok(()),
            // No such device: the driver looked and does not want it.
            Err(Errno::NODEV) => Ok(()),
            Err(Errno::INVAL) if compressed => Err(Failure::new(format!(
                "loading module {name}: the kernel cannot decompress {} (CONFIG_MODULE_DECOMPRESS)",
                path.display()
            ))),
            result => result.at("loading module", path),
        }
    }
}
