//! Which program runs a script.

use crate::error::Result;
use crate::rootfs::Content;

/// The kernel looks at this much of a script (`BINPRM_BUF_SIZE`).
const LINE_LIMIT: usize = 256;

/// What a script's first line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// The program that the kernel starts.
    pub program: Vec<u8>,
    /// The program that `env` looks for in `PATH`, if the first is `env`.
    pub through_env: Option<Vec<u8>>,
}

/// Reads a script's first line. `None` if it is no script.
pub(super) fn interpreter(content: &Content) -> Result<Option<Interpreter>> {
    let mut line = [0; LINE_LIMIT];
    let count = content.read_at(0, &mut line)?;
    Ok(parse(line.get(..count).unwrap_or_default()))
}

fn parse(start: &[u8]) -> Option<Interpreter> {
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).filter(|word| !word.is_empty());
    let program = words.next()?.to_vec();
    let through_env = program.ends_with(b"/env").then(|| {
        // Options (`-S`) and variables come before the program.
        words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')).map(<[u8]>::to_vec)
    });
    Some(Interpreter { program, through_env: through_env.flatten() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(line: &str) -> Option<(String, Option<String>)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        interpreter(&Content::bytes(line.as_bytes())).unwrap().map(|i| (text(i.program), i.through_env.map(text)))
    }

    #[test]
    fn first_lines() {
        let plain = |program: &str| Some((program.to_string(), None));
        let env = |program: &str| Some(("/usr/bin/env".to_string(), Some(program.to_string())));
        assert_eq!(show("#!/bin/sh\nexit"), plain("/bin/sh"));
        assert_eq!(show("#! /bin/sh -e\n"), plain("/bin/sh"));
        assert_eq!(show("#!/usr/bin/env python3\n"), env("python3"));
        assert_eq!(show("#!/usr/bin/env -S A=b perl -w"), env("perl"));
        assert_eq!(show("#!/usr/bin/env"), plain("/usr/bin/env"));
        assert_eq!(show("#!\n/bin/sh"), None);
        assert_eq!(show(" #!/bin/sh"), None);
        assert_eq!(show(""), None);
    }
}
