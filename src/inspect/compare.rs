//! The first difference of two images, said by part and field.
//!
//! What holds others is looked into before it is spoken of: a file in a file system before the file system, file systems
//! before the hash trees over them and the command lines that name their hashes, and all that before identifiers that
//! are derived from the content.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Seek, Write};
use std::path::Path;

use super::Kind;
use super::parts::{Content, Field, Opened, Part, text};
use crate::error::{IoContext, Result};
use crate::formats::disk::{Cursor, DiskImage, RawFile};
use crate::rootfs::write_error;

/// Parts in one another that are looked into.
const DEPTH_LIMIT: usize = 12;
/// Bytes that are compared at once.
const PIECE: usize = 1 << 20;
/// Characters of a text that are shown.
const SHOWN: usize = 400;

/// Where two images differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Names of the parts, outermost first.
    pub place: Vec<String>,
    /// What differs there.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.is_empty() {
            true => f.write_str(&self.what),
            false => write!(f, "{}: {}", self.place.join(", "), self.what),
        }
    }
}

/// Finds the first difference; `None` if all bytes are equal. `expected` is what should be there.
pub fn first_difference(expected: &Part, found: &Part) -> Result<Option<Difference>> {
    let Some(at) = different_byte(&expected.content, &found.content)? else { return Ok(None) };
    inside(expected, found, at, 0).map(Some)
}

/// Where two parts that differ do so.
fn inside(expected: &Part, found: &Part, at: Byte, depth: usize) -> Result<Difference> {
    let own = |what: String| Difference { place: Vec::new(), what };
    if expected.kind != found.kind {
        return Ok(own(format!("expected {}, found {}", expected.kind.name(), found.kind.name())));
    }
    if depth < DEPTH_LIMIT {
        // What was built here can be opened; what cannot be opened there is damaged.
        let ours = expected.open()?;
        let theirs = match found.open() {
            Ok(theirs) => theirs,
            Err(error) => return Ok(own(format!("it is damaged: {}", error.message()))),
        };
        if let Some(difference) = of_parts(&ours, &theirs, depth)? {
            return Ok(difference);
        }
        if let Some(what) = of_fields(&ours.fields, &theirs.fields) {
            return Ok(own(what));
        }
    }
    if let Some(what) = stored_otherwise(expected.kind) {
        return Ok(own(format!("{what} ({at})")));
    }
    if let (Some(expected), Some(found)) = (text(expected), text(found)) {
        let show = |text: &str| text.chars().take(SHOWN).collect::<String>().escape_debug().to_string();
        return Ok(own(format!("expected \"{}\", found \"{}\"", show(&expected), show(&found))));
    }
    Ok(own(at.to_string()))
}

/// What is said of kinds of which every part and field is equal, but not every byte.
fn stored_otherwise(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Initrd => Some("the same members, compressed in another way"),
        Kind::Erofs | Kind::Squashfs | Kind::Iso | Kind::Fat => Some("the same files, stored in another way"),
        kind if kind.is_container() => Some("the same disk, wrapped in another way"),
        _ => None,
    }
}

/// File systems before hash trees before what names their hashes.
fn rank(part: &Part) -> u8 {
    match part.kind {
        Kind::Erofs | Kind::Squashfs => 0,
        Kind::Verity => 1,
        _ => 2,
    }
}

fn of_parts(ours: &Opened, theirs: &Opened, depth: usize) -> Result<Option<Difference>> {
    let by_name: HashMap<&str, &Part> = theirs.parts.iter().map(|part| (part.name.as_str(), part)).collect();
    let names: std::collections::HashSet<&str> = ours.parts.iter().map(|part| part.name.as_str()).collect();
    let own = |part: &Part, what: String| Difference { place: vec![part.name.clone()], what };
    let mut order: Vec<&Part> = ours.parts.iter().collect();
    order.sort_by_key(|part| rank(part));
    // A part that is too much shifts all others.
    for part in order {
        let Some(other) = by_name.get(part.name.as_str()) else {
            let extra = theirs.parts.iter().find(|other| !names.contains(other.name.as_str()));
            let instead = extra.map(|other| format!(", and {} is there", other.name)).unwrap_or_default();
            return Ok(Some(own(part, format!("it is missing{instead}"))));
        };
        if let Some(at) = different_byte(&part.content, &other.content)? {
            let mut difference = inside(part, other, at, depth + 1)?;
            if part.kind != Kind::Unknown && part.kind == other.kind {
                difference.place.insert(0, part.kind.name().to_owned());
            }
            difference.place.insert(0, part.name.clone());
            return Ok(Some(difference));
        }
        if let Some(what) = of_fields(&part.fields, &other.fields) {
            return Ok(Some(own(part, what)));
        }
    }
    let extra = theirs.parts.iter().find(|other| !names.contains(other.name.as_str()));
    if let Some(extra) = extra {
        return Ok(Some(own(extra, "it is not in the rebuilt image".into())));
    }
    let moved = ours.parts.iter().zip(&theirs.parts).find(|(part, other)| part.name != other.name);
    Ok(moved.map(|(part, other)| own(part, format!("it stands where {} was expected", other.name))))
}

fn of_fields(ours: &[Field], theirs: &[Field]) -> Option<String> {
    for (index, (name, expected)) in ours.iter().enumerate() {
        match theirs.get(index).filter(|(other, _)| other == name) {
            None => return Some(format!("{name}: expected {expected}, found none")),
            Some((_, found)) if found != expected => {
                let (expected, found) = shortened(expected, found);
                return Some(format!("{name}: expected {expected}, found {found}"));
            }
            Some(_) => {}
        }
    }
    theirs.get(ours.len()).map(|(name, found)| format!("{name}: expected none, found {found}"))
}

/// Of long texts, the first line that differs.
fn shortened<'a>(expected: &'a str, found: &'a str) -> (&'a str, &'a str) {
    let differs = expected.lines().zip(found.lines()).find(|(a, b)| a != b);
    differs.unwrap_or((expected.lines().next().unwrap_or(""), found.lines().next().unwrap_or("")))
}

/// The first byte in which two contents differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Byte {
    At(u64),
    /// All are equal up to the end of the shorter one.
    Length {
        expected: u64,
        found: u64,
    },
}

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Byte::At(at) => write!(f, "content differs at byte {at}"),
            Byte::Length { expected, found } => write!(f, "expected {expected} bytes, found {found}"),
        }
    }
}

fn different_byte(expected: &Content, found: &Content) -> Result<Option<Byte>> {
    let (ours, theirs) = (expected.size(), found.size());
    let length = Byte::Length { expected: ours, found: theirs };
    let at = match (expected, found) {
        (Content::None, Content::None) => None,
        (Content::Image(expected), Content::Image(found)) => compare_images(expected, found)?,
        _ => {
            // One of them comes in order only, so the other one is made to be read beside it.
            let path = Path::new("a temporary file");
            let mut file = tempfile::tempfile().at("making", path)?;
            let mut out = io::BufWriter::with_capacity(256 << 10, &mut file);
            expected.write_to(&mut out)?;
            out.flush().at("writing", path)?;
            drop(out);
            file.rewind().at("reading", path)?;
            let expected = RawFile::new(file, path)?;
            let mut against =
                Against { expected: Cursor::new(expected), position: 0, differs: None, buffer: Vec::new() };
            match found.write_to(&mut against) {
                Ok(()) => against.differs,
                // It stops at the first difference; damage behind that does not matter.
                Err(_) if against.differs.is_some() => against.differs,
                Err(error) => return Err(error),
            }
        }
    };
    Ok(at.map(Byte::At).or((ours != theirs).then_some(length)))
}

fn compare_images(expected: &super::Image, found: &super::Image) -> Result<Option<u64>> {
    let size = expected.size().min(found.size());
    let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
    let mut position = 0;
    while position < size {
        // What both know to be zero is not read.
        let next = match (expected.next_data(position)?, found.next_data(position)?) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) => a.start.min(b.start),
            (Some(one), None) | (None, Some(one)) => one.start,
        };
        position = position.max(next);
        let length = size.saturating_sub(position).min(PIECE as u64) as usize;
        expected.read_at(&mut ours[..length], position)?;
        found.read_at(&mut theirs[..length], position)?;
        if ours[..length] != theirs[..length] {
            let at = ours[..length].iter().zip(&theirs[..length]).position(|(a, b)| a != b).unwrap_or(0);
            return Ok(Some(position + at as u64));
        }
        position += length as u64;
    }
    Ok(None)
}

/// Compares what is written with what is expected.
struct Against<D> {
    expected: Cursor<D>,
    position: u64,
    differs: Option<u64>,
    buffer: Vec<u8>,
}

impl<D: DiskImage> Write for Against<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use std::io::Read;
        self.buffer.clear();
        (&mut self.expected).take(bytes.len() as u64).read_to_end(&mut self.buffer)?;
        if let Some(at) = self.buffer.iter().zip(bytes).position(|(a, b)| a != b) {
            self.differs = Some(self.position + at as u64);
            return Err(io::Error::other("it differs"));
        }
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies a file's bytes into a digest; what `reproduced` is said of.
pub fn digest(part: &Part) -> Result<crate::store::Digest> {
    let mut hasher = crate::store::Hasher::new();
    part.content.write_to(&mut hasher)?;
    hasher.flush().map_err(write_error)?;
    Ok(hasher.finish())
}
