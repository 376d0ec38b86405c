//! `--disk [file=]PATH[,size=N[M|G|T]][,format=F]`: a disk besides the one that boots.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, IoContext, Result};

/// Formats that QEMU is told; a guest could otherwise write a header into a raw disk and have QEMU read any file of
/// the host by it, which is why none is ever guessed from content.
const FORMATS: [&str; 5] = ["raw", "qcow2", "vmdk", "vpc", "vhdx"];

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// Size in bytes for a file that does not exist yet.
    pub size: Option<u64>,
    /// QEMU's name of the format.
    pub format: String,
}

impl FromStr for Disk {
    type Err = Error;

    fn from_str(text: &str) -> Result<Disk> {
        let wrong = |why: String| {
            Error::usage(format!("--disk {text}: {why}"))
                .hint("the form is [file=]PATH[,size=N[M|G|T]][,format=raw|qcow2], for example data.img,size=2G")
        };
        let (mut path, mut size, mut format) = (None, None, None);
        for (index, part) in text.split(',').enumerate() {
            match part.split_once('=') {
                Some(("file", value)) => path = Some(PathBuf::from(value)),
                Some(("size", value)) => {
                    size = Some(parse_size(value).map_err(|expected| wrong(format!("size \"{value}\": {expected}")))?);
                }
                Some(("format", value)) if FORMATS.contains(&value) => format = Some(value.to_owned()),
                Some(("format", value)) => {
                    return Err(wrong(format!("format \"{value}\" is none of {}", FORMATS.join(", "))));
                }
                _ if index == 0 => path = Some(PathBuf::from(part)),
                _ => return Err(wrong(format!("\"{part}\" is not known"))),
            }
        }
        let path = path.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| wrong("no file is named".into()))?;
        let by_name = match path.extension().and_then(|end| end.to_str()) {
            Some("qcow2") => "qcow2",
            Some("vmdk") => "vmdk",
            Some("vhd") => "vpc",
            Some("vhdx") => "vhdx",
            _ => "raw",
        };
        Ok(Disk { size, format: format.unwrap_or_else(|| by_name.to_owned()), path })
    }
}

impl Disk {
    /// Makes the file, as holes only, if it does not exist and a size is given. An existing one is left alone.
    pub fn create_if_missing(&self) -> Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        let shown = self.path.display();
        let Some(size) = self.size else {
            return Err(Error::usage(format!("--disk {shown}: there is no such file"))
                .hint(format!("to have it made: --disk {shown},size=1G")));
        };
        if self.format != "raw" {
            return Err(Error::usage(format!("--disk {shown}: only raw disks are made here, not {}", self.format))
                .hint(format!(
                    "add format=raw (it takes no room until written), or: qemu-img create -f {} {shown} SIZE",
                    self.format
                )));
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&self.path).at("creating", &self.path)?;
        file.set_len(size).at("sizing", &self.path)
    }
}

/// A size in bytes; a bare number is MiB, as with LinuxKit. The error is what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    size(text).ok_or_else(|| "a number of MiB, or one with M, G or T, is expected".to_owned())
}

fn size(text: &str) -> Option<u64> {
    let units = [(['T', 't'], 1u64 << 40), (['G', 'g'], 1 << 30), (['M', 'm'], 1 << 20)];
    let with_unit = units.iter().find_map(|(letters, unit)| Some((text.strip_suffix(*letters)?, *unit)));
    let (digits, unit) = with_unit.unwrap_or((text, 1 << 20));
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|&size| size > 0 && size <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let disk: Disk = "a.img,size=2G".parse().unwrap();
        assert_eq!((disk.size, disk.format.as_str()), (Some(2 << 30), "raw"));
        assert_eq!((parse_size("3T"), parse_size("7m"), parse_size("7")), (Ok(3 << 40), Ok(7 << 20), Ok(7 << 20)));
        let disk: Disk = "size=512,file=b.qcow2".parse().unwrap();
        assert_eq!((disk.path, disk.size, disk.format), (PathBuf::from("b.qcow2"), Some(512 << 20), "qcow2".into()));
        for text in ["", ",size=1G", "a,size=0", "a,size=-1", "a,size=99999999999G", "a,b", "a,format=luks", "a,x=1"] {
            assert!(text.parse::<Disk>().is_err(), "{text}");
        }
    }

    #[test]
    fn missing_disks_are_made_and_existing_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.img");
        let disk: Disk = format!("{},size=1G", path.display()).parse().unwrap();
        disk.create_if_missing().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 30);
        std::fs::write(&path, "kept").unwrap();
        disk.create_if_missing().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
        let none: Disk = dir.path().join("none.img").to_string_lossy().parse().unwrap();
        assert!(none.create_if_missing().unwrap_err().hint_text().unwrap().contains("size=1G"));
    }
}
