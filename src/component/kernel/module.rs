//! What is read of one kernel module: its `.modinfo` and its symbol table (ELF-64 object file format 1.5; Linux,
//! include/linux/module.h and include/linux/export-internal.h).

use object::LittleEndian as LE;
use object::elf::{EM_AARCH64, EM_X86_64, ET_REL, FileHeader64, SHN_UNDEF, SHT_SYMTAB};
use object::read::elf::{FileHeader, SectionHeader, Sym};

use crate::Arch;

/// More symbols than this in one module is damage: the largest of Debian (amdgpu) has 60,000.
const SYMBOL_LIMIT: usize = 1 << 20;

/// What a module says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `.modinfo`: key and value in the module's order.
    pub info: Vec<(Vec<u8>, Vec<u8>)>,
    /// Symbols that other modules may use.
    pub exports: Vec<Vec<u8>>,
    /// Symbols that it takes from the kernel or from other modules, in the order of the symbol table.
    pub needs: Vec<Vec<u8>>,
}

/// Reads a module, not compressed. The error says what is wrong with it.
pub fn read(bytes: &[u8], arch: Arch) -> Result<Facts, String> {
    let broken = |error: object::Error| format!("is not a kernel module that can be read: {error}");
    let header = FileHeader64::<LE>::parse(bytes).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    let machine = match arch {
        Arch::Amd64 => EM_X86_64,
        Arch::Arm64 => EM_AARCH64,
    };
    let found = header.e_machine(endian);
    if found != machine {
        return Err(format!("is for another machine: expected ELF machine {machine} ({arch}), found {found}"));
    }
    if header.e_type(endian) != ET_REL {
        return Err("is an ELF file, but not a relocatable one, as modules are".into());
    }
    let sections = header.sections(endian, bytes).map_err(broken)?;
    let mut facts = Facts::default();
    if let Some((_, section)) = sections.section_by_name(endian, b".modinfo") {
        facts.info = parse_info(section.data(endian, bytes).map_err(broken)?);
    }
    let symbols = sections.symbols(endian, bytes, SHT_SYMTAB).map_err(broken)?;
    if symbols.len() > SYMBOL_LIMIT {
        return Err(format!("has {} symbols, more than {SYMBOL_LIMIT}", symbols.len()));
    }
    // Every exported symbol has an entry of the table that the kernel reads, `__ksymtab_NAME`; with versions of
    // symbols it also has `__crc_NAME`, which depmod goes by. The names are the same.
    let mut with_checksum = Vec::new();
    for symbol in symbols.iter().skip(1) {
        let name = symbol.name(endian, symbols.strings()).map_err(broken)?;
        if let Some(name) = name.strip_prefix(b"__crc_") {
            with_checksum.push(name.to_vec());
        } else if symbol.st_shndx(endian) == SHN_UNDEF {
            if !name.is_empty() {
                facts.needs.push(name.to_vec());
            }
        } else if let Some(name) = name.strip_prefix(b"__ksymtab_") {
            facts.exports.push(name.to_vec());
        }
    }
    if !with_checksum.is_empty() {
        facts.exports = with_checksum;
    }
    Ok(facts)
}

/// `KEY=VALUE` texts, each with a closing zero byte. What has no `=` is passed over, as kmod does.
pub fn parse_info(section: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let texts = section.split(|byte| *byte == 0);
    let pairs = texts.filter_map(|text| {
        let at = text.iter().position(|byte| *byte == b'=')?;
        Some((text.get(..at)?.to_vec(), text.get(at + 1..)?.to_vec()))
    });
    pairs.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A symbol of a test module.
    pub enum S<'a> {
        /// One that it needs.
        Needs(&'a str),
        /// One that it defines.
        Has(&'a str),
    }

    /// A relocatable ELF file with `.modinfo` and a symbol table.
    pub fn module(machine: u16, info: &[&str], symbols: &[S<'_>]) -> Vec<u8> {
        let info: Vec<u8> = info.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect();
        let (mut strings, mut table) = (vec![0], vec![0; 24]);
        for symbol in symbols {
            let (name, section) = match symbol {
                S::Needs(name) => (name, 0_u16),
                S::Has(name) => (name, 1),
            };
            table.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
            table.extend([0x10, 0]);
            table.extend(section.to_le_bytes());
            table.extend([0; 16]);
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        let names = b"\0.modinfo\0.symtab\0.strtab\0.shstrtab\0".to_vec();
        // Name in `names`, type, link, size of an entry.
        let parts: [(u32, u32, u32, u64, &[u8]); 4] =
            [(1, 1, 0, 0, &info), (10, 2, 3, 24, &table), (18, 3, 0, 0, &strings), (26, 3, 0, 0, &names)];
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(64, 0);
        let mut headers = vec![0; 64];
        for (name, kind, link, entry, bytes) in parts {
            out.resize(out.len().next_multiple_of(8), 0);
            headers.extend(name.to_le_bytes());
            headers.extend(kind.to_le_bytes());
            headers.extend([0; 16]);
            headers.extend((out.len() as u64).to_le_bytes());
            headers.extend((bytes.len() as u64).to_le_bytes());
            headers.extend(link.to_le_bytes());
            headers.extend([0; 4]);
            headers.extend(8_u64.to_le_bytes());
            headers.extend(entry.to_le_bytes());
            out.extend(bytes);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let table = (out.len() as u64).to_le_bytes();
        out.extend(headers);
        out[16..18].copy_from_slice(&1_u16.to_le_bytes());
        out[18..20].copy_from_slice(&machine.to_le_bytes());
        out[20..24].copy_from_slice(&1_u32.to_le_bytes());
        out[40..48].copy_from_slice(&table);
        out[52..54].copy_from_slice(&64_u16.to_le_bytes());
        out[58..60].copy_from_slice(&64_u16.to_le_bytes());
        out[60..62].copy_from_slice(&5_u16.to_le_bytes());
        out[62..64].copy_from_slice(&4_u16.to_le_bytes());
        out
    }

    fn strings(list: &[Vec<u8>]) -> Vec<&str> {
        list.iter().map(|text| std::str::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn symbols_and_info() {
        let symbols = [S::Has("init_module"), S::Needs("b"), S::Has("__ksymtab_x"), S::Needs("a"), S::Needs("")];
        let bytes = module(62, &["alias=fs-x", "nonsense", "depends=", "alias=a=b"], &symbols);
        let facts = read(&bytes, Arch::Amd64).unwrap();
        assert_eq!(strings(&facts.needs), ["b", "a"]);
        assert_eq!(strings(&facts.exports), ["x"]);
        let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(facts.info, [pair("alias", "fs-x"), pair("depends", ""), pair("alias", "a=b")]);
        let versions = module(183, &[], &[S::Has("__ksymtab_x"), S::Has("__crc_x"), S::Needs("__crc_y")]);
        assert_eq!(strings(&read(&versions, Arch::Arm64).unwrap().exports), ["x", "y"]);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        let good = module(62, &["a=b"], &[S::Needs("a")]);
        assert!(read(&good, Arch::Arm64).unwrap_err().contains("another machine"));
        let mut executable = good.clone();
        executable[16] = 2;
        assert!(read(&executable, Arch::Amd64).unwrap_err().contains("not a relocatable"));
        for length in 0..good.len() {
            assert!(read(&good[..length], Arch::Amd64).is_err(), "cut at {length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(at in 0usize..1000, byte: u8) {
            let mut bytes = module(62, &["alias=x", "depends=a,b"], &[S::Needs("a"), S::Has("__ksymtab_b")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&bytes, Arch::Amd64);
        }
    }
}
