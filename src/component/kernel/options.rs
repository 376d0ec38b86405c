//! Options of the kernel's configuration: what is asked for, and whether the kernel's own scripts kept it.
//!
//! The form is that of `.config` (Linux, Documentation/kbuild/kconfig.rst): `CONFIG_NAME=value`, or
//! `# CONFIG_NAME is not set`, which is the same as `CONFIG_NAME=n`.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// A file of options that a recipe names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionFile {
    /// Its name, for messages.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// An option that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// `y`, `m`, `n`, a number or a text in double quotes.
    value: String,
    /// The file and line that ask for it.
    place: String,
}

/// Options that are asked for, by name without `CONFIG_`. Of several lines for one option the last holds.
#[derive(Clone, Debug, Default)]
pub struct Options {
    wanted: BTreeMap<String, Wanted>,
}

impl Options {
    /// Reads files of options.
    ///
    /// # Errors
    /// Exit status 2 for a line that is none of the two forms, a comment or empty.
    pub fn read(files: &[OptionFile]) -> Result<Options> {
        let mut options = Options::default();
        for file in files {
            for (at, line) in file.text.lines().enumerate() {
                let place = format!("{} line {}", file.name, at + 1);
                match parse(line) {
                    Some((name, value)) => {
                        options.wanted.insert(name.to_string(), Wanted { value: value.to_string(), place });
                    }
                    None if line.trim().is_empty() || line.starts_with('#') => {}
                    None => {
                        return Err(Error::usage(format!(
                            "{place} is no option of the kernel: \"{}\"",
                            line.escape_debug()
                        ))
                        .hint("an option is CONFIG_NAME=value, or # CONFIG_NAME is not set"));
                    }
                }
            }
        }
        Ok(options)
    }

    /// The value that is asked for.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.wanted.get(name).map(|wanted| wanted.value.as_str())
    }

    /// The options as lines of a `.config`.
    pub fn text(&self) -> String {
        self.wanted.iter().map(|(name, wanted)| format!("CONFIG_{name}={}\n", wanted.value)).collect()
    }

    /// Checks that a finished `.config` has what was asked for. The kernel's scripts drop an option without a word when
    /// something that it depends on is off, or when there is none of this name.
    ///
    /// # Errors
    /// Exit status 2 with all that were not kept.
    pub fn check(&self, config: &str) -> Result<()> {
        let kept: BTreeMap<&str, &str> = config.lines().filter_map(parse).collect();
        let lost = self.wanted.iter().filter_map(|(name, wanted)| {
            let found = kept.get(name.as_str()).copied().unwrap_or("n");
            (found != wanted.value)
                .then(|| format!("CONFIG_{name}: {} asks for {}, it became {found}", wanted.place, wanted.value))
        });
        let lost: Vec<String> = lost.collect();
        if lost.is_empty() {
            return Ok(());
        }
        Err(Error::usage(format!("the kernel does not take {} of its options:\n{}", lost.len(), lost.join("\n"))).hint(
            "something that an option depends on is off, or another turns it on; the kernel's Kconfig files say what",
        ))
    }
}

/// Name and value of a line.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (name, value) = match line.strip_prefix("# CONFIG_") {
        Some(rest) => (rest.trim_end().strip_suffix(" is not set")?, "n"),
        None => line.strip_prefix("CONFIG_")?.trim_end().split_once('=')?,
    };
    let proper = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (proper && !value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Options> {
        Options::read(&[OptionFile { name: "a.config".into(), text: text.into() }])
    }

    #[test]
    fn the_last_line_holds() {
        let first = OptionFile { name: "a".into(), text: "# why\n\nCONFIG_A=y\nCONFIG_B=\"x y\"\n".into() };
        let second = OptionFile { name: "b".into(), text: "# CONFIG_A is not set\nCONFIG_C=0x10 \n".into() };
        let options = Options::read(&[first, second]).unwrap();
        assert_eq!(options.text(), "CONFIG_A=n\nCONFIG_B=\"x y\"\nCONFIG_C=0x10\n");
        assert_eq!((options.value("C"), options.value("D")), (Some("0x10"), None));
        for wrong in ["CONFIG_A", "CONFIG_A=", "CONFIG_A B=y", "A=y", "CONFIG_=y"] {
            assert_eq!(options_error(wrong), crate::error::Exit::Usage, "{wrong}");
        }
    }

    fn options_error(text: &str) -> crate::error::Exit {
        options(text).unwrap_err().exit()
    }

    #[test]
    fn what_was_not_kept_is_told() {
        let asked = options("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\n# CONFIG_D is not set\nCONFIG_E=y\n").unwrap();
        asked.check("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_E=y\nCONFIG_F=y\n").unwrap();
        let error = asked.check("CONFIG_A=y\nCONFIG_B=y\nCONFIG_D=y\n").unwrap_err();
        assert_eq!(
            error.message(),
            "the kernel does not take 3 of its options:\n\
             CONFIG_B: a.config line 2 asks for m, it became y\n\
             CONFIG_D: a.config line 4 asks for n, it became y\n\
             CONFIG_E: a.config line 5 asks for y, it became n"
        );
    }
}
