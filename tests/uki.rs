//! Unified kernel images, judged by binutils and systemd-measure.
#![allow(clippy::unwrap_used)]

#[path = "formats/judge.rs"]
mod judge;

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use judge::{bytes, judge, noise, pinned, write};
use moby::formats::pe;
use moby::formats::uki::{Section, Uki, measure, phases};

/// Debian's stubs, where the machine has the package systemd-boot-efi.
const STUBS: [&str; 2] =
    ["/usr/lib/systemd/boot/efi/linuxx64.efi.stub", "/usr/lib/systemd/boot/efi/linuxaa64.efi.stub"];

fn debian_stubs() -> Vec<Vec<u8>> {
    let found: Vec<_> = STUBS.iter().filter_map(|path| std::fs::read(path).ok()).collect();
    assert!(!found.is_empty() || std::env::var("CI").as_deref() != Ok("true"), "systemd-boot-efi is not installed");
    found
}

/// An executable of one section, with room for `room` more headers in its 512 bytes.
fn small_stub() -> Vec<u8> {
    let mut out = vec![0; 0x600];
    out[..2].copy_from_slice(b"MZ");
    out[0x3c] = 0x40;
    out[0x40..0x44].copy_from_slice(b"PE\0\0");
    out[0x44..0x48].copy_from_slice(&[0x64, 0x86, 2, 0]);
    out[0x48] = 99; // a time
    out[0x54..0x58].copy_from_slice(&[0xf0, 0, 6, 2]);
    let mut put = |at: usize, number: u32| out[0x58 + at..0x58 + at + 4].copy_from_slice(&number.to_le_bytes());
    put(0, 0x20b);
    put(32, 512); // section alignment
    put(36, 512); // file alignment
    put(56, 0x3000);
    put(60, 0x200);
    put(64, 0xdead_beef); // a checksum
    put(108, 16);
    for (index, (name, address)) in [(".text", 0x1000u32), (".sdmagic", 0x2000)].into_iter().enumerate() {
        let section = pe::Section {
            name: name.into(),
            virtual_size: 0x100,
            virtual_address: address,
            raw_size: 0x200,
            raw_offset: 0x200 + 0x200 * index as u32,
            characteristics: 0x6000_0020,
        };
        out[0x148 + 40 * index..0x170 + 40 * index].copy_from_slice(&section.encode());
    }
    out[0x200..0x400].copy_from_slice(&noise(1, 0x200));
    let magic = b"#### LoaderInfo: systemd-stub 252.39-1 ####";
    out[0x400..0x400 + magic.len()].copy_from_slice(magic);
    out.extend(b"symbols that are cut off");
    out
}

fn contents() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (".osrel", b"ID=moby\n".to_vec()),
        (".cmdline", b"console=ttyS0".to_vec()),
        (".uname", b"6.1.0-test".to_vec()),
        (".splash", noise(5, 3000)),
        (".ucode", noise(6, 513)),
        (".dtb", noise(7, 4097)),
        (".pcrpkey", noise(8, 451)),
        (".linux", noise(9, 200_001)),
        (".initrd", noise(10, 100_000)),
    ]
}

fn image(stub: &[u8]) -> Uki {
    let sections = contents().into_iter().map(|(name, bytes)| Section::new(name, Arc::new(bytes))).collect();
    Uki::new(stub, sections).unwrap()
}

#[test]
fn sections_read_back() {
    for stub in debian_stubs().iter().chain([&small_stub()]) {
        let mut image = Cursor::new(bytes(&image(stub)));
        let headers = pe::read(&mut image).unwrap();
        for (name, expected) in contents() {
            let section = pe::section(&headers, name).unwrap();
            assert_eq!(section.virtual_address % 4096, 0, "{name}");
            let mut read = Vec::new();
            pe::content(&mut image, section).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == expected, "{name}");
        }
        assert_eq!(headers.sections.last().unwrap().name, b".linux");
        let own = pe::read(&mut Cursor::new(stub)).unwrap();
        for section in &own.sections {
            let moved = headers.sections.iter().find(|other| other.name == section.name).unwrap();
            assert_eq!(moved.virtual_address, section.virtual_address);
            let (old, new) = (section.raw_offset as usize, moved.raw_offset as usize);
            let size = section.size() as usize;
            assert!(image.get_ref()[new..new + size] == stub[old..old + size], "{}", section.name.escape_ascii());
        }
    }
}

#[test]
fn objdump_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uki.efi");
    for stub in debian_stubs() {
        let uki = image(&stub);
        write(&uki, &path);
        if uki.machine() != pe::MACHINE_AMD64 {
            continue; // binutils of the other architecture
        }
        let Some(text) = judge("objdump", ["-h".as_ref(), path.as_os_str()]) else { return };
        for (name, expected) in contents() {
            assert!(text.contains(&format!("{name:<13} {:08x}", expected.len())), "{name}: {text}");
        }
        let out = dir.path().join("section");
        let arguments = ["-O", "binary", "--only-section=.initrd", path.to_str().unwrap(), out.to_str().unwrap()];
        judge("objcopy", arguments);
        assert!(std::fs::read(&out).unwrap() == noise(10, 100_000));
        let text = judge("objdump", ["-p".as_ref(), path.as_os_str()]).unwrap_or_default();
        assert!(text.contains("Thu Jan  1 00:00:00 1970"), "{text}");
    }
}

/// sbverify computes the checksum of what it reads and warns if it differs.
#[test]
fn the_checksum_is_right() {
    for stub in debian_stubs() {
        let (own, stored) = {
            let headers = pe::read(&mut Cursor::new(&stub)).unwrap();
            let mut sum = pe::Checksum::new(headers.checksum());
            std::io::Write::write_all(&mut sum, &stub).unwrap();
            (sum.finish(), pe::u32_at(&stub, headers.checksum()).unwrap())
        };
        // binutils wrote the stub's own.
        if stored != 0 {
            assert_eq!(own, stored);
        }
        let image = bytes(&image(&stub));
        let headers = pe::read(&mut Cursor::new(&image)).unwrap();
        let mut sum = pe::Checksum::new(headers.checksum());
        std::io::Write::write_all(&mut sum, &image).unwrap();
        assert_eq!(pe::u32_at(&image, headers.checksum()), Some(sum.finish()));
    }
}

#[test]
fn pinned_bytes() {
    let image = bytes(&image(&small_stub()));
    let headers = pe::read(&mut Cursor::new(&image)).unwrap();
    pinned("uki", "small", &image, &pe::dump(&headers));
}

#[test]
fn pcr_11_as_systemd_measure_predicts_it() {
    let program = ["/usr/lib/systemd/systemd-measure", "/lib/systemd/systemd-measure"];
    let Some(program) = program.iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: systemd-measure is not installed");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sections: Vec<_> = contents().into_iter().filter(|(name, _)| !matches!(*name, ".uname" | ".ucode")).collect();
    let mut arguments = vec!["calculate".to_owned(), "--bank=sha256".into()];
    for (name, bytes) in &sections {
        let path = dir.path().join(&name[1..]);
        std::fs::write(&path, bytes).unwrap();
        arguments.push(format!("--{}={}", &name[1..], path.display()));
    }
    let sections = sections.into_iter().map(|(name, bytes)| Section::new(name, Arc::new(bytes))).collect();
    // The small stub is one of systemd 252 by its own account, and has no .sbat, like what systemd-measure is given.
    let measured = measure(&Uki::new(&small_stub(), sections).unwrap()).unwrap();
    assert_eq!(measured.stub_version, 252);
    let output = std::process::Command::new(program).args(&arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for count in 1..=4 {
        let expected = measured.after(&phases()[..count]);
        assert!(text.contains(&expected.hex()), "{count} phases: {} is not in\n{text}", expected.hex());
    }
}

#[test]
fn what_cannot_be_an_image_is_refused() {
    let refused = |stub: &[u8], names: &[&str]| {
        let sections = names.iter().map(|name| Section::new(name, Arc::new(vec![1u8]))).collect();
        Uki::new(stub, sections).unwrap_err().message().to_owned()
    };
    let stub = small_stub();
    assert_eq!(refused(&stub, &[".a", ".a"]), "the kernel image would have two sections .a");
    assert_eq!(refused(&stub, &[".text"]), "the kernel image would have two sections .text");
    assert_eq!(refused(b"text", &[]), "the EFI stub: this is no EFI executable: it has no \"MZ\" at its start");
    let mut far = stub.clone();
    far[0x3c..0x40].fill(0xff);
    assert!(refused(&far, &[]).contains("no \"PE\" signature"));
    let mut outside = stub.clone();
    outside[0x148 + 20..0x148 + 24].fill(0xff);
    assert!(refused(&outside, &[]).contains("ends at byte"));
    let mut signed = stub.clone();
    signed[0x58 + 112 + 36] = 8;
    assert!(refused(&signed, &[]).contains("is signed"));
    let many: Vec<String> = (0..95).map(|number| format!(".s{number}")).collect();
    assert!(refused(&stub, &many.iter().map(String::as_str).collect::<Vec<_>>()).contains("1 to 96 in all"));
    let empty = Uki::new(&stub, vec![Section::new(".linux", Arc::new(vec![]))]).unwrap_err();
    assert_eq!(empty.message(), "the section .linux would be empty");
}

static SMALL: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(small_stub);

proptest::proptest! {
    #[test]
    fn no_stub_makes_it_panic(changes: Vec<(u16, u8)>, cut in 0usize..0x600) {
        let mut stub = SMALL.clone();
        for (at, byte) in changes {
            stub[usize::from(at) % 0x200] = byte;
        }
        for stub in [&stub[..], &stub[..cut]] {
            if let Ok(uki) = Uki::new(stub, vec![Section::new(".linux", Arc::new(vec![1u8]))]) {
                let _ = measure(&uki);
            }
        }
    }
}
