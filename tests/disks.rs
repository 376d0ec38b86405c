//! The virtual disk formats, judged by qemu-img, xmllint, tar and gzip.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use moby::error::Result;
use moby::formats::disk::{DiskImage, Identity, Output, RawFile, Span, scan};
use moby::formats::{gcp, ova, qcow2, vhd, vhdx, vmdk};
use moby::store::Digest;

use support::machine::available;

/// A sparse raw disk: text, bytes that do not compress, zeros that are no hole, pieces across the edges of all
/// formats' blocks, and data in the last sector.
fn raw_disk(folder: &Path, name: &str, size: u64) -> PathBuf {
    let path = folder.join(name);
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    let text: Vec<u8> = (0..900_000u32).map(|i| b"a disk of moby\n"[i as usize % 15] ^ (i >> 16) as u8).collect();
    let mut state = 0x9e37_79b9u32;
    let noise: Vec<u8> = (0..700_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let pieces: [(u64, &[u8]); 7] = [
        (0, &noise[..446]),
        (1 << 20, &text),
        ((2 << 20) - 100, &noise[..200]),
        (3 << 20, &noise),
        ((5 << 20) + 512, &[0; 300_000]),
        (size / 2 - 70_000, &text[..140_001]),
        (size - 512, &noise[..512]),
    ];
    for (at, bytes) in pieces {
        file.write_all_at(bytes, at).unwrap();
    }
    path
}

fn identity() -> Identity {
    Identity::from_digest(&Digest::of(b"tests"))
}

type Writer = Box<dyn Fn(&dyn DiskImage, Output<'_>, &File) -> Result<u64>>;
type Opener = fn(RawFile) -> Result<(String, Box<dyn DiskImage>)>;

/// One way to write a container, QEMU's name of the format (if it knows it), and how it is read.
struct Format {
    name: &'static str,
    qemu: Option<&'static str>,
    checks: bool,
    write: Writer,
    open: Opener,
}

fn formats() -> Vec<Format> {
    fn qcow2_with(compression: Option<qcow2::Compression>) -> Writer {
        Box::new(move |disk, output, _| qcow2::write(disk, output, &qcow2::Options { compression }))
    }
    fn vhd_with(kind: vhd::Kind) -> Writer {
        let options = vhd::Options { kind, identity: identity(), time: 1_700_000_000, azure: false };
        Box::new(move |disk, output, _| vhd::write(disk, output, &options))
    }
    fn vhdx_with(kind: vhdx::Kind) -> Writer {
        Box::new(move |disk, output, _| vhdx::write(disk, output, &vhdx::Options { kind, identity: identity() }))
    }
    let open_qcow2: Opener = |file| {
        let reader = qcow2::Reader::open(file)?;
        Ok((format!("{:#?}", reader.header()), Box::new(reader)))
    };
    let open_vmdk: Opener = |file| {
        let reader = vmdk::Reader::open(file)?;
        Ok((format!("{:#?}\n{}", reader.header(), reader.descriptor()?), Box::new(reader)))
    };
    let open_vhd: Opener = |file| {
        let reader = vhd::Reader::open(file)?;
        Ok((format!("{:#?}", reader.footer()), Box::new(reader)))
    };
    let open_vhdx: Opener = |file| {
        let reader = vhdx::Reader::open(file)?;
        Ok((format!("{:#?}", reader.metadata()), Box::new(reader)))
    };
    let open_ova: Opener = |file| {
        let package = ova::Package::open(file)?;
        package.verify()?;
        let members: Vec<_> = package.members().collect();
        let text = format!("{members:#?}\n{}", package.descriptor().trim_end());
        Ok((text, Box::new(package.into_disk()?)))
    };
    let format = |name, qemu, checks, write, open| Format { name, qemu, checks, write, open };
    vec![
        format("qcow2", Some("qcow2"), true, qcow2_with(None), open_qcow2),
        format("qcow2-zlib", Some("qcow2"), true, qcow2_with(Some(qcow2::Compression::ZLIB)), open_qcow2),
        format("qcow2-zstd", Some("qcow2"), true, qcow2_with(Some(qcow2::Compression::ZSTD)), open_qcow2),
        format(
            "vmdk-stream",
            Some("vmdk"),
            true,
            Box::new(|disk, _, file| vmdk::write_stream(disk, BufWriter::new(file), &vmdk::Options::new(identity()))),
            open_vmdk,
        ),
        format(
            "vmdk-sparse",
            Some("vmdk"),
            true,
            Box::new(|disk, output, _| vmdk::write_sparse(disk, output, &vmdk::Options::new(identity()))),
            open_vmdk,
        ),
        format("vhd-fixed", Some("vpc"), false, vhd_with(vhd::Kind::Fixed), open_vhd),
        format("vhd-dynamic", Some("vpc"), false, vhd_with(vhd::Kind::Dynamic), open_vhd),
        format("vhdx-fixed", Some("vhdx"), true, vhdx_with(vhdx::Kind::Fixed), open_vhdx),
        format("vhdx-dynamic", Some("vhdx"), true, vhdx_with(vhdx::Kind::Dynamic), open_vhdx),
        format("ova", None, false, Box::new(|disk, output, _| ova::write(disk, output, &ova_options())), open_ova),
    ]
}

fn ova_options() -> ova::Options {
    let mut machine = ova::Machine::new("small");
    machine.firmware = ova::Firmware::Efi;
    ova::Options { machine, vmdk: vmdk::Options::new(identity()), time: 1_700_000_000 }
}

impl Format {
    fn write(&self, raw: &Path, target: &Path) -> u64 {
        let file = File::create(target).unwrap();
        let output = Output::new(&file, target).unwrap();
        let length = (self.write)(&RawFile::open(raw).unwrap(), output, &file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), length, "{}", self.name);
        length
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{text}{errors}", output.status);
    text
}

/// Digest of a disk's content, without the zeros at its end that some formats add.
fn digest(disk: &dyn DiskImage) -> Vec<(u64, Digest)> {
    let mut found = Vec::new();
    let blocks = |span: Span| Ok(span.blocks().map(|(at, block)| (at, Digest::of(block))).collect::<Vec<_>>());
    scan(disk, 65_536, blocks, |blocks| {
        found.extend(blocks);
        Ok(())
    })
    .unwrap();
    found
}

#[test]
fn qemu_img_reads_every_format() {
    if !available("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // One size that fits all blocks, one that fits none, one with offsets of more than 32 bits.
    for size in [64 << 20, (37 << 20) + 3 * 512, 6 << 30] {
        let raw = raw_disk(folder.path(), "raw", size);
        let expected = digest(&RawFile::open(&raw).unwrap());
        let target = folder.path().join("target");
        let (raw, path) = (raw.to_str().unwrap().to_owned(), target.to_str().unwrap());
        for format in formats() {
            format.write(Path::new(&raw), &target);
            let (_, disk) = (format.open)(RawFile::open(&target).unwrap()).unwrap();
            assert!(digest(&*disk) == expected, "{} of {size} bytes, read back", format.name);
            let Some(qemu) = format.qemu else { continue };
            if format.checks {
                let said = run("qemu-img", &["check", "-f", qemu, path]);
                assert!(said.contains("No errors"), "{}: {said}", format.name);
            }
            let said = run("qemu-img", &["compare", "-f", qemu, "-F", "raw", path, &raw]);
            assert!(said.contains("identical"), "{}: {said}", format.name);
            let info = run("qemu-img", &["info", "--output=json", "-f", qemu, path]);
            let info: serde_json::Value = serde_json::from_str(&info).unwrap();
            let unit = if qemu == "vmdk" { 65_536 } else { 512 };
            assert_eq!(info["virtual-size"], serde_json::json!(size.next_multiple_of(unit)), "{}", format.name);
        }
    }
}

/// Containers that QEMU writes, read by us.
#[test]
fn containers_of_qemu_img_are_read() {
    if !available("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let raw = raw_disk(folder.path(), "raw", 64 << 20);
    let expected = digest(&RawFile::open(&raw).unwrap());
    let target = folder.path().join("target");
    let openers = formats();
    for (format, options) in [
        ("qcow2", &["-O", "qcow2", "-o", "cluster_size=4096"][..]),
        ("qcow2", &["-O", "qcow2", "-o", "compat=0.10"]),
        ("qcow2-zlib", &["-O", "qcow2", "-c"]),
        ("qcow2-zstd", &["-O", "qcow2", "-c", "-o", "compression_type=zstd"]),
        ("vmdk-stream", &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
        ("vmdk-sparse", &["-O", "vmdk"]),
        ("vhd-fixed", &["-O", "vpc", "-o", "subformat=fixed,force_size=on"]),
        ("vhd-dynamic", &["-O", "vpc", "-o", "force_size=on"]),
        ("vhdx-fixed", &["-O", "vhdx", "-o", "subformat=fixed"]),
        ("vhdx-dynamic", &["-O", "vhdx"]),
    ] {
        let _ = std::fs::remove_file(&target);
        let mut arguments = vec!["convert", "-f", "raw"];
        arguments.extend(options);
        arguments.extend([raw.to_str().unwrap(), target.to_str().unwrap()]);
        run("qemu-img", &arguments);
        let open = openers.iter().find(|one| one.name == format).unwrap().open;
        let (_, disk) = open(RawFile::open(&target).unwrap()).unwrap();
        assert!(digest(&*disk) == expected, "qemu-img {options:?}");
    }
}

#[test]
fn azure_takes_the_fixed_vhd() {
    if !available("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let raw = raw_disk(folder.path(), "raw", (37 << 20) + 512);
    let target = folder.path().join("azure.vhd");
    let file = File::create(&target).unwrap();
    let options = vhd::Options { kind: vhd::Kind::Fixed, identity: identity(), time: 0, azure: true };
    vhd::write(&RawFile::open(&raw).unwrap(), Output::new(&file, &target).unwrap(), &options).unwrap();
    let info = run("qemu-img", &["info", "--output=json", "-f", "vpc", target.to_str().unwrap()]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"], serde_json::json!(38 << 20));
    assert_eq!(std::fs::metadata(&target).unwrap().len(), (38 << 20) + 512);
}

#[test]
fn the_ova_is_whole() {
    if !available("xmllint") || !available("sha256sum") || !available("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let raw = raw_disk(folder.path(), "raw", 64 << 20);
    let target = folder.path().join("small.ova");
    let ova = formats().into_iter().find(|format| format.name == "ova").unwrap();
    ova.write(&raw, &target);
    let (path, to) = (target.to_str().unwrap(), folder.path().to_str().unwrap());
    assert_eq!(run("tar", &["-tf", path]), "small.ovf\nsmall.mf\nsmall-disk1.vmdk\n");
    run("tar", &["-C", to, "-xf", path]);
    let part = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let vmdk = part("small-disk1.vmdk");
    run("qemu-img", &["check", "-f", "vmdk", &vmdk]);
    run("qemu-img", &["compare", "-f", "vmdk", "-F", "raw", &vmdk, raw.to_str().unwrap()]);
    // What an importer looks up, by name and namespace.
    let ovf = part("small.ovf");
    for (path, expected) in [
        ("/E:Envelope/E:References/E:File/@*[local-name()='href']", "small-disk1.vmdk"),
        ("//E:Disk/@*[local-name()='capacity']", "67108864"),
        ("//E:Disk/@*[local-name()='fileRef']", "file1"),
        ("//E:VirtualSystem/@*[local-name()='id']", "small"),
        ("//E:Item[R:ResourceType='17']/R:HostResource", "ovf:/disk/vmdisk1"),
        ("//E:Item[R:ResourceType='17']/R:Parent", "3"),
        ("//E:Item[R:ResourceType='6']/R:InstanceID", "3"),
        ("//E:Item[R:ResourceType='3']/R:VirtualQuantity", "1"),
        ("//E:Item[R:ResourceType='4']/R:VirtualQuantity", "1024"),
        ("//E:Item[R:ResourceType='10']/R:Connection", "VM Network"),
        ("//*[local-name()='VirtualSystemType']", "vmx-13"),
        ("//*[local-name()='Config'][@*[local-name()='key']='firmware']/@*[local-name()='value']", "efi"),
    ] {
        let path = path
            .replace("E:", "{http://schemas.dmtf.org/ovf/envelope/1}")
            .replace("R:", "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}");
        assert_eq!(
            run("xmllint", &["--xpath", &format!("string({})", expand(&path)), &ovf]).trim(),
            expected,
            "{path}"
        );
    }
    let size = run("xmllint", &["--xpath", "string(//@*[local-name()='size'])", &ovf]);
    assert_eq!(size.trim(), std::fs::metadata(&vmdk).unwrap().len().to_string());
    // `SHA256(name)= hex` is what sha256sum --check calls the BSD style, but for a space.
    let manifest = std::fs::read_to_string(part("small.mf")).unwrap();
    std::fs::write(part("sums"), manifest.replace("SHA256(", "SHA256 (").replace(")= ", ") = ")).unwrap();
    let check = Command::new("sha256sum").args(["--check", "--strict", "sums"]).current_dir(folder.path()).output();
    assert!(check.unwrap().status.success(), "{manifest}");
}

/// `{namespace}name` as a test that xmllint, which knows no prefixes of ours, understands.
fn expand(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (namespace, after) = after.split_once('}').unwrap();
        let end = after.find(|c: char| !c.is_alphanumeric()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        write!(out, "{before}*[local-name()='{name}' and namespace-uri()='{namespace}']").unwrap();
        rest = after;
    }
    out + rest
}

#[test]
fn gcp_takes_the_tar() {
    if !available("tar") || !available("gzip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let raw = raw_disk(folder.path(), "raw", (37 << 20) + 512);
    let target = folder.path().join("disk.tar.gz");
    let disk = RawFile::open(&raw).unwrap();
    let options = gcp::Options { time: 1_700_000_000, level: 6 };
    gcp::write(&disk, File::create(&target).unwrap(), &options).unwrap();
    let (path, to) = (target.to_str().unwrap(), folder.path().to_str().unwrap());
    run("gzip", &["-t", path]);
    assert_eq!(run("tar", &["-tzf", path]), "disk.raw\n");
    run("tar", &["-C", to, "-xzSf", path]);
    let unpacked = RawFile::open(&folder.path().join("disk.raw")).unwrap();
    assert_eq!(unpacked.size(), 1 << 30);
    assert!(digest(&unpacked) == digest(&disk));
    // What GNU tar writes, as the documentation of the import has it, is read too.
    run("tar", &["-C", to, "--format=oldgnu", "-Sczf", path, "disk.raw"]);
    let back = folder.path().join("back.raw");
    let file = File::create(&back).unwrap();
    gcp::unpack(File::open(&target).unwrap(), Output::new(&file, &back).unwrap(), 1 << 30).unwrap();
    assert!(digest(&RawFile::open(&back).unwrap()) == digest(&disk));
}

/// The bytes of a small disk in every format: a dump that says what moved, beside a digest that says that it did.
/// `SNAPSHOTS=overwrite` accepts new ones. A change here is one for every image that people have built before.
#[test]
fn small_images_are_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let raw = raw_disk(folder.path(), "raw", 16 << 20);
    for format in formats() {
        let target = folder.path().join(format.name);
        let length = format.write(&raw, &target);
        let container = RawFile::open(&target).unwrap();
        let mut dump = format!("{length} bytes, {}\n\n", Digest::of(&std::fs::read(&target).unwrap()));
        let mut parts: Vec<(u64, Vec<u8>)> = Vec::new();
        scan(&container, 4096, Ok, |span: Span| {
            for (at, bytes) in span.runs() {
                match parts.last_mut() {
                    Some((start, before)) if *start + before.len() as u64 == at => before.extend(bytes),
                    _ => parts.push((at, bytes.to_vec())),
                }
            }
            Ok(())
        })
        .unwrap();
        dump.push_str("pages of the file that are not zero:\n");
        for (at, bytes) in &parts {
            writeln!(dump, "{at:#010x} {:#09x} {}", bytes.len(), &Digest::of(bytes).hex()[..16]).unwrap();
        }
        let (text, disk) = (format.open)(container).unwrap();
        dump.push_str("\nblocks of 64 KiB of the disk that are not zero:");
        for (at, _) in digest(&*disk) {
            write!(dump, " {:#x}", at / 65_536).unwrap();
        }
        dump.push('\n');
        write!(dump, "\n{text}\n").unwrap();
        let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format.name).join("small.txt");
        snapbox::Assert::new()
            .action_env("SNAPSHOTS")
            .eq(dump, snapbox::Data::read_from(&pinned, Some(snapbox::data::DataFormat::Text)));
    }
}

/// Clusters that were there first, in an order of their own, around which the rest of a qcow2 image is written: across L2
/// tables, and across the places where reference counts stand.
#[test]
fn qcow2_around_what_is_there() {
    const CLUSTER: u64 = 65_536;
    let folder = tempfile::tempdir().unwrap();
    let (raw, target) = (folder.path().join("raw"), folder.path().join("target"));
    // Every cluster from somewhere on, and every other one. Few of them have something in them.
    for (start, clusters, step) in [(1 << 20, 40_000, 1), (1 << 20, 100, 2), (600 << 20, 9000, 1)] {
        let file = File::create(&raw).unwrap();
        file.set_len(4 << 30).unwrap();
        for at in [0, (1 << 20) - 4096, (3 << 30) + 5, (4 << 30) - 512] {
            file.write_all_at(b"around", at).unwrap();
        }
        let around = File::create(folder.path().join("around")).unwrap();
        around.set_len(4 << 30).unwrap();
        for at in [0, (1 << 20) - 4096, (3 << 30) + 5, (4 << 30) - 512] {
            around.write_all_at(b"around", at).unwrap();
        }
        let image = File::create(&target).unwrap();
        let mut front = qcow2::Front::default();
        for cluster in (0..clusters).step_by(step).chain([1]) {
            let place = front.place(cluster * CLUSTER + 100);
            if !cluster.is_multiple_of(100) && cluster != 1 {
                continue;
            }
            let mark = cluster.to_le_bytes().map(|byte| byte | 1);
            image.write_all_at(&mark, place).unwrap();
            file.write_all_at(&mark, start + cluster * CLUSTER + 100).unwrap();
        }
        let placed: Vec<_> =
            front.runs().iter().map(|run| qcow2::Placed { offset: start + run.offset, ..*run }).collect();
        assert!(placed.windows(2).all(|pair| pair[0].offset + pair[0].size <= pair[1].offset));
        let disk = RawFile::open(&folder.path().join("around")).unwrap();
        let options = qcow2::Options::default();
        let length = qcow2::write_around(&disk, &placed, Output::around(&image, &target), &options).unwrap();
        assert_eq!(image.metadata().unwrap().len(), length);
        // As large as what is in it, with its tables.
        let data: u64 = placed.iter().map(|run| run.size / CLUSTER).sum();
        assert!(length / CLUSTER <= data + 3 + 8 + 6, "{} clusters for {data}", length / CLUSTER);
        let read = qcow2::Reader::open(RawFile::open(&target).unwrap()).unwrap();
        assert!(digest(&read) == digest(&RawFile::open(&raw).unwrap()));
        if available("qemu-img") {
            let (raw, target) = (raw.to_str().unwrap(), target.to_str().unwrap());
            let said = run("qemu-img", &["check", "-f", "qcow2", target]);
            assert!(said.contains("No errors"), "{said}");
            let said = run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", target, raw]);
            assert!(said.contains("identical"), "{said}");
        }
        // What is there is not written again.
        let twice = RawFile::open(&raw).unwrap();
        assert!(qcow2::write_around(&twice, &placed, Output::around(&image, &target), &options).is_err());
        let outside = [qcow2::Placed { offset: 4 << 30, place: 2 * CLUSTER, size: CLUSTER }];
        assert!(qcow2::write_around(&disk, &outside, Output::around(&image, &target), &options).is_err());
    }
}
