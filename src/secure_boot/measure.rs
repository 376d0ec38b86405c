//! What the registers of a TPM will hold when an image has booted, as far as that follows from the image and from the
//! keys that the firmware knows (TCG PC Client Platform Firmware Profile 1.05; EDK II's `Tcg2Dxe`; systemd-stub(7)).
//!
//! PCR 4 has the programs that the firmware loads, PCR 7 what Secure Boot knows and which key let a program through, PCR 11
//! the parts of a unified kernel image, PCR 12 the command line that it is given from outside: none, for images that start
//! by themselves; their own, if it is systemd-boot that starts them.

use std::io::{Read, Seek, SeekFrom, Write};

use serde_json::{Map, Value, json};

use super::banks::{Digests, Hashing, Register};
use super::folder::{KeyFolder, Role};
use super::programs::{Image, Program, Reader};
use crate::error::{Context, Error, IoContext, Result};
use crate::formats::efi_variables::signature_list;
use crate::formats::gpt::Guid;
use crate::formats::pe::{self, CERTIFICATES, HEADERS_LIMIT, Headers};
use crate::formats::uki;

/// What boot managers announce, and the four bytes that end the firmware's own part (3.3.4.5, 3.3.2.2).
const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
const SEPARATOR: &[u8] = &[0; 4];
/// Bytes of a stub in front of what was added to it; systemd's have 100 KB.
const STUB_LIMIT: u64 = 1 << 20;
/// Bytes of a command line that are read; Linux takes 2 KiB.
const COMMAND_LINE_LIMIT: u64 = 64 << 10;
/// From this version on systemd's stub starts its kernel without the firmware, which then measures no second program.
const STARTS_KERNEL_ITSELF: u32 = 258;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'k> {
    /// The keys that the firmware knows; none means that Secure Boot is off and no keys are enrolled.
    pub keys: Option<&'k KeyFolder>,
    /// The version of systemd that stubs are of which do not say.
    pub stub_version: Option<u32>,
}

/// An event and the register that it extends.
#[derive(Debug)]
struct Event {
    pcr: u32,
    kind: &'static str,
    what: String,
    digests: Digests,
}

/// A program that was looked into.
struct Looked<'p> {
    program: &'p Program,
    headers: Headers,
    digests: Digests,
}

impl Looked<'_> {
    fn is_uki(&self) -> bool {
        pe::section(&self.headers, ".linux").is_some()
    }
}

/// Predicts the registers for every way in which an image boots.
pub fn measure(image: &Image, question: Question<'_>) -> Result<Value> {
    let programs = image.programs()?;
    let mut looked = Vec::new();
    for program in &programs {
        looked.push(look(image, program).context(format!("{}: {}", image.path().display(), program.name()))?);
    }
    let policy = policy(question.keys)?;
    // A boot manager under the name that firmware starts loads the kernels beside it.
    let loader = looked.iter().find(|one| is_default(one.program) && !one.is_uki());
    let kernels: Vec<_> = looked.iter().filter(|one| one.is_uki()).collect();
    let ways: Vec<Vec<&Looked<'_>>> = match loader {
        Some(loader) if !kernels.is_empty() => kernels.into_iter().map(|kernel| vec![loader, kernel]).collect(),
        _ => looked.iter().map(|one| vec![one]).collect(),
    };
    let mut boots = Vec::new();
    for way in ways {
        boots.push(boot(image, &way, &policy, question)?);
    }
    Ok(json!({
        "image": image.path(),
        "secure-boot": question.keys.is_some(),
        "boots": boots,
        "not-predicted": [
            "PCR 0, 1, 2, 3, 5 and 6 hold the firmware, its settings, its boot entries and the partition table as it reads them",
            "PCR 9 holds what Linux measures by itself: its initrd and command line, from 5.18 on",
            "PCR 11 is that at the start of Linux; systemd in the guest, if it is there, extends it by its phases",
            "PCR 12 changes if somebody adds a command line, credentials or extensions beside the image",
        ],
    }))
}

fn is_default(program: &Program) -> bool {
    program.path.as_ref().is_some_and(|path| path.to_ascii_uppercase().starts_with("EFI/BOOT/BOOT"))
}

fn boot(image: &Image, way: &[&Looked<'_>], policy: &[Event], question: Question<'_>) -> Result<Value> {
    let mut events = vec![
        event(4, "EV_EFI_ACTION", &String::from_utf8_lossy(CALLING), Digests::of(CALLING)),
        event(4, "EV_SEPARATOR", "00000000", Digests::of(SEPARATOR)),
    ];
    let mut stub = None;
    for one in way {
        let name = one.program.name();
        events.push(event(4, "EV_EFI_BOOT_SERVICES_APPLICATION", name, one.digests.clone()));
        if one.is_uki() {
            let context = || format!("{}: {name}", image.path().display());
            let version = stub_version(image, one).context(context())?.or(question.stub_version).ok_or_else(|| {
                Error::refused(format!("{}: the stub does not say which version of systemd it is of", context()))
                    .hint("PCR 11 can be predicted for stubs of systemd 252 and newer: say --stub-version N")
            })?;
            stub = Some(version);
            events.extend(kernel(image, one, version, question).context(context())?);
            if way.len() > 1 {
                events.extend(load_options(image, one, question).context(context())?);
            }
        }
    }
    let mut registers: Map<String, Value> = Map::new();
    for pcr in [4, 7, 11, 12] {
        let mut register = Register::default();
        policy.iter().chain(&events).filter(|event| event.pcr == pcr).for_each(|event| register.extend(&event.digests));
        registers.insert(pcr.to_string(), register.value().to_json());
    }
    let listed: Vec<Value> = policy
        .iter()
        .chain(&events)
        .map(|event| json!({"pcr": event.pcr, "type": event.kind, "what": event.what, "digests": event.digests.to_json()}))
        .collect();
    let names: Vec<_> = way.iter().map(|one| one.program.name()).collect();
    Ok(json!({"programs": names, "stub-version": stub, "pcrs": registers, "events": listed}))
}

fn event(pcr: u32, kind: &'static str, what: &str, digests: Digests) -> Event {
    Event { pcr, kind, what: what.to_owned(), digests }
}

/// What the firmware measures of Secure Boot, in its order: the switch, PK, KEK, db and dbx, a separator, and then the
/// certificate by which the first program was let through; each once.
fn policy(keys: Option<&KeyFolder>) -> Result<Vec<Event>> {
    let kind = "EV_EFI_VARIABLE_DRIVER_CONFIG";
    let mut events = Vec::new();
    let mut config = |name: &str, vendor, data: &[u8]| {
        events.push(event(7, kind, name, Digests::of(&variable(name, vendor, data))));
    };
    config("SecureBoot", Role::Pk.vendor(), &[u8::from(keys.is_some())]);
    let owner = keys.map(KeyFolder::owner).transpose()?;
    for role in Role::ALL {
        let data = match (keys, owner) {
            (Some(keys), Some(owner)) => signature_list(owner, keys.certificate(role)?.der()),
            _ => Vec::new(),
        };
        config(role.name(), role.vendor(), &data);
    }
    config("dbx", Role::Db.vendor(), &[]);
    events.push(event(7, "EV_SEPARATOR", "00000000", Digests::of(SEPARATOR)));
    if let (Some(keys), Some(owner)) = (keys, owner) {
        let entry = [&owner.to_disk()[..], keys.certificate(Role::Db)?.der()].concat();
        let digests = Digests::of(&variable(Role::Db.name(), Role::Db.vendor(), &entry));
        events.push(event(7, "EV_EFI_VARIABLE_AUTHORITY", "db", digests));
    }
    Ok(events)
}

/// `UEFI_VARIABLE_DATA` (10.4.6): vendor, units of the name, bytes of the data, both without anything behind.
fn variable(name: &str, vendor: Guid, data: &[u8]) -> Vec<u8> {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut out = vendor.to_disk().to_vec();
    out.extend((units.len() as u64 / 2).to_le_bytes());
    out.extend((data.len() as u64).to_le_bytes());
    out.extend(units);
    out.extend(data);
    out
}

/// What the stub adds: the sections, and the kernel that it has the firmware load.
fn kernel(image: &Image, one: &Looked<'_>, version: u32, question: Question<'_>) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for name in uki::measured(version) {
        let Some(section) = pe::section(&one.headers, name) else { continue };
        let start = one.program.offset + u64::from(section.raw_offset);
        let mut hashing = Hashing::default();
        copy(&mut image.reader(), start, u64::from(section.size()), &mut hashing)?;
        events.push(event(11, "EV_IPL", name, Digests::of(&[name.as_bytes(), &[0]].concat())));
        events.push(event(11, "EV_IPL", &format!("content of {name}"), hashing.finish()));
    }
    // Under Secure Boot the firmware refuses the inner kernel, which is not signed by db's key, before it measures it; the
    // stub, which was measured with the kernel in it, then lets it through.
    if question.keys.is_none()
        && version < STARTS_KERNEL_ITSELF
        && let Some(section) = pe::section(&one.headers, ".linux")
    {
        let start = one.program.offset + u64::from(section.raw_offset);
        let (_, digests) = authenticode(image, start, u64::from(section.size())).context("the kernel in it")?;
        events.push(event(4, "EV_EFI_BOOT_SERVICES_APPLICATION", ".linux", digests));
    }
    Ok(events)
}

/// What a boot manager adds. systemd-boot reads the command line out of an image, measures it and hands it to the image;
/// the stub, which without Secure Boot takes it from there, measures it once more. UTF-16 with a zero behind it.
fn load_options(image: &Image, one: &Looked<'_>, question: Question<'_>) -> Result<Vec<Event>> {
    let Some(section) = pe::section(&one.headers, ".cmdline") else { return Ok(Vec::new()) };
    let start = one.program.offset + u64::from(section.raw_offset);
    let mut bytes = Vec::new();
    copy(&mut image.reader(), start, u64::from(section.size()).min(COMMAND_LINE_LIMIT), &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let text = text.trim_end_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
    let units: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let by = if question.keys.is_some() { &["systemd-boot"][..] } else { &["systemd-boot", "the stub"] };
    let event = |who: &&str| event(12, "EV_IPL", &format!("command line, by {who}"), Digests::of(&units));
    Ok(by.iter().map(event).collect())
}

fn look<'p>(image: &Image, program: &'p Program) -> Result<Looked<'p>> {
    let (headers, digests) = authenticode(image, program.offset, program.size)?;
    Ok(Looked { program, headers, digests })
}

/// Headers and Authenticode digests of a program, signed or not, as firmware computes them (Microsoft, "Windows
/// Authenticode Portable Executable Signature Format"): all but checksum and signatures, sections in the order of the file.
fn authenticode(image: &Image, offset: u64, size: u64) -> Result<(Headers, Digests)> {
    let mut reader = image.reader();
    let mut head = Vec::new();
    copy(&mut reader, offset, size.min(u64::from(HEADERS_LIMIT)), &mut head)?;
    let headers =
        Headers::decode(&head).map_err(|what| Error::refused(format!("this is no EFI program: it has {what}")))?;
    let cut = || Error::refused("the program is cut off");
    let mut ranges = vec![(0, headers.checksum() as u64)];
    let header_end = u64::from(headers.size_of_headers);
    let after_checksum = headers.checksum() as u64 + 4;
    let mut signatures = 0;
    match headers.directories.get(CERTIFICATES) {
        Some((_, size)) => {
            let directory = headers.directory(CERTIFICATES) as u64;
            ranges.extend([(after_checksum, directory), (directory + 8, header_end)]);
            signatures = u64::from(*size);
        }
        None => ranges.push((after_checksum, header_end)),
    }
    let mut sections: Vec<_> = headers.sections.iter().filter(|section| section.raw_size > 0).collect();
    sections.sort_by_key(|section| section.raw_offset);
    let mut hashed = header_end;
    for section in sections {
        let start = u64::from(section.raw_offset);
        ranges.push((start, start + u64::from(section.raw_size)));
        hashed += u64::from(section.raw_size);
    }
    let end = size.checked_sub(signatures).ok_or_else(cut)?;
    if end > hashed {
        ranges.push((hashed, end));
    }
    let mut hashing = Hashing::default();
    for (start, stop) in ranges {
        let length = stop.checked_sub(start).filter(|_| stop <= size).ok_or_else(cut)?;
        copy(&mut reader, offset + start, length, &mut hashing)?;
    }
    Ok((headers, hashing.finish()))
}

fn stub_version(image: &Image, one: &Looked<'_>) -> Result<Option<u32>> {
    // The stub's own sections are in front of all others.
    let first = [".osrel", ".cmdline", ".uname", ".initrd", ".linux"];
    let starts = first.iter().filter_map(|name| pe::section(&one.headers, name)).map(|section| section.raw_offset);
    let size = starts.min().map_or(STUB_LIMIT, u64::from).min(STUB_LIMIT).min(one.program.size);
    let mut bytes = Vec::new();
    copy(&mut image.reader(), one.program.offset, size, &mut bytes)?;
    Ok(uki::version(&bytes))
}

fn copy(reader: &mut Reader, start: u64, size: u64, out: &mut impl Write) -> Result<()> {
    let place = std::path::Path::new("the image");
    reader.seek(SeekFrom::Start(start)).at("reading", place)?;
    let copied = std::io::copy(&mut Read::take(reader, size), out).at("reading", place)?;
    if copied < size {
        return Err(Error::refused(format!("the image ends within {size} bytes at byte {start}")));
    }
    Ok(())
}
