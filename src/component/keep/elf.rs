//! What the dynamic loader reads of a program or shared library: headers, interpreter, dynamic section.
//!
//! Limits: 64-bit little-endian ELF (System V gABI, "Object Files" and "Dynamic Linking"); 1,024 program headers,
//! 65,536 dynamic entries, 1,024 needed libraries, strings of 4,096 bytes. Of a file only these parts are read, whatever
//! its size; at most 1.2 MiB are in memory at a time.

use object::elf;

use crate::Arch;
use crate::error::Result;
use crate::rootfs::Content;

const SEGMENT_LIMIT: usize = 1024;
const DYNAMIC_LIMIT: u64 = 65_536 * DYNAMIC_SIZE;
const NEEDED_LIMIT: usize = 1024;
const STRING_LIMIT: usize = 4096;

const HEADER_SIZE: usize = 64;
const SEGMENT_SIZE: usize = 56;
const DYNAMIC_SIZE: u64 = 16;

/// A program or shared library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// `EM_*`.
    pub machine: elf::Machine,
    /// Whether it is 64-bit and little-endian; of others only `machine` is known.
    pub readable: bool,
    /// The program that loads it.
    pub interpreter: Option<Vec<u8>>,
    /// Whether it has a dynamic section.
    pub dynamic: bool,
    /// Libraries that it needs.
    pub needed: Vec<Vec<u8>>,
    /// The name that others need it by.
    pub soname: Option<Vec<u8>>,
    /// `DT_RPATH`.
    pub rpath: Option<Vec<u8>>,
    /// `DT_RUNPATH`.
    pub runpath: Option<Vec<u8>>,
}

/// What a file that starts with ELF's magic number is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A program or shared library.
    Loadable(Elf),
    /// An object file, kernel module or core file: nothing that a loader loads.
    Other,
    /// It contradicts itself, or is beyond the limits.
    Broken(&'static str),
}

impl Elf {
    /// Whether an image of this architecture can run or load it.
    pub fn runs_on(&self, arch: Arch) -> bool {
        let machine = match arch {
            Arch::Amd64 => elf::EM_X86_64,
            Arch::Arm64 => elf::EM_AARCH64,
        };
        self.readable && self.machine == machine
    }
}

struct Segment {
    kind: elf::ProgramType,
    offset: u64,
    address: u64,
    size: u64,
}

/// Reads an ELF file. `None` if it is none. Errors are those of the operating system.
pub(super) fn read(content: &Content) -> Result<Option<Parsed>> {
    let header = part(content, 0, HEADER_SIZE)?;
    if !header.starts_with(&elf::ELFMAG) {
        return Ok(None);
    }
    let broken = |why| Ok(Some(Parsed::Broken(why)));
    let (Some(kind), Some(machine)) = (u16_at(&header, 16), u16_at(&header, 18)) else {
        return broken("it is cut off");
    };
    let readable = header.get(4) == Some(&elf::ELFCLASS64.0) && header.get(5) == Some(&elf::ELFDATA2LSB.0);
    if !readable {
        // e_type and e_machine have the same place in every class.
        let big = header.get(5) == Some(&elf::ELFDATA2MSB.0);
        let (kind, machine) = if big { (kind.swap_bytes(), machine.swap_bytes()) } else { (kind, machine) };
        let elf = Elf { machine: elf::Machine(machine), ..Elf::default() };
        return Ok(Some(if loadable(kind) { Parsed::Loadable(elf) } else { Parsed::Other }));
    }
    if !loadable(kind) {
        return Ok(Some(Parsed::Other));
    }
    let (Some(table), Some(size), Some(count)) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56)) else {
        return broken("it is cut off");
    };
    let count = usize::from(count);
    if count > 0 && usize::from(size) != SEGMENT_SIZE || count > SEGMENT_LIMIT {
        return broken("its program headers have another size or are too many");
    }
    let bytes = part(content, table, count * SEGMENT_SIZE)?;
    if bytes.len() != count * SEGMENT_SIZE {
        return broken("its program headers are cut off");
    }
    let segments: Vec<Segment> = bytes.chunks_exact(SEGMENT_SIZE).filter_map(segment).collect();
    let mut elf = Elf { machine: elf::Machine(machine), readable, ..Elf::default() };
    if let Some(found) = segments.iter().find(|segment| segment.kind == elf::PT_INTERP) {
        match string(content, found.offset, found.size)? {
            Some(name) if !name.is_empty() => elf.interpreter = Some(name),
            _ => return broken("its interpreter's name is cut off"),
        }
    }
    let Some(found) = segments.iter().find(|segment| segment.kind == elf::PT_DYNAMIC) else {
        return Ok(Some(Parsed::Loadable(elf)));
    };
    elf.dynamic = true;
    if found.size > DYNAMIC_LIMIT {
        return broken("its dynamic section is too large");
    }
    let dynamic = part(content, found.offset, found.size as usize)?;
    if dynamic.len() as u64 != found.size {
        return broken("its dynamic section is cut off");
    }
    Ok(Some(match names(content, &dynamic, &segments, &mut elf)? {
        Some(why) => Parsed::Broken(why),
        None => Parsed::Loadable(elf),
    }))
}

/// Reads the names of a dynamic section into `elf`, or says why it cannot be read.
fn names(content: &Content, dynamic: &[u8], segments: &[Segment], elf: &mut Elf) -> Result<Option<&'static str>> {
    let entries = || {
        let pairs = dynamic.chunks_exact(DYNAMIC_SIZE as usize);
        let pairs = pairs.map_while(|entry| Some((elf::DynamicTag(u64_at(entry, 0)? as i64), u64_at(entry, 8)?)));
        pairs.take_while(|(tag, _)| *tag != elf::DT_NULL)
    };
    let value = |wanted| entries().find(|(tag, _)| *tag == wanted).map(|(_, value)| value);
    let table = value(elf::DT_STRTAB).zip(value(elf::DT_STRSZ));
    for (tag, value) in entries() {
        if !matches!(tag, elf::DT_NEEDED | elf::DT_SONAME | elf::DT_RPATH | elf::DT_RUNPATH) {
            continue;
        }
        let Some((table, size)) = table else { return Ok(Some("it has names and no table of them")) };
        let place = segments.iter().filter(|segment| segment.kind == elf::PT_LOAD).find_map(|segment| {
            let into = table.checked_sub(segment.address).filter(|into| *into < segment.size)?;
            segment.offset.checked_add(into)?.checked_add(value)
        });
        let left = size.checked_sub(value);
        let name = match (place, left) {
            (Some(place), Some(left)) => string(content, place, left)?,
            _ => None,
        };
        let Some(name) = name else { return Ok(Some("a name of its dynamic section is cut off or too long")) };
        match tag {
            elf::DT_NEEDED if elf.needed.len() == NEEDED_LIMIT => return Ok(Some("it needs too many libraries")),
            elf::DT_NEEDED => elf.needed.push(name),
            elf::DT_SONAME => elf.soname = Some(name),
            elf::DT_RPATH => elf.rpath = Some(name),
            _ => elf.runpath = Some(name),
        }
    }
    Ok(None)
}

fn loadable(kind: u16) -> bool {
    matches!(elf::FileType(kind), elf::ET_EXEC | elf::ET_DYN)
}

fn segment(bytes: &[u8]) -> Option<Segment> {
    Some(Segment {
        kind: elf::ProgramType(u32_at(bytes, 0)?),
        offset: u64_at(bytes, 8)?,
        address: u64_at(bytes, 16)?,
        size: u64_at(bytes, 32)?,
    })
}

/// At most `size` bytes of the content.
fn part(content: &Content, offset: u64, size: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let count = content.read_at(offset, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// The text that ends with a NUL in at most `size` bytes. `None` if none does within the limit.
fn string(content: &Content, offset: u64, size: u64) -> Result<Option<Vec<u8>>> {
    let size = usize::try_from(size).unwrap_or(usize::MAX).min(STRING_LIMIT);
    let mut bytes = part(content, offset, size)?;
    let end = bytes.iter().position(|byte| *byte == 0);
    Ok(end.map(|end| {
        bytes.truncate(end);
        bytes
    }))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A program as a linker writes it: header, four segments, a dynamic section, its strings.
    pub fn program(arch: Arch, elf: &Elf) -> Vec<u8> {
        const BASE: u64 = 0x40_0000;
        let mut strings = vec![0];
        let mut dynamic = Vec::new();
        let mut add = |tag: elf::DynamicTag, name: &[u8]| {
            dynamic.extend([tag.0 as u64, strings.len() as u64]);
            strings.extend(name);
            strings.push(0);
        };
        elf.needed.iter().for_each(|name| add(elf::DT_NEEDED, name));
        elf.soname.iter().for_each(|name| add(elf::DT_SONAME, name));
        elf.rpath.iter().for_each(|name| add(elf::DT_RPATH, name));
        elf.runpath.iter().for_each(|name| add(elf::DT_RUNPATH, name));
        let interpreter = elf.interpreter.as_ref().map(|name| [name.as_slice(), b"\0"].concat()).unwrap_or_default();
        let at_interpreter = (HEADER_SIZE + 3 * SEGMENT_SIZE) as u64;
        let at_strings = at_interpreter + interpreter.len() as u64;
        let at_dynamic = at_strings + strings.len() as u64;
        dynamic.extend([elf::DT_STRTAB.0 as u64, BASE + at_strings]);
        dynamic.extend([elf::DT_STRSZ.0 as u64, strings.len() as u64, 0, 0]);
        let size = at_dynamic + dynamic.len() as u64 * 8;
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(16, 0);
        let machine = if arch == Arch::Amd64 { elf::EM_X86_64 } else { elf::EM_AARCH64 };
        let kind = if elf.interpreter.is_some() { elf::ET_EXEC } else { elf::ET_DYN };
        out.extend([kind.0, machine.0, 1, 0].map(u16::to_le_bytes).concat());
        out.extend([0, HEADER_SIZE as u64, 0].map(u64::to_le_bytes).concat());
        out.extend([0, 0, 64, 56, 3, 0, 0, 0].map(u16::to_le_bytes).concat());
        let interpreter_kind = if elf.interpreter.is_some() { elf::PT_INTERP } else { elf::PT_NOTE };
        let dynamic_kind = if elf.dynamic { elf::PT_DYNAMIC } else { elf::PT_NOTE };
        for (kind, offset, size) in [
            (elf::PT_LOAD, 0, size),
            (interpreter_kind, at_interpreter, interpreter.len() as u64),
            (dynamic_kind, at_dynamic, dynamic.len() as u64 * 8),
        ] {
            out.extend(kind.0.to_le_bytes());
            out.extend([0; 4]);
            out.extend([offset, BASE + offset, 0, size, size, 8].map(u64::to_le_bytes).concat());
        }
        out.extend(interpreter);
        out.extend(strings);
        out.extend(dynamic.into_iter().flat_map(u64::to_le_bytes));
        out
    }

    fn example() -> Elf {
        Elf {
            machine: elf::EM_X86_64,
            readable: true,
            interpreter: Some(b"/lib64/ld-linux-x86-64.so.2".to_vec()),
            dynamic: true,
            needed: vec![b"libc.so.6".to_vec(), b"libm.so.6".to_vec()],
            soname: Some(b"me".to_vec()),
            rpath: Some(b"$ORIGIN/a:/b".to_vec()),
            runpath: Some(b"${ORIGIN}".to_vec()),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Parsed> {
        read(&Content::bytes(bytes)).unwrap()
    }

    #[test]
    fn a_program_is_read() {
        let example = example();
        let bytes = program(Arch::Amd64, &example);
        assert_eq!(parse(&bytes), Some(Parsed::Loadable(example.clone())));
        assert!(example.runs_on(Arch::Amd64) && !example.runs_on(Arch::Arm64));
        assert_eq!(parse(b"#!/bin/sh\n"), None);
        assert_eq!(parse(b""), None);
        let mut object = bytes.clone();
        object[16] = 1;
        assert_eq!(parse(&object), Some(Parsed::Other));
        let mut small = bytes.clone();
        (small[4], small[18]) = (1, 3);
        match parse(&small) {
            Some(Parsed::Loadable(elf)) => assert!(elf.machine == elf::EM_386 && !elf.runs_on(Arch::Amd64)),
            other => panic!("{other:?}"),
        }
        // Every cut is noticed, but for the last, empty entry.
        for length in 4..bytes.len() - 16 {
            assert!(matches!(parse(&bytes[..length]), Some(Parsed::Broken(_))), "{length}");
        }
    }

    #[test]
    fn the_machines_own_programs_are_read() {
        let path = std::env::current_exe().unwrap();
        let Some(Parsed::Loadable(elf)) = read(&Content::host_file(&path).unwrap()).unwrap() else { panic!() };
        assert!(elf.needed.iter().any(|name| name.starts_with(b"libc.so")), "{elf:?}");
        assert!(elf.interpreter.is_some());
        assert!(Arch::host().is_none_or(|arch| elf.runs_on(arch)));
    }

    proptest! {
        #[test]
        fn wrong_bytes_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            huge in any::<prop::sample::Index>(),
            make_huge: bool,
        ) {
            let mut bytes = program(Arch::Amd64, &example());
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if make_huge {
                let at = huge.index(bytes.len() - 8) & !7;
                bytes[at..at + 8].copy_from_slice(&[0xff; 8]);
            }
            if let Some(Parsed::Loadable(elf)) = parse(&bytes) {
                prop_assert!(elf.needed.iter().all(|name| name.len() < STRING_LIMIT));
            }
        }
    }
}
