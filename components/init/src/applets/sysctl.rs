//! `sysctl [FILE...]`: applies kernel settings, from /etc/sysctl.d/*.conf and /etc/sysctl.conf if no file is named
//! (sysctl.d(5)).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Failure, Result};

/// Applies all settings. A key that this kernel lacks is told and passed over; a value that the kernel refuses makes
/// the status 1 unless the line starts with `-`.
pub fn run(arguments: &[String]) -> Result<i32> {
    if let Some(flag) = arguments.iter().find(|argument| argument.starts_with('-')) {
        return Err(Failure::new(format!("{flag}: not known; use: sysctl [FILE...]")));
    }
    let files = match arguments.is_empty() {
        true => default_files(),
        false => arguments.iter().map(PathBuf::from).collect(),
    };
    let mut status = 0;
    for file in files {
        let text = fs::read_to_string(&file).at("reading", &file)?;
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", file.display(), number + 1);
            match Setting::parse(line) {
                Ok(None) => {}
                Ok(Some(setting)) => status = status.max(setting.apply(&place)),
                Err(failure) => return Err(Failure::new(format!("{place}: {failure}"))),
            }
        }
    }
    Ok(status)
}

fn default_files() -> Vec<PathBuf> {
    let entries = fs::read_dir("/etc/sysctl.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "conf")).collect();
    files.sort();
    files.extend(Some(PathBuf::from("/etc/sysctl.conf")).filter(|path| path.is_file()));
    files
}

#[derive(Debug, PartialEq, Eq)]
struct Setting {
    key: String,
    value: String,
    may_fail: bool,
}

impl Setting {
    /// `key = value`; `#` and `;` start a comment line.
    fn parse(line: &str) -> Result<Option<Setting>> {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            return Ok(None);
        }
        let (key, value) = line.split_once('=').ok_or_else(|| Failure::new("expected KEY = VALUE"))?;
        let (key, may_fail) = match key.trim().strip_prefix('-') {
            Some(key) => (key.trim(), true),
            None => (key.trim(), false),
        };
        let setting = Setting { key: key.to_owned(), value: value.trim().to_owned(), may_fail };
        setting.path().map(|_| Some(setting))
    }

    /// `net.ipv4.ip_forward` and `net/ipv4/ip_forward` are one file. The first separator tells which form it is, so
    /// that `net/ipv4/conf/eth0.1/x` can be written.
    fn path(&self) -> Result<PathBuf> {
        let dotted = self.key.find(['.', '/']).is_none_or(|at| self.key.get(at..=at) == Some("."));
        let relative = match dotted {
            true => self.key.split('.').map(|part| part.replace('/', ".")).collect::<Vec<_>>().join("/"),
            false => self.key.clone(),
        };
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        match relative.split('/').all(plain) {
            true => Ok(Path::new("/proc/sys").join(relative)),
            false => Err(Failure::new(format!("{:?} is no name of a setting", self.key))),
        }
    }

    fn apply(&self, place: &str) -> i32 {
        let Ok(path) = self.path() else { return 1 };
        match fs::OpenOptions::new().write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("{place}: {}: not in this kernel", self.key);
                return 0;
            }
            Ok(mut file) => match std::io::Write::write_all(&mut file, format!("{}\n", self.value).as_bytes()) {
                Ok(()) => return 0,
                Err(error) => eprintln!("{place}: {} = {}: {error}", self.key, self.value),
            },
            Err(error) => eprintln!("{place}: {}: {error}", self.key),
        }
        i32::from(!self.may_fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let setting = Setting::parse(" -net.core.somaxconn=1024 ").unwrap().unwrap();
        assert_eq!((setting.value.as_str(), setting.may_fail), ("1024", true));
        assert_eq!(setting.path().unwrap(), Path::new("/proc/sys/net/core/somaxconn"));
        let setting = Setting::parse("net.ipv4.tcp_rmem = 4096 87380 16777216").unwrap().unwrap();
        assert_eq!(setting.value, "4096 87380 16777216");
        assert_eq!(Setting::parse("# x").unwrap(), None);
        assert_eq!(Setting::parse("").unwrap(), None);
    }

    #[test]
    fn separators() {
        let path = |key: &str| Setting::parse(&format!("{key}=1")).map(|setting| setting.unwrap().path().unwrap());
        assert_eq!(path("net/ipv4/conf/eth0.1/x").unwrap(), Path::new("/proc/sys/net/ipv4/conf/eth0.1/x"));
        assert_eq!(path("net.ipv4.conf.eth0/1.x").unwrap(), Path::new("/proc/sys/net/ipv4/conf/eth0.1/x"));
        for wrong in ["", "../x", "a/../b", "a..b", "/etc/x"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
        assert!(Setting::parse("no value").is_err());
    }
}
