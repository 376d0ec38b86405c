//! SYSLINUX on FAT volumes, judged by its own installer.
#![allow(clippy::unwrap_used)]

#[path = "formats/judge.rs"]
mod judge;

use std::io::{Cursor, Read};
use std::sync::Arc;

use judge::{bytes, noise, verdict, write};
use moby::formats::fat::{Fat, File, Kind, Options, Volume};
use moby::formats::source::Source;
use moby::formats::syslinux::{Template, files, install, patched};

fn template() -> Option<Template> {
    let program = std::fs::read("/usr/bin/syslinux").ok();
    if program.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "syslinux is not installed");
        eprintln!("skipped: syslinux is not installed");
    }
    Some(Template::from_program(&program?).unwrap())
}

fn boot_files() -> Vec<File> {
    let file = |path: &str, bytes: Vec<u8>| File { path: path.into(), content: Some(Arc::new(bytes)) };
    vec![file("syslinux.cfg", b"DEFAULT kernel\n".to_vec()), file("kernel", noise(1, 3_000_000))]
}

#[test]
fn the_same_bytes_as_the_installer() {
    let Some(template) = template() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume.img");
    for kind in [Kind::Fat16, Kind::Fat32] {
        let fat = Fat::new(&boot_files(), &Options { kind: Some(kind), free: 1 << 20, ..Options::default() }).unwrap();
        write(&fat, &path);
        if verdict("mcopy", ["-V"]).is_none() {
            return;
        }
        let Some((success, text)) = verdict("syslinux", ["--install".as_ref(), path.as_os_str()]) else { return };
        assert!(success, "{text}");
        let image = std::fs::read(&path).unwrap();
        let mut volume = Volume::open(Cursor::new(&image), 0, image.len() as u64).unwrap();
        let theirs = volume.find("ldlinux.sys").unwrap().unwrap();
        let first = volume.first_sector(&theirs);
        let mut installed = Vec::new();
        volume.read_file(&theirs).read_to_end(&mut installed).unwrap();
        let (boot_sector, loader) = patched(&template, first..first + installed.len() as u64 / 512).unwrap();
        assert!(loader == installed, "{kind:?}");
        // Everything of the boot sector but the volume's parameters.
        assert_eq!(boot_sector[..11].escape_ascii().to_string(), image[..11].escape_ascii().to_string());
        assert!(boot_sector[0x5a..] == image[0x5a..512], "{kind:?}");
        let module = volume.find("ldlinux.c32").unwrap().unwrap();
        let mut installed = Vec::new();
        volume.read_file(&module).read_to_end(&mut installed).unwrap();
        assert!(template.module == installed);
    }
}

#[test]
fn installed_volumes_are_whole() {
    let Some(template) = template() else { return };
    let mut all = boot_files();
    all.extend(files(&template));
    let mut fat = Fat::new(&all, &Options::default()).unwrap();
    let plain = fat.identity();
    install(&template, &mut fat).unwrap();
    assert_ne!(fat.identity(), plain);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume.img");
    write(&fat, &path);
    if let Some((success, text)) = verdict("fsck.fat", ["-n".as_ref(), path.as_os_str()]) {
        assert!(success, "{text}");
    }
    let image = bytes(&fat);
    assert_eq!(&image[..11], b"\xeb\x58\x90SYSLINUX");
    let place = fat.sectors_of("ldlinux.sys").unwrap();
    let (_, loader) = patched(&template, place.clone()).unwrap();
    assert!(image[place.start as usize * 512..][..loader.len()] == loader);
}

#[test]
fn other_programs_are_refused() {
    for program in [&b""[..], b"\x7fELF", b"\xeb\x58\x90SYSLINUX\0", &[0; 100_000]] {
        let error = Template::from_program(program).unwrap_err();
        assert!(error.message().starts_with("SYSLINUX was not found"), "{error}");
    }
    let Ok(program) = std::fs::read("/usr/bin/syslinux") else { return };
    for cut in (0..program.len()).step_by(997) {
        let _ = Template::from_program(&program[..cut]);
    }
    let template = Template::from_program(&program).unwrap();
    for at in (0..template.loader.len()).step_by(101).chain(0x18..0x40) {
        let mut damaged = template.clone();
        damaged.loader[at] ^= 0xff;
        damaged.loader[0x2f] ^= (at % 256) as u8;
        let _ = patched(&damaged, 100..100 + 116);
    }
}
