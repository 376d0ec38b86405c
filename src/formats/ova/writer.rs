//! Writing an OVA in one pass.
//!
//! The members are the descriptor, the manifest and the disk, in the order that lets a reader check while it
//! streams. Both texts tell of the disk, which is compressed last; so room is left for them, which their lengths
//! allow: digests have a fixed length, and the descriptor is filled up to that with the longest number.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::descriptor::{self, DiskFile, Machine};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, Output, write_failed};
use crate::formats::tar::{Member, MemberKind, Writer};
use crate::formats::vmdk;
use crate::store::{Digest, Xattrs};

/// Largest member: 11 octal digits of ustar, which DSP0243 (section 5.3) demands.
const MEMBER_LIMIT: u64 = 0o77_777_777_777;
/// What ends a tar archive.
const END: usize = 1024;

/// How an OVA is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// The machine.
    pub machine: Machine,
    /// Its disk; the hardware version counts for the machine too.
    pub vmdk: vmdk::Options,
    /// Time of the members, in seconds since 1970-01-01 UTC.
    pub time: i64,
}

/// Writes `disk` and returns the length of the file.
pub fn write(disk: &dyn DiskImage, output: Output<'_>, options: &Options) -> Result<u64> {
    let name = &options.machine.name;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+ ".contains(&byte);
    if !(1..=80).contains(&name.len()) || !name.bytes().all(legal) || name.starts_with(['.', ' ']) {
        return Err(Error::usage(format!("\"{}\" is no name for an OVA's machine", name.escape_debug()))
            .hint("1 to 80 letters, digits and -._+ or spaces, not beginning with a dot or space"));
    }
    let files = [".ovf", ".mf", "-disk1.vmdk"].map(|suffix| format!("{name}{suffix}"));
    let describe = |length| {
        let capacity = disk.size().next_multiple_of(64 << 10);
        let file = DiskFile { name: &files[2], length, capacity, hardware_version: options.vmdk.hardware_version };
        descriptor::encode(&options.machine, &file)
    };
    let descriptor_length = describe(MEMBER_LIMIT).len();
    let manifest = |descriptor: &Digest, disk: &Digest| {
        format!("SHA256({})= {}\nSHA256({})= {}\n", files[0], descriptor.hex(), files[2], disk.hex())
    };
    let none = Digest::of(b"");
    let texts = [
        member(&files[0], &vec![0; descriptor_length], options.time)?,
        member(&files[1], manifest(&none, &none).as_bytes(), options.time)?,
    ];
    let header_at = (texts[0].len() + texts[1].len()) as u64;
    let content_at = header_at + 512;

    let mut content = Content { output, at: content_at, length: 0, hash: Sha256::new() };
    let buffered = io::BufWriter::with_capacity(1 << 20, &mut content);
    vmdk::write_stream(disk, buffered, &options.vmdk)?;
    let (length, digest) = (content.length, Digest::from_bytes(content.hash.finalize().into()));

    let mut descriptor = describe(length);
    // White space behind the root element is legal XML.
    descriptor.extend(std::iter::repeat_n('\n', descriptor_length - descriptor.len()));
    let manifest = manifest(&Digest::of(descriptor.as_bytes()), &digest);
    let head = [
        member(&files[0], descriptor.as_bytes(), options.time)?,
        member(&files[1], manifest.as_bytes(), options.time)?,
        header(&files[2], length, options.time)?,
    ];
    output.write_at(&head.concat(), 0)?;
    // A stream is a whole number of sectors, so that no padding follows.
    let end = content_at + length + END as u64;
    output.set_length(end)?;
    Ok(end)
}

/// A member's header.
fn header(name: &str, length: u64, time: i64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).member(&file(name, length, time, &Xattrs::new())).map_err(write_failed)?;
    Ok(bytes)
}

/// A member with its content and padding.
fn member(name: &str, content: &[u8], time: i64) -> Result<Vec<u8>> {
    let mut tar = Writer::new(Vec::new());
    tar.member(&file(name, content.len() as u64, time, &Xattrs::new())).map_err(write_failed)?;
    tar.write_all(content).map_err(write_failed)?;
    let mut bytes = tar.finish().map_err(write_failed)?;
    bytes.truncate(bytes.len() - END);
    Ok(bytes)
}

fn file<'a>(name: &'a str, length: u64, time: i64, none: &'a Xattrs) -> Member<'a> {
    Member {
        path: name.as_bytes(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        // Times that ustar cannot hold would need an extended header.
        mtime: time.clamp(0, MEMBER_LIMIT.cast_signed()),
        xattrs: none,
        records: &[],
        kind: MemberKind::File(length),
    }
}

/// The disk's bytes on their way into the package.
struct Content<'a> {
    output: Output<'a>,
    at: u64,
    length: u64,
    hash: Sha256,
}

impl Write for Content<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length + bytes.len() as u64 > MEMBER_LIMIT {
            let error = Error::refused("an OVA's compressed disk ends at 8 GiB, the limit of its tar headers");
            return Err(io::Error::other(error.hint("the format vmdk holds larger disks")));
        }
        self.output.write_at(bytes, self.at + self.length).map_err(io::Error::other)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
