//! What containers print: to bounded files, and line by line to the console.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::console::print_line;
use crate::error::{Doing, Result};
use crate::log_file::LogFile;

/// A line for the console is cut here; the file has all of it.
const LINE_BYTES: usize = 4096;

/// Read from one stream before others get their turn.
const TURN_BYTES: usize = 64 << 10;

/// Where the output of a container goes.
#[derive(Clone, Debug)]
pub struct LogPlace {
    /// Folder of the files.
    pub folder: PathBuf,
    /// `NAME.log` gets the standard error, `NAME.out.log` the standard output.
    pub name: String,
    /// What stands before each line on the console; `None` keeps it off the console.
    pub console: Option<String>,
}

/// One end of a pipe that a container writes into.
#[derive(Debug)]
pub struct Stream {
    pipe: OwnedFd,
    log: LogFile,
    console: Option<String>,
    line: Vec<u8>,
}

impl LogPlace {
    /// Pipes for standard output and standard error: our ends, and the container's.
    pub fn open(&self) -> Result<([Stream; 2], [OwnedFd; 2])> {
        let (output, output_end) = self.stream("out.log")?;
        let (error, error_end) = self.stream("log")?;
        Ok(([output, error], [output_end, error_end]))
    }

    fn stream(&self, suffix: &str) -> Result<(Stream, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("making a pipe")?;
        fcntl_setfl(&ours, OFlags::NONBLOCK).doing("setting up a pipe")?;
        Ok((Stream { pipe: ours, log: self.file(suffix), console: self.console.clone(), line: Vec::new() }, theirs))
    }

    fn file(&self, suffix: &str) -> LogFile {
        LogFile::new(&self.folder, format!("{}.{suffix}", self.name))
    }

    /// The end of what was written to standard error.
    pub fn end(&self) -> Vec<u8> {
        self.file("log").end()
    }
}

impl Stream {
    /// The descriptor to wait for.
    pub fn pipe(&self) -> &OwnedFd {
        &self.pipe
    }

    /// Takes what is there. Returns false at the end of the stream.
    pub fn drain(&mut self) -> bool {
        let mut buffer = [0_u8; 8192];
        let mut taken = 0;
        while taken < TURN_BYTES {
            match read(&self.pipe, &mut buffer[..]) {
                Ok(0) => {
                    self.print_rest();
                    return false;
                }
                Ok(length) => {
                    taken += length;
                    let bytes = buffer.get(..length).unwrap_or_default();
                    self.log.write(bytes);
                    self.print(bytes);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn print(&mut self, bytes: &[u8]) {
        let Some(who) = &self.console else { return };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.line.extend_from_slice(end);
                    let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
                    print_line(who, line.get(..LINE_BYTES).unwrap_or(line));
                    self.line.clear();
                }
                None if self.line.len() < LINE_BYTES => self.line.extend_from_slice(piece),
                None => {}
            }
        }
    }

    fn print_rest(&mut self) {
        if let (Some(who), false) = (&self.console, self.line.is_empty()) {
            print_line(who, &self.line);
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn place(test: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().canonicalize().unwrap().join(format!("moby-init-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn both_streams_have_their_file() {
        let folder = place("streams");
        let log = LogPlace { folder: folder.clone(), name: "redis".into(), console: None };
        let ([mut output, mut error], [output_end, error_end]) = log.open().unwrap();
        assert!(output.drain(), "nothing yet is not the end");
        rustix::io::write(&output_end, b"out\n").unwrap();
        rustix::io::write(&error_end, b"err\n").unwrap();
        drop((output_end, error_end));
        assert!(!output.drain() && !error.drain());
        assert_eq!(fs::read(folder.join("redis.out.log")).unwrap(), b"out\n");
        assert_eq!(fs::read(folder.join("redis.log")).unwrap(), b"err\n");
        fs::remove_dir_all(folder).unwrap();
    }
}
