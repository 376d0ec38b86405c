//! Reading an OVA: its members, their digests, and its disk.

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, Window, read_part};
use crate::formats::vmdk;
use crate::store::Digest;

/// Most members of a package, far more than any has.
const MEMBERS: usize = 1000;
/// Largest descriptor or manifest.
const TEXT_LIMIT: u64 = 4 << 20;

/// A package whose descriptor has been read.
#[derive(Debug)]
pub struct Package<S> {
    container: S,
    members: Vec<Member>,
    descriptor: String,
}

#[derive(Debug)]
struct Member {
    name: String,
    start: u64,
    length: u64,
}

impl<S: DiskImage> Package<S> {
    /// Reads the headers of all members, and the descriptor.
    pub fn open(container: S) -> Result<Package<S>> {
        let members = members(&container)?;
        let first = members.first().filter(|member| member.name.ends_with(".ovf"));
        let first = first.ok_or_else(|| Error::refused("the first member of the OVA is no .ovf descriptor"))?;
        let descriptor = text(&container, first)?;
        Ok(Package { container, members, descriptor })
    }

    /// The OVF descriptor.
    pub fn descriptor(&self) -> &str {
        &self.descriptor
    }

    /// Names and lengths of all members.
    pub fn members(&self) -> impl Iterator<Item = (&str, u64)> {
        self.members.iter().map(|member| (member.name.as_str(), member.length))
    }

    /// Compares every member with the manifest, which has to name them all.
    pub fn verify(&self) -> Result<()> {
        let manifest = self.members.iter().find(|member| member.name.ends_with(".mf"));
        let manifest = manifest.ok_or_else(|| Error::refused("the OVA has no manifest"))?;
        let lines = text(&self.container, manifest)?;
        let expected = |name: &str| {
            let mut digests = lines.lines().filter_map(|line| {
                let (file, hex) = line.strip_prefix("SHA256(")?.split_once(")=")?;
                (file == name).then(|| Digest::from_hex(hex.trim())).flatten()
            });
            digests.next().ok_or_else(|| Error::refused(format!("the OVA's manifest has no SHA256 of {name}")))
        };
        for member in self.members.iter().filter(|member| !member.name.ends_with(".mf")) {
            let (expected, found) = (expected(&member.name)?, self.digest(member)?);
            if expected != found {
                return Err(Error::refused(format!(
                    "{} in the OVA has {found}, but the manifest says {expected}",
                    member.name
                )));
            }
        }
        Ok(())
    }

    fn digest(&self, member: &Member) -> Result<Digest> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        while done < member.length {
            let count = (member.length - done).min(buffer.len() as u64) as usize;
            self.container.read_at(&mut buffer[..count], member.start + done)?;
            hash.update(&buffer[..count]);
            done += count as u64;
        }
        Ok(Digest::from_bytes(hash.finalize().into()))
    }

    fn vmdk(&self) -> Result<&Member> {
        let found = self.members.iter().find(|member| member.name.ends_with(".vmdk"));
        found.ok_or_else(|| Error::refused("the OVA has no .vmdk"))
    }

    /// The first disk.
    pub fn disk(&self) -> Result<vmdk::Reader<Window<&S>>> {
        let member = self.vmdk()?;
        vmdk::Reader::open(Window::new(&self.container, member.start, member.length)?)
    }

    /// The first disk, with the package inside.
    pub fn into_disk(self) -> Result<vmdk::Reader<Window<S>>> {
        let (start, length) = self.vmdk().map(|member| (member.start, member.length))?;
        vmdk::Reader::open(Window::new(self.container, start, length)?)
    }
}

fn text(container: &dyn DiskImage, member: &Member) -> Result<String> {
    if member.length > TEXT_LIMIT {
        return Err(Error::refused(format!("{} in the OVA has {} bytes", member.name, member.length)));
    }
    let bytes = read_part(container, member.start, member.length as usize, "a text of the OVA")?;
    String::from_utf8(bytes).map_err(|_| Error::refused(format!("{} in the OVA is not UTF-8", member.name)))
}

/// The members of a ustar archive; packages have plain files only.
fn members(container: &dyn DiskImage) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    let mut at = 0u64;
    while at.saturating_add(512) <= container.size() {
        let header = read_part(container, at, 512, "a tar header")?;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let refuse = |what: &str| Error::refused(format!("the tar header at {at} of the OVA {what}"));
        let sum: u32 =
            header.iter().enumerate().map(|(i, b)| u32::from(if (148..156).contains(&i) { b' ' } else { *b })).sum();
        if octal(&header[148..156]) != Some(u64::from(sum)) {
            return Err(refuse("has a wrong checksum"));
        }
        if ![b'0', 0].contains(&header[156]) {
            return Err(refuse("is not of a plain file"));
        }
        let length = octal(&header[124..136]).ok_or_else(|| refuse("has no size in octal digits"))?;
        let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = str::from_utf8(name).map_err(|_| refuse("has a name that is not UTF-8"))?.to_owned();
        let start = at + 512;
        if start.saturating_add(length) > container.size() {
            return Err(refuse("is of a member that does not end within the file"));
        }
        if members.len() == MEMBERS {
            return Err(Error::refused(format!("the OVA has more than {MEMBERS} members")));
        }
        members.push(Member { name, start, length });
        at = start + length.next_multiple_of(512);
    }
    Ok(members)
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    // At most 12 digits: no overflow.
    u64::from_str_radix(text, 8).ok()
}
