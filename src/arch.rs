//! The processor architectures that images are built for, and what each naming scheme calls them.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A target architecture. Always an argument; the host's own is only the default of `--arch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit x86.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// Every architecture, in the order that lists show them.
    pub const ALL: [Arch; 2] = [Arch::Amd64, Arch::Arm64];

    /// The architecture of the machine that this program was compiled for, if it is one that images can have.
    pub fn host() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::Amd64),
            "aarch64" => Some(Arch::Arm64),
            _ => None,
        }
    }

    /// The name in OCI images, Debian packages and Go: `amd64`, `arm64`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// The name that the kernel, GNU triplets and QEMU use: `x86_64`, `aarch64`.
    pub fn kernel_name(self) -> &'static str {
        match self {
            Arch::Amd64 => "x86_64",
            Arch::Arm64 => "aarch64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Arch, Error> {
        Arch::ALL.into_iter().find(|arch| arch.name() == text || arch.kernel_name() == text).ok_or_else(|| {
            Error::usage(format!("unknown architecture \"{text}\"")).hint("architectures are amd64 and arm64")
        })
    }
}
