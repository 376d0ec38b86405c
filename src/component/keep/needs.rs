//! What programs, libraries and scripts need.

use std::rc::Rc;

use super::elf::{self, Elf, Parsed};
use super::loader::{Object, Process};
use super::walk::{split, walk};
use super::{Keeper, physical, script, show};
use crate::error::{Context, Error, Result};
use crate::rootfs::{Content, InodeId, Kind};

/// Where `env` looks for programs: what most services have as `PATH`.
const PROGRAM_FOLDERS: [&str; 5] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/bin"];

/// What was found in a file.
#[derive(Clone, Debug)]
pub(super) enum Read {
    /// A program or library.
    Elf(Rc<Elf>),
    /// It says that it is one and cannot be read.
    Broken(&'static str),
    /// Anything else.
    Other,
}

impl Keeper<'_> {
    /// Takes what the taken files need, and what that needs, to the end.
    ///
    /// Programs come first, then libraries that no program needs, which are plug-ins: they find what their program has
    /// loaded wherever it lies.
    pub(super) fn examine(&mut self) -> Result<()> {
        loop {
            self.follow();
            if let Some((path, id)) = self.files.pop() {
                if self.examined.insert(id) {
                    self.examine_file(path, id)?;
                }
            } else if let Some(library) = self.libraries.pop() {
                self.load(library)?;
            } else {
                return Ok(());
            }
        }
    }

    fn examine_file(&mut self, path: Vec<u8>, id: InodeId) -> Result<()> {
        let executable = self.tree.inode(id).meta.mode & 0o111 != 0;
        let elf = match self.read(&path, id)? {
            Read::Elf(elf) => elf,
            Read::Broken(why) if executable => {
                return Err(Error::refused(format!("the program {} is broken: {why}", show(&path))));
            }
            Read::Broken(_) => return Ok(()),
            Read::Other if executable => return self.examine_script(&path, id),
            Read::Other => return Ok(()),
        };
        if !elf.runs_on(self.arch) {
            // Firmware for other processors is data.
            if !executable && !elf.dynamic {
                return Ok(());
            }
            let what = match elf.readable {
                true => format!("for ELF machine {}", elf.machine.0),
                false => format!("a 32-bit or big-endian program for ELF machine {}", elf.machine.0),
            };
            let message = format!("{} is {what}, and the image is for {}", show(&path), self.arch);
            return Err(Error::refused(message).hint("name the files to keep instead of the folder, or `drop:` it"));
        }
        let object = Object { path, id, elf, parent: None };
        let Some(interpreter) = object.elf.interpreter.clone() else {
            self.libraries.push(object);
            return Ok(());
        };
        self.need(&interpreter, &format!("the program {}", show(&object.path)), "its loader")?;
        self.load(object)
    }

    /// Finds the libraries of a program, or of a plug-in, as the loader does: breadth first, each name once.
    fn load(&mut self, object: Object) -> Result<()> {
        let program = object.elf.interpreter.is_some();
        let mut process = Process::new(object.path, object.id, object.elf);
        let mut number = 0;
        while let Some(elf) = process.objects.get(number).map(|object| object.elf.clone()) {
            for name in &elf.needed {
                if process.names.contains(name) {
                    continue;
                }
                match self.find(&process, number, name)? {
                    Some(found) => {
                        process.names.insert(name.clone());
                        process.names.extend(found.elf.soname.clone());
                        if !process.objects.iter().any(|known| known.id == found.id) {
                            process.objects.push(found);
                        }
                    }
                    None if !program && self.loaded.contains(name) => {}
                    None => return Err(self.not_found(&process, number, name)),
                }
            }
            number += 1;
        }
        if program {
            self.loaded.extend(process.names);
        }
        Ok(())
    }

    fn find(&mut self, process: &Process, number: usize, name: &[u8]) -> Result<Option<Object>> {
        for path in process.candidates(number, name, self.arch) {
            let Some(found) = walk(self.tree, &path, true) else { continue };
            let Read::Elf(elf) = self.read(&found.path, found.id)? else { continue };
            if !elf.runs_on(self.arch) {
                continue;
            }
            let object = Object {
                path: path.strip_prefix(b"/").unwrap_or(&path).to_vec(),
                id: found.id,
                elf,
                parent: Some(number),
            };
            // What it needs is found for this process.
            self.examined.insert(found.id);
            self.take(found);
            return Ok(Some(object));
        }
        Ok(None)
    }

    fn not_found(&self, process: &Process, number: usize, name: &[u8]) -> Error {
        let path = |at: usize| process.objects.get(at).map(|object| show(&object.path)).unwrap_or_default();
        let of = if number > 0 { format!(" (a library of {})", path(0)) } else { String::new() };
        let folders = process.folders(number, self.arch);
        let folders: Vec<_> = folders.iter().map(|folder| folder.escape_ascii().to_string()).collect();
        let name_shown = name.escape_ascii();
        let mut elsewhere = None;
        let _ = self.tree.walk_all(|path, _| {
            if elsewhere.is_none() && split(path).1 == name {
                elsewhere = Some(show(path));
            }
            Ok(())
        });
        let message = format!(
            "{}{of} needs the library {name_shown}, which is not in {} for {}",
            path(number),
            folders.join(", "),
            self.arch
        );
        Error::usage(message).hint(match elsewhere {
            Some(path) => {
                format!("{path} is not where the loader looks: add a link to `symlinks:`, or `drop:` the user")
            }
            None => "add the package that has it to `packages:`".to_string(),
        })
    }

    fn examine_script(&mut self, path: &[u8], id: InodeId) -> Result<()> {
        let Some(interpreter) = script::interpreter(self.content(id)?).context(show(path))? else { return Ok(()) };
        let user = format!("the script {}", show(path));
        self.need(&interpreter.program, &user, "its interpreter")?;
        let Some(name) = interpreter.through_env else { return Ok(()) };
        if name.contains(&b'/') {
            return self.need(&name, &user, "its interpreter");
        }
        for folder in PROGRAM_FOLDERS {
            let path = [folder.as_bytes(), b"/", &name].concat();
            if walk(self.tree, &path, true).is_some() || self.own.contains(&physical(self.tree, &path)) {
                return self.need(&path, &user, "its interpreter");
            }
        }
        Err(missing(&user, &name, "its interpreter"))
    }

    /// Takes a program that must be there, or come from the recipe itself.
    fn need(&mut self, path: &[u8], user: &str, what: &str) -> Result<()> {
        if self.own.contains(&physical(self.tree, path)) {
            return Ok(());
        }
        match walk(self.tree, path, true) {
            Some(found) if path.starts_with(b"/") => {
                self.take(found);
                Ok(())
            }
            _ => Err(missing(user, path, what)),
        }
    }

    fn read(&mut self, path: &[u8], id: InodeId) -> Result<Read> {
        if let Some(known) = self.elves.get(&id) {
            return Ok(known.clone());
        }
        let read = match &self.tree.inode(id).kind {
            Kind::File(content) => match elf::read(content).context(show(path))? {
                Some(Parsed::Loadable(elf)) => Read::Elf(Rc::new(elf)),
                Some(Parsed::Broken(why)) => Read::Broken(why),
                Some(Parsed::Other) | None => Read::Other,
            },
            _ => Read::Other,
        };
        self.elves.insert(id, read.clone());
        Ok(read)
    }

    fn content(&self, id: InodeId) -> Result<&Content> {
        match &self.tree.inode(id).kind {
            Kind::File(content) => Ok(content),
            _ => Err(Error::failed("what is no file was to be read as a script")),
        }
    }
}

fn missing(user: &str, path: &[u8], what: &str) -> Error {
    Error::usage(format!("{user} needs {} as {what}, which no package has", path.escape_ascii()))
        .hint("add the package that has it to `packages:`, or `drop:` what needs it")
}
