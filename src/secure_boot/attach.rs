//! Signatures into an image that is there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::programs::{Image, Program};
use super::requests::Requests;
use super::signing::Signing;
use crate::error::{Context, Error, IoContext, Result};
use crate::formats::authenticode::{Signed, Unsigned};
use crate::formats::fat;
use crate::formats::pe;
use crate::formats::source::Source;
use crate::outputs::OutputFile;

/// Bytes copied at once, and the unit in which zeros stay holes.
const BLOCK: usize = 64 << 10;

/// A program that got its signature.
#[derive(Debug)]
struct Done {
    program: Program,
    signed: Signed,
}

/// Puts signatures that were made elsewhere into an image that was prepared for them, and returns the paths of the
/// programs. The image becomes `to`; nothing is written before all signatures are found right.
pub fn attach(image: &Path, requests: Requests, to: &Path) -> Result<Vec<String>> {
    let opened = writable(image)?;
    let folder = requests.folder().to_owned();
    let signing = Signing::with_signatures(&folder)?;
    let mut done = Vec::new();
    for program in opened.programs()? {
        let name = format!("{}: {}", image.display(), program.name());
        let wanted = requests.requests().iter().filter(|request| request.size < program.size);
        let mut found = None;
        for request in wanted {
            let unsigned = Unsigned::new(Arc::new(opened.part(&program, request.size)?)).context(&name)?;
            if unsigned.digest() == request.digest {
                found = Some(unsigned);
                break;
            }
        }
        let Some(unsigned) = found else {
            return Err(Error::refused(format!(
                "{name} is not a program that {} was prepared for, or was altered",
                folder.display()
            ))
            .hint("build with --sign-prepare again, or give the folder that this build wrote"));
        };
        if unsigned.signed_size(signing.certificate()) != program.size
            || !zeros_behind(&opened, &program, unsigned.size())?
        {
            return Err(Error::refused(format!("{name} has no room for a signature of this certificate"))
                .hint("it is signed already, or was prepared for another certificate"));
        }
        let message = signing.message(unsigned.digest()).context(&name)?;
        done.push(Done { program, signed: unsigned.attach_for(signing.certificate(), &message)? });
    }
    rewrite(&opened, to, |file| {
        for Done { program, signed } in &done {
            patch(file, to, program.offset, signed)?;
        }
        Ok(())
    })?;
    Ok(done.iter().map(|done| done.program.name().to_owned()).collect())
}

/// Signs the programs of an image, or an EFI program. Those without room for a signature get it: a program by itself
/// grows, and one in an image takes free clusters behind it.
pub fn sign(image: &Path, signing: &Signing, to: &Path) -> Result<Vec<String>> {
    let opened = writable(image)?;
    let mut done = Vec::new();
    for program in opened.programs()? {
        let name = format!("{}: {}", image.display(), program.name());
        let size = unsigned_size(&opened, &program, signing).context(&name)?;
        let unsigned = Unsigned::new(Arc::new(opened.part(&program, size)?)).context(&name)?;
        let message = signing.message(unsigned.digest()).context(&name)?;
        done.push(Done { signed: unsigned.attach_for(signing.certificate(), &message)?, program });
    }
    rewrite(&opened, to, |file| {
        for Done { program, signed } in &done {
            let size = Source::size(signed);
            if let (Some((start, length)), Some(path)) = (program.partition, &program.path)
                && size > program.size
            {
                let grown = u32::try_from(size).map_err(|_| Error::refused("the program is too large"))?;
                fat::grow(file, (start, length), path, grown).context(to.display())?;
            }
            patch(file, to, program.offset, signed)?;
        }
        Ok(())
    })?;
    Ok(done.iter().map(|done| done.program.name().to_owned()).collect())
}

fn writable(image: &Path) -> Result<Image> {
    let opened = Image::open(image)?;
    if !opened.is_raw() {
        return Err(Error::usage(format!(
            "{} is a disk in a container, in which nothing is changed in place",
            image.display()
        ))
        .hint("build it signed: --sign, or --sign-prepare and, with the signatures there, --sign-attach DIR"));
    }
    Ok(opened)
}

/// Bytes of a program without the room that was left for a signature.
fn unsigned_size(image: &Image, program: &Program, signing: &Signing) -> Result<u64> {
    let whole = image.part(program, program.size)?;
    let mut head = Head(Vec::new());
    whole.write_to(&mut head)?;
    let headers = pe::Headers::decode(&head.0).map_err(|what| Error::refused(format!("cannot be signed: {what}")))?;
    let ends = headers.sections.iter().map(|section| u64::from(section.raw_offset) + u64::from(section.raw_size));
    let end = ends.max().unwrap_or(0).max(u64::from(headers.size_of_headers));
    if end < program.size {
        let unsigned = Unsigned::new(Arc::new(image.part(program, end)?))?;
        if unsigned.signed_size(signing.certificate()) == program.size && zeros_behind(image, program, end)? {
            return Ok(end);
        }
    }
    Ok(program.size)
}

/// The first bytes of what is written to it.
struct Head(Vec<u8>);

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (pe::HEADERS_LIMIT as usize).saturating_sub(self.0.len());
        self.0.extend(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn zeros_behind(image: &Image, program: &Program, size: u64) -> Result<bool> {
    let mut reader = image.reader();
    reader.seek(SeekFrom::Start(program.offset + size)).at("reading", image.path())?;
    let mut rest = reader.take(program.size.saturating_sub(size));
    let mut buffer = vec![0; BLOCK];
    loop {
        match rest.read(&mut buffer).at("reading", image.path())? {
            0 => return Ok(true),
            count if !crate::formats::disk::is_zero(&buffer[..count]) => return Ok(false),
            _ => {}
        }
    }
}

fn patch(file: &File, path: &Path, offset: u64, signed: &Signed) -> Result<()> {
    for (at, bytes) in signed.patches() {
        file.write_all_at(bytes, offset + at).at("writing", path)?;
    }
    Ok(())
}

/// A changed copy of an image under its own or another name, whole or not at all. Holes stay holes. It is a copy of the
/// file that is open: the places of the programs are known of that one, and not of what its path may lead to by now.
fn rewrite(image: &Image, to: &Path, change: impl FnOnce(&File) -> Result<()>) -> Result<PathBuf> {
    let mut from = image.reader();
    let size = from.seek(SeekFrom::End(0)).at("reading", image.path())?;
    from.rewind().at("reading", image.path())?;
    let out = OutputFile::create(to)?;
    let file = out.file().ok_or_else(|| Error::failed("an image cannot go to standard output"))?;
    let mut buffer = vec![0; BLOCK];
    let mut at = 0;
    while at < size {
        let count = usize::try_from(size - at).unwrap_or(usize::MAX).min(BLOCK);
        let bytes = &mut buffer[..count];
        from.read_exact(bytes).at("reading", image.path())?;
        if !crate::formats::disk::is_zero(bytes) {
            file.write_all_at(bytes, at).at("writing", to)?;
        }
        at += count as u64;
    }
    file.set_len(size).at("writing", to)?;
    change(file)?;
    out.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_a_signature_is_zeros_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.efi");
        let mut bytes = vec![0; 3 << 20];
        bytes[..2].copy_from_slice(b"MZ");
        let behind = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let image = Image::open(&path).unwrap();
            let program = image.programs().unwrap().remove(0);
            zeros_behind(&image, &program, 2).unwrap()
        };
        assert!(behind(&bytes));
        *bytes.last_mut().unwrap() = 1;
        assert!(!behind(&bytes));
    }

    #[test]
    fn what_is_rewritten_is_what_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (path, to) = (folder.path().join("x.efi"), folder.path().join("y.efi"));
        std::fs::write(&path, [b"MZ".as_slice(), &[7; 100_000]].concat()).unwrap();
        let image = Image::open(&path).unwrap();
        // Another build puts its own image there.
        std::fs::write(folder.path().join("new"), b"MZ").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        rewrite(&image, &to, |file| file.write_all_at(b"x", 2).at("writing", &to)).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), [b"MZx".as_slice(), &[7; 99_999]].concat());
    }
}
