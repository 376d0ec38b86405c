//! Files that logs are written to. Their folder may be on a disk that somebody else had in their hands (`disk.data` on
//! /var), or be bound in a container: no link is followed on the way to a file, not even in the folder's own path, and
//! nothing but a regular file is opened for good. What is planted there costs its log, and nothing else.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2, renameat};
use rustix::io::Errno;

use crate::console::say;

/// A log is at most this long; then it becomes NAME.1, of which one is kept. LinuxKit's logwrite has the same size.
pub const LOG_BYTES: u64 = 1 << 20;

/// Read from the end of a log for its last words.
const END_BYTES: u64 = 4096;

/// A log file that turns over when it is full. The folder and the file are made with the first output.
#[derive(Debug)]
pub struct LogFile {
    folder: PathBuf,
    name: String,
    file: Option<File>,
    length: u64,
    told: bool,
}

impl LogFile {
    /// The file `name` in `folder`, an absolute path.
    pub fn new(folder: &Path, name: String) -> LogFile {
        LogFile { folder: folder.to_owned(), name, file: None, length: 0, told: false }
    }

    /// Appends. A log that cannot be written (a full /var) is told of once, and tried again with the next output: what a
    /// container prints must not stop the container.
    pub fn write(&mut self, bytes: &[u8]) {
        let written = self.append(bytes);
        if let Err(error) = &written {
            self.file = None;
            if !self.told {
                say(&format!("{} is not written: {error}", self.folder.join(&self.name).display()));
            }
        }
        self.told = written.is_err();
    }

    /// The last bytes that are in the file; nothing if there is none.
    pub fn end(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.read_end(&mut bytes);
        bytes
    }

    fn read_end(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut file = open_file(&open_folder(&self.folder)?, &self.name, OFlags::RDONLY, Mode::empty())?;
        file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(END_BYTES)))?;
        file.take(END_BYTES).read_to_end(bytes).map(drop)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length >= LOG_BYTES
            && let Some(full) = self.file.take()
        {
            let folder = open_folder(&self.folder)?;
            if renameat(&folder, &self.name, &folder, format!("{}.1", self.name)).is_err() {
                // Something else has that name. The bound holds all the same.
                full.set_len(0)?;
            }
        }
        let file = match &mut self.file {
            Some(file) => file,
            place => {
                let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
                let file = open_file(&open_folder(&self.folder)?, &self.name, flags, Mode::from_raw_mode(0o644))?;
                self.length = file.metadata()?.len();
                place.insert(file)
            }
        };
        file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Opens a folder, and makes what is missing of it (0755).
fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = open("/", flags, Mode::empty())?;
    let inside = path.strip_prefix("/").unwrap_or(path);
    match openat2(&folder, inside, flags, Mode::empty(), RESOLVE) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    for part in inside {
        match mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        folder = openat2(&folder, part, flags, Mode::empty(), RESOLVE)?;
    }
    Ok(folder)
}

/// Opens a regular file of a folder, without waiting for the other end of what turns out to be a pipe.
fn open_file(folder: &OwnedFd, name: &str, flags: OFlags, mode: Mode) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(openat2(folder, name, flags, mode, RESOLVE)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn place(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().canonicalize().unwrap();
        let folder = folder.join(format!("moby-init-log-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn log(folder: &Path) -> LogFile {
        LogFile::new(folder, "a.log".to_owned())
    }

    #[test]
    fn a_full_log_turns_over() {
        let folder = place("turn").join("made");
        let mut log = log(&folder);
        assert_eq!(log.end(), b"");
        for round in 0..3_u8 {
            log.write(&vec![b'0' + round; LOG_BYTES as usize]);
        }
        assert_eq!(fs::read(folder.join("a.log")).unwrap().first(), Some(&b'2'));
        assert_eq!(fs::read(folder.join("a.log.1")).unwrap().first(), Some(&b'1'));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        assert_eq!(log.end(), vec![b'2'; END_BYTES as usize]);
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }

    /// Not even one that cannot be put aside grows for ever.
    #[test]
    fn the_bound_holds() {
        let folder = place("bound");
        fs::create_dir_all(folder.join("a.log.1")).unwrap();
        let mut log = log(&folder);
        for _ in 0..3 {
            log.write(&vec![b'x'; LOG_BYTES as usize]);
        }
        assert_eq!(fs::metadata(folder.join("a.log")).unwrap().len(), LOG_BYTES);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn links_are_not_followed() {
        let folder = place("links");
        fs::create_dir_all(folder.join("logs")).unwrap();
        let secret = folder.join("secret");
        fs::write(&secret, "before").unwrap();
        symlink(&secret, folder.join("logs/a.log")).unwrap();
        symlink("logs", folder.join("other")).unwrap();
        // A link that leads nowhere would be made by who follows it.
        symlink(folder.join("new"), folder.join("logs/b.log")).unwrap();
        let mut planted = log(&folder.join("logs"));
        planted.write(b"out");
        assert_eq!(planted.end(), b"");
        LogFile::new(&folder.join("logs"), "b.log".to_owned()).write(b"out");
        LogFile::new(&folder.join("other"), "c.log".to_owned()).write(b"out");
        LogFile::new(&folder.join("other/deeper"), "c.log".to_owned()).write(b"out");
        assert_eq!(fs::read(&secret).unwrap(), b"before");
        assert!(!folder.join("new").exists() && fs::read_dir(folder.join("logs")).unwrap().count() == 2);
        // What takes the link away has the log again.
        fs::remove_file(folder.join("logs/a.log")).unwrap();
        planted.write(b"out");
        assert_eq!(planted.end(), b"out");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_pipe_stops_nobody() {
        let folder = place("pipe");
        fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join("a.log");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut planted = log(&folder);
        std::thread::spawn(move || {
            planted.write(b"out");
            sender.send(planted.end()).unwrap();
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(30)).unwrap(), b"");
        // Nor does one that somebody reads get anything.
        let mut reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        log(&folder).write(b"out");
        assert!(reader.read(&mut [0; 8]).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
