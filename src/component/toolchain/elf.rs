//! Checks that a program is what a guest can run: for its architecture, and static.

use std::fs::File;
use std::path::Path;

use object::elf;
use object::read::ReadCache;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::Arch;
use crate::error::{Error, IoContext, Result};

type Header = elf::FileHeader64<object::Endianness>;

/// Refuses a program that is not a static 64-bit little-endian ELF executable (position-independent or not) for `arch`.
pub(super) fn check_static(path: &Path, arch: Arch) -> Result<()> {
    let file = File::open(path).at("opening", path)?;
    let failed = |why: String| Error::failed(format!("the program {} {why}", path.display()));
    let broken = |error: object::Error| failed(format!("is not an ELF program that can be read: {error}"));
    let data = &ReadCache::new(file);
    let header = Header::parse(data).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    let machine = match arch {
        Arch::Amd64 => elf::EM_X86_64,
        Arch::Arm64 => elf::EM_AARCH64,
    };
    let found = header.e_machine(endian);
    if found != machine || endian != object::Endianness::Little {
        return Err(failed(format!("is for another machine: expected ELF machine {machine} ({arch}), found {found}")));
    }
    if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
        return Err(failed("is an ELF file, but not an executable".into()));
    }
    for segment in header.program_headers(endian, data).map_err(broken)? {
        if segment.p_type(endian) == elf::PT_INTERP {
            return Err(failed("is not static: it names a program interpreter".into()).hint(STATIC));
        }
        for entry in segment.dynamic(endian, data).map_err(broken)?.unwrap_or_default() {
            if entry.tag(endian) == elf::DT_NEEDED {
                return Err(failed("is not static: it needs shared libraries".into()).hint(STATIC));
            }
        }
    }
    Ok(())
}

const STATIC: &str =
    "a dependency with a build script may ask for a shared library; guest programs must be linked statically";

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and one program header, little-endian, both 64-bit (ELF-64 object file format 1.5).
    fn program(machine: u16, kind: u16, segment: u32) -> Vec<u8> {
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(16, 0);
        out.extend(kind.to_le_bytes());
        out.extend(machine.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        out.extend(0_u64.to_le_bytes());
        out.extend(64_u64.to_le_bytes());
        out.extend(0_u64.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 1, 64, 0, 0] {
            out.extend(half.to_le_bytes());
        }
        out.extend(segment.to_le_bytes());
        out.resize(120, 0);
        out
    }

    fn check(bytes: &[u8], arch: Arch) -> std::result::Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, bytes).unwrap();
        check_static(&path, arch).map_err(|error| error.message().to_string())
    }

    #[test]
    fn only_static_programs_of_the_architecture_pass() {
        check(&program(62, 2, 1), Arch::Amd64).unwrap();
        check(&program(183, 3, 2), Arch::Arm64).unwrap();
        assert!(check(&program(62, 2, 1), Arch::Arm64).unwrap_err().contains("another machine"));
        assert!(check(&program(62, 1, 1), Arch::Amd64).unwrap_err().contains("not an executable"));
        assert!(check(&program(62, 3, 3), Arch::Amd64).unwrap_err().contains("interpreter"));
        let mut needs = program(62, 3, 2);
        needs[72..80].copy_from_slice(&120_u64.to_le_bytes());
        needs[96..104].copy_from_slice(&32_u64.to_le_bytes());
        needs.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        needs.resize(152, 0);
        assert!(check(&needs, Arch::Amd64).unwrap_err().contains("shared libraries"));
        for length in 0..needs.len() {
            let _ = check(&needs[..length], Arch::Amd64);
        }
        assert!(check(b"#!/bin/sh\n", Arch::Amd64).is_err());
    }
}
