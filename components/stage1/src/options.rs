//! What the kernel command line asks of this program.
//!
//! A word of ours that cannot be understood stops the boot: a root hash with a wrong digit must never mean that nothing
//! is checked.

use std::path::Path;
use std::time::Duration;

use crate::ending::Ending;
use crate::error::{Doing, Result};
use crate::source::{RootHash, Source};

/// USB disks and slow controllers turn up within this.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A day; longer is a mistake, or `rootwait`.
const LONGEST_TIMEOUT: u64 = 86_400;

/// What happens when a block of the root is not what the root hash says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// The kernel panics, and does then what `panic=` says.
    Panic,
    /// The kernel restarts the machine.
    Restart,
    /// The read fails (EIO), everything else goes on.
    Error,
}

/// The options of this program on the kernel command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// `root=`.
    pub root: Option<Source>,
    /// `roothash=`: the root is verified against it.
    pub root_hash: Option<RootHash>,
    /// `moby.root.hash=`: where the hash tree is, instead of in the partition that the root hash names.
    pub hash: Option<Source>,
    /// `moby.root.hash.offset=`: the hash tree is in the same device or file as the data, from this byte on.
    pub hash_offset: Option<u64>,
    /// `moby.root.hash.lenient`: the hash tree's superblock may differ from what moby writes where nothing depends on it.
    pub lenient: bool,
    /// `moby.root.check=full`: all of a verified root is read before it is used.
    pub check_all: bool,
    /// `moby.root.file=`: the root is this file of the file system that `root=` names.
    pub file: Option<String>,
    /// `rootfstype=`: do not look, it is this.
    pub file_system: Option<String>,
    /// `rootflags=`: mount options of the file system.
    pub flags: String,
    /// `rw`: a root that can be written to is mounted so.
    pub writable: bool,
    /// How long to wait for the devices; `None` is for ever (`rootwait`).
    pub timeout: Option<Duration>,
    /// `moby.root.onfailure=`, else `moby.onfailure=`.
    pub on_failure: Ending,
    /// `moby.root.oncorruption=`.
    pub on_corruption: Corruption,
    /// `init=`: the program to run as PID 1.
    pub init: Option<String>,
    /// `quiet`: say nothing unless something is wrong.
    pub quiet: bool,
    /// What could not be understood.
    pub problems: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            root: None,
            root_hash: None,
            hash: None,
            hash_offset: None,
            lenient: false,
            check_all: false,
            file: None,
            file_system: None,
            flags: String::new(),
            writable: false,
            timeout: Some(DEFAULT_TIMEOUT),
            on_failure: Ending::Halt,
            on_corruption: Corruption::Panic,
            init: None,
            quiet: false,
            problems: Vec::new(),
        }
    }
}

impl Options {
    /// Reads /proc/cmdline.
    pub fn read() -> Result<Options> {
        let path = Path::new("/proc/cmdline");
        Ok(Options::parse(&String::from_utf8_lossy(&std::fs::read(path).at("reading", path)?)))
    }

    /// Parses a command line. The last of several equal options wins, as in the kernel.
    pub fn parse(line: &str) -> Options {
        let mut options = Options::default();
        let (mut on_failure, mut on_corruption) = (None, None);
        for word in words(line) {
            let word = unquoted(word);
            let (key, value) = word.split_once('=').map_or((word, ""), |(key, value)| (key, unquoted(value)));
            let done = match key {
                "moby.root.onfailure" => ending(value).map(|end| on_failure = Some(end)),
                // PID 1's option, which here means the same unless it is `continue`: without a root nothing can.
                "moby.onfailure" => {
                    options.on_failure = Ending::of_word(value).unwrap_or(options.on_failure);
                    Ok(())
                }
                "moby.root.oncorruption" => corruption(value).map(|what| on_corruption = Some(what)),
                _ => options.set(key, value, word.contains('=')),
            };
            if let Err(problem) = done {
                options.problems.push(format!("{word}: {problem}"));
            }
        }
        options.on_failure = on_failure.unwrap_or(options.on_failure);
        let by_failure = match options.on_failure {
            Ending::Reboot => Corruption::Restart,
            Ending::Halt | Ending::PowerOff => Corruption::Panic,
        };
        options.on_corruption = on_corruption.unwrap_or(by_failure);
        options
    }

    fn set(&mut self, key: &str, value: &str, has_value: bool) -> Result<(), String> {
        match key {
            "root" => self.root = Some(Source::parse(value)?),
            "roothash" => {
                let hash = RootHash::parse(value).ok_or("is not 64, 96 or 128 hexadecimal digits")?;
                self.root_hash = Some(hash);
            }
            "rootfstype" => self.file_system = Some(file_system(value)?),
            "rootflags" => self.flags = value.to_owned(),
            "rw" if !has_value => self.writable = true,
            "ro" if !has_value => self.writable = false,
            "rootwait" if !has_value => self.timeout = None,
            "rootwait" | "moby.root.timeout" => self.timeout = Some(seconds(value)?),
            "init" => self.init = Some(absolute(value)?),
            "quiet" if !has_value => self.quiet = true,
            "moby.root.file" => self.file = Some(absolute(value)?),
            "moby.root.hash" => self.hash = Some(Source::parse(value)?),
            "moby.root.hash.offset" => {
                self.hash_offset = Some(value.parse().map_err(|_| "is no number of bytes")?);
            }
            "moby.root.check" if value == "full" => self.check_all = true,
            "moby.root.hash.lenient" if !has_value => self.lenient = true,
            _ if key.starts_with("moby.root.") => return Err("is not known, or not with this value".to_owned()),
            _ => {}
        }
        Ok(())
    }
}

fn ending(value: &str) -> Result<Ending, String> {
    Ending::of_word(value).ok_or_else(|| "is none of halt, poweroff and reboot".to_owned())
}

fn corruption(value: &str) -> Result<Corruption, String> {
    match value {
        "panic" => Ok(Corruption::Panic),
        "restart" => Ok(Corruption::Restart),
        "error" => Ok(Corruption::Error),
        _ => Err("is none of panic, restart and error".to_owned()),
    }
}

fn seconds(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(seconds) if seconds <= LONGEST_TIMEOUT => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("is no number of seconds from 0 to {LONGEST_TIMEOUT}")),
    }
}

/// A name that can be part of a module alias and of /proc/filesystems, and nothing else.
fn file_system(value: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    match value {
        "" => Err("names no file system".to_owned()),
        value if value.bytes().all(fits) => Ok(value.to_owned()),
        _ => Err("is not the name of one file system".to_owned()),
    }
}

fn absolute(value: &str) -> Result<String, String> {
    match value.starts_with('/') && !value.split('/').any(|part| part == "..") {
        true => Ok(value.to_owned()),
        false => Err("is no absolute path".to_owned()),
    }
}

/// The parameters that the command line has for a kernel module: `MODULE.name=value` becomes `name=value`.
/// `-` and `_` are one character in module names.
pub fn module_parameters(line: &str, module: &str) -> String {
    let wanted = module.replace('-', "_");
    let mut parameters = Vec::new();
    for word in words(line) {
        let dot = word.find('.').filter(|dot| word.find('=').is_none_or(|equals| *dot < equals));
        if let Some((name, parameter)) = dot.and_then(|dot| Some((word.get(..dot)?, word.get(dot + 1..)?)))
            && name.replace('-', "_") == wanted
        {
            parameters.push(parameter);
        }
    }
    parameters.join(" ")
}

/// The words before ` -- ` (what follows is for init's arguments). A quoted part may hold spaces.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |character: char| {
        quoted ^= character == '"';
        !quoted && character.is_ascii_whitespace()
    })
    .filter(|word| !word.is_empty())
    .take_while(|word| *word != "--")
}

/// As the kernel does: quotes around a whole word or a whole value are not part of it.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').map_or(text, |text| text.strip_suffix('"').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

    #[test]
    fn nothing() {
        assert_eq!(Options::parse("console=ttyS0 foo moby.exit=poweroff root.x=1\n"), Options::default());
    }

    #[test]
    fn every_option() {
        let options = Options::parse(&format!(
            "BOOT_IMAGE=/x \"root=LABEL=MY DISK\" roothash={HASH} rootfstype=erofs rootflags=a,b rw rootwait=7 \
             init=/lib/systemd/systemd quiet moby.root.file=/root.erofs moby.root.hash=/dev/vdb \
             moby.root.hash.offset=4096 moby.root.hash.lenient moby.root.check=full moby.root.oncorruption=error \
             moby.root.onfailure=poweroff -- root=/dev/x"
        ));
        let expected = Options {
            root: Some(Source::Label("MY DISK".to_owned())),
            root_hash: RootHash::parse(HASH),
            hash: Some(Source::Device("vdb".to_owned())),
            hash_offset: Some(4096),
            lenient: true,
            check_all: true,
            file: Some("/root.erofs".to_owned()),
            file_system: Some("erofs".to_owned()),
            flags: "a,b".to_owned(),
            writable: true,
            timeout: Some(Duration::from_secs(7)),
            on_failure: Ending::PowerOff,
            on_corruption: Corruption::Error,
            init: Some("/lib/systemd/systemd".to_owned()),
            quiet: true,
            problems: Vec::new(),
        };
        assert_eq!(options, expected);
        let value = Options::parse("root=\"LABEL=MY DISK\" x");
        assert_eq!(value.root, Some(Source::Label("MY DISK".to_owned())));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = [
            "root=sda1",
            "roothash=12",
            "roothash=",
            "rootfstype=ext4,xfs",
            "rootfstype=../x",
            "rootwait=soon",
            "moby.root.timeout=-1",
            "moby.root.timeout=99999999999999999999",
            "init=../x",
            "moby.root.file=a",
            "moby.root.file=/a/../../b",
            "moby.root.hash.offset=0x10",
            "moby.root.hash.lenient=no",
            "moby.root.check=some",
            "moby.root.onfailure=shell",
            "moby.root.oncorruption=",
            "moby.root.ofset=1",
        ];
        for word in wrong {
            let options = Options::parse(word);
            assert_eq!(options.problems.len(), 1, "{word}");
            assert!(options.problems[0].starts_with(word), "{word}");
        }
    }

    #[test]
    fn failures() {
        let ends = |line| {
            let options = Options::parse(line);
            (options.on_failure, options.on_corruption)
        };
        assert_eq!(ends(""), (Ending::Halt, Corruption::Panic));
        assert_eq!(ends("moby.onfailure=reboot"), (Ending::Reboot, Corruption::Restart));
        assert_eq!(ends("moby.root.onfailure=halt moby.onfailure=reboot"), (Ending::Halt, Corruption::Panic));
        assert_eq!(ends("moby.onfailure=continue"), (Ending::Halt, Corruption::Panic));
        assert_eq!(ends("moby.onfailure=reboot moby.root.oncorruption=panic"), (Ending::Reboot, Corruption::Panic));
    }

    #[test]
    fn waiting() {
        assert_eq!(Options::parse("rootwait").timeout, None);
        assert_eq!(Options::parse("rootwait moby.root.timeout=0").timeout, Some(Duration::ZERO));
    }

    #[test]
    fn finds_module_parameters() {
        let line = "virtio_blk.num_request_queues=1 quiet virtio-blk.x=2 y.z x=virtio_blk.a";
        assert_eq!(module_parameters(line, "virtio-blk"), "num_request_queues=1 x=2");
        assert_eq!(module_parameters(line, "y"), "z");
    }
}
