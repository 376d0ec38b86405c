//! `pxe`: `NAME-kernel`, `NAME-initrd.img` and `NAME.ipxe`, a script for iPXE that starts them. The script names its
//! neighbours by relative addresses, so the three go into any folder of a TFTP or HTTP server.

use std::path::PathBuf;

use super::initrd::Initrd;
use super::{Format, Options, OutputFile, System, Target, uki};
use crate::error::{Error, Result};

/// What iPXE calls the initrd, whatever its file's name is.
const INITRD: &str = "initrd.img";
/// Words that iPXE takes for ends of a command, however they are quoted.
const SEPARATORS: [&str; 3] = ["||", "&&", ";"];

/// Writes the files and returns their names.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let Target::Base(base) = target else {
        return Err(Error::usage("pxe makes several files").hint("use --dir and --name"));
    };
    let kernel = uki::kernel(system)?;
    let [kernel_name, initrd_name, script_name] =
        Format::Pxe.files(base).try_into().map_err(|_| Error::failed("pxe makes three files"))?;
    let script = script(&address(&kernel_name)?, &address(&initrd_name)?, &kernel.cmdline)?;
    let mut initrd_file = OutputFile::create(&initrd_name)?;
    Initrd::make(system, options)?.write(&mut initrd_file)?;
    let kernel_file = OutputFile::holding(&kernel_name, &kernel.image)?;
    let script_file = OutputFile::holding(&script_name, &script.into_bytes())?;
    OutputFile::commit_all(vec![kernel_file, initrd_file, script_file])
}

/// iPXE's script (ipxe.org/scripting). `initrd=` is for UEFI, where the kernel asks the loader for the file by that
/// name; by BIOS it does nothing.
fn script(kernel: &str, initrd: &str, command_line: &str) -> Result<String> {
    if command_line.chars().any(char::is_control) {
        return Err(Error::usage("the kernel command line has a line break or another control character"));
    }
    let separator = command_line.split_whitespace().find(|word| SEPARATORS.contains(word));
    if let Some(word) = separator.or_else(|| command_line.contains("${").then_some("${")) {
        return Err(Error::usage(format!(
            "the kernel command line has \"{word}\", which iPXE takes for a word of its own in any place"
        ))
        .hint("leave it away, or make kernel+initrd and write the script yourself"));
    }
    // iPXE takes quotes and backslashes away, and the kernel wants its own.
    let mut words = String::new();
    for letter in command_line.trim().chars() {
        if matches!(letter, '"' | '\'' | '\\') {
            words.push('\\');
        }
        words.push(letter);
    }
    let space = if words.is_empty() { "" } else { " " };
    Ok(format!("#!ipxe\nkernel {kernel} initrd={INITRD}{space}{words}\ninitrd --name {INITRD} {initrd}\nboot\n"))
}

/// A file's name as a relative address (RFC 3986, 4.2).
fn address(path: &std::path::Path) -> Result<String> {
    let name = path.file_name().unwrap_or_default().to_str();
    let name = name.ok_or_else(|| {
        Error::usage(format!("{}: the name is not UTF-8, which iPXE's script needs", path.display())).hint("use --name")
    })?;
    let mut address = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        assert_eq!(
            script("m-kernel", "m-initrd.img", "console=ttyS0 \"root=LABEL=a b\" x=\\1").unwrap(),
            "#!ipxe\nkernel m-kernel initrd=initrd.img console=ttyS0 \\\"root=LABEL=a b\\\" x=\\\\1\n\
             initrd --name initrd.img m-initrd.img\nboot\n"
        );
        assert!(script("k", "i", "").unwrap().contains("kernel k initrd=initrd.img\n"));
        for wrong in ["a\nshell", "a && shell", "x=${net0/ip}", "a ; b"] {
            assert!(script("k", "i", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(address("/a b/my image:1-kernel".as_ref()).unwrap(), "my%20image%3A1-kernel");
    }
}
