//! Initrds, archives and kernels.

use std::io::BufReader;
use std::sync::Arc;

use super::root::Head;
use super::{Finding, Step, Walk, window};
use crate::error::{Error, Result};
use crate::formats::cpio;
use crate::formats::disk::{Cursor, DiskImage};
use crate::inspect::files::Files;
use crate::inspect::{Image, Kind, bytes_text, count, detect};
use crate::run::kernel_header;
use crate::store::{EntryKind, index_tar};

/// Longest target of a link that is read.
const LINK_LIMIT: u32 = 4096;

impl Walk<'_> {
    /// An initrd and its init. `words` is the kernel's command line, if it is known.
    pub(super) fn initrd(&mut self, name: &str, image: &Image, words: Option<&str>) -> Step {
        let files = self.link(name, |_| {
            let (files, summary) = read_initrd(image)?;
            let mut methods: Vec<String> = Vec::new();
            for segment in &summary.segments {
                let method = segment.method.to_string();
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
            let evidence = format!(
                "{}, {} ({}), {} and {} in them, all of which can be read",
                bytes_text(image.size()),
                count(summary.segments.len() as u64, "archive"),
                methods.join(", "),
                count(summary.members, "name"),
                bytes_text(summary.content)
            );
            Ok((files, Finding::Good(evidence)))
        })?;
        let asked =
            words.and_then(|words| words.split_whitespace().rev().find_map(|word| word.strip_prefix("rdinit=")));
        let link = name.replace("initrd", "init");
        let link = if link == name { "init".to_owned() } else { link };
        self.link(&link, |_| match files.initramfs_init(asked) {
            Ok(path) => Ok(((), Finding::Good(format!("{path} in the initrd")))),
            Err(what) => Err(Error::refused(format!("the initrd does not boot: {what}"))),
        })
    }

    /// A tar archive: a root, a root with a Dockerfile, or kernel and initrd.
    pub(super) fn tar(&mut self, image: &Image) -> Step {
        let (files, parts) = self.link("archive", |_| {
            let (digest, index) = index_tar(Cursor::new(Arc::clone(image)), std::io::sink())?;
            let mut files = Files::default();
            let mut parts = Vec::new();
            let mut blobs = 0u64;
            for entry in &index.entries {
                if blob(&entry.path, &entry.kind)? {
                    blobs += 1;
                }
                let (kind, target) = match &entry.kind {
                    EntryKind::Folder => (0o040_000, None),
                    EntryKind::File { offset, size, .. } => {
                        if entry.path == b"kernel" || entry.path == b"initrd.img" {
                            parts.push((entry.path.clone(), window(image, *offset, *size)?));
                        }
                        (0o100_000, None)
                    }
                    EntryKind::Symlink(target) => (0o120_000, Some(target.clone())),
                    EntryKind::HardLink(_) => (0o100_111, None),
                    _ => (0o010_000, None),
                };
                files.add(&entry.path, kind | entry.mode, target.as_deref());
            }
            let evidence = format!(
                "tar, {digest}, {} names, headers' checksums right, {} in all{}",
                index.entries.len(),
                bytes_text(index.tar_size),
                if blobs > 0 { format!("; {} of OCI as the names say", count(blobs, "blob")) } else { String::new() }
            );
            let because = "nothing vouches for a tar archive".to_owned();
            Ok(((files, parts), Finding::Open(evidence, because)))
        })?;
        let part = |name: &str| parts.iter().find(|(path, _)| path == name.as_bytes()).map(|(_, part)| part);
        match (part("kernel"), part("initrd.img")) {
            (kernel, Some(initrd)) => {
                if let Some(kernel) = kernel {
                    self.kernel(kernel)?;
                }
                self.initrd("initrd", initrd, None)
            }
            _ => self.link("init", |_| {
                let found = files.init(None).unwrap_or_else(|what| format!("{what}: it is no root that boots"));
                Ok(((), Finding::Good(found)))
            }),
        }
    }

    /// A kernel by itself.
    pub(super) fn kernel(&mut self, image: &Image) -> Step {
        self.link("kernel", |_| {
            let mut head = vec![0; image.size().min(kernel_header::HEAD) as usize];
            image.read_at(&mut head, 0)?;
            let header = kernel_header::parse(&head).ok_or_else(|| Error::refused("it is no Linux kernel"))?;
            let machine = header.arch.map_or("another machine", |arch| arch.name());
            let release = header.release.map(|release| format!(", {release}")).unwrap_or_default();
            check_size(&head, image.size())?;
            let evidence = format!("Linux for {machine}{release}, {}", bytes_text(image.size()));
            Ok(((), Finding::Open(evidence, "nothing vouches for the kernel".to_owned())))
        })
    }
}

/// Whether an entry is a blob of an OCI layout, whose name is the digest of its content (OCI image layout 1.1).
fn blob(path: &[u8], kind: &EntryKind) -> Result<bool> {
    let (Some(hex), EntryKind::File { digest, .. }) = (path.strip_prefix(b"blobs/sha256/"), kind) else {
        return Ok(false);
    };
    match digest.hex().as_bytes() == hex {
        true => Ok(true),
        false => Err(Error::refused(format!("the blob {} has the digest {}", hex.escape_ascii(), digest.hex()))),
    }
}

/// A bzImage says how long it is (Documentation/arch/x86/boot.rst: setup_sects, syssize), and an ARM64 Image how much
/// memory it takes, which is no less than its file.
fn check_size(head: &[u8], size: u64) -> Result<()> {
    if head.get(0x202..0x206) == Some(b"HdrS") {
        let (Some(sectors), Some(paragraphs)) = (head.get(0x1f1), head.get(0x1f4..0x1f8)) else { return Ok(()) };
        let sectors = if *sectors == 0 { 4 } else { u64::from(*sectors) };
        let paragraphs = u32::from_le_bytes([paragraphs[0], paragraphs[1], paragraphs[2], paragraphs[3]]);
        let needed = (sectors + 1) * 512 + u64::from(paragraphs) * 16;
        // The last paragraph may be cut.
        if size + 16 < needed {
            return Err(Error::refused(format!("the kernel is cut off: it has {size} bytes and says {needed}")));
        }
    }
    Ok(())
}

/// Reads all of an initrd.
fn read_initrd(image: &Image) -> Result<(Files, cpio::Summary)> {
    if detect(image)? != Kind::Initrd {
        return Err(Error::refused("it does not begin with an archive"));
    }
    let mut files = Files::default();
    let mut sink = Head::default();
    let input = BufReader::with_capacity(256 << 10, Cursor::new(Arc::clone(image)));
    let summary = cpio::walk(input, |_, member, content| {
        let damaged =
            |error: std::io::Error| Error::refused(format!("\"{}\" is damaged: {error}", member.name.escape_ascii()));
        let mode = member.header.mode;
        let mut target = Vec::new();
        if mode & 0o170_000 == 0o120_000 && member.header.size <= LINK_LIMIT {
            content.read_to_end(&mut target).map_err(damaged)?;
        }
        files.add(&member.name, mode, Some(&target));
        sink.start();
        std::io::copy(content, &mut sink).map_err(damaged)?;
        if mode & 0o170_111 > 0o100_000 {
            files.note_program(&sink.head);
        }
        Ok(())
    })?;
    Ok((files, summary))
}
