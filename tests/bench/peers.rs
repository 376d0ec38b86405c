//! One writer of this library as a program of its own, so that `tests/bench/run` can hold it against the program that
//! others write the same format with: whole process against whole process.
//!
//!     cargo build --release --example peers
//!     peers layer LAYER.tar STORE                        puts a layer into a store; prints its digest
//!     peers FORMAT[:COMPRESSION] STORE DIGEST OUT        writes a file system of a layer of the store
//!     peers qcow2[:COMPRESSION] RAW OUT                  writes a container of a disk
//!
//! FORMAT is erofs (none, lz4-fast, lz4), squashfs (none, gzip:9, zstd:15; in blocks of 256 KiB), iso or fat; a COMPRESSION of
//! qcow2 is none, zlib or zstd. What is measured is what a build does when the layer is there: reading its index,
//! flattening it, writing the image with every file's digest checked. The image is not synced; the others sync nothing.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use moby::error::{Error, Result};
use moby::formats::disk::{Output, RawFile, SparseFile};
use moby::formats::source::Source;
use moby::formats::{erofs, fat, iso9660, qcow2, squashfs};
use moby::rootfs::{Kind, Tree, flatten, write_error};
use moby::store::{Digest, Store};

/// Of everything: the layers of the benchmark have it too.
const TIME: i64 = 1_600_000_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["layer", layer, store] => import(Path::new(layer), Path::new(store)),
        [format, disk, out] => convert(format, Path::new(disk), Path::new(out)),
        [format, store, digest, out] => write(format, Path::new(store), digest, Path::new(out)),
        _ => Err(Error::usage("the words are: layer TAR STORE, or FORMAT STORE DIGEST OUT, or qcow2 RAW OUT")),
    };
    if let Err(error) = done {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::io("opening", path, error))
}

fn import(layer: &Path, store: &Path) -> Result<()> {
    let layer = Store::open(store)?.inflate(open(layer)?)?.commit(None)?;
    println!("{}", layer.diff_id.hex());
    Ok(())
}

fn write(format: &str, store: &Path, digest: &str, out: &Path) -> Result<()> {
    let digest = Digest::from_hex(digest).ok_or_else(|| Error::usage("no digest"))?;
    let layer = Store::open(store)?.inflated(&digest).ok_or_else(|| Error::usage("no such layer"))?;
    let tree = flatten(&[layer], TIME)?;
    let (format, compression) = format.split_once(':').unwrap_or((format, "none"));
    let file = File::create(out).map_err(|error| Error::io("creating", out, error))?;
    match format {
        "erofs" => {
            let compression = match compression {
                "none" => erofs::Compression::None,
                "lz4-fast" => erofs::Compression::Lz4Fast,
                "lz4" => erofs::Compression::Lz4,
                _ => return Err(Error::usage("erofs has none, lz4-fast and lz4")),
            };
            let options = erofs::Options { compression, time: TIME, ..erofs::Options::default() };
            let mut out = BufWriter::with_capacity(256 << 10, file);
            erofs::write(&tree, &mut out, &options)?;
            out.flush().map_err(write_error)
        }
        "squashfs" => {
            let compression = compression.parse()?;
            let options = squashfs::Options { compression, time: TIME, ..squashfs::Options::default() };
            let mut out = BufWriter::with_capacity(256 << 10, file);
            squashfs::write(&tree, &mut out, &options)?;
            out.flush().map_err(write_error)
        }
        "iso" => {
            let options = iso9660::Options { label: "BENCH".into(), time: TIME, joliet: true, ..Default::default() };
            write_source(&iso9660::Iso::new(&tree, &options)?, &file)
        }
        "fat" => {
            let options = fat::Options { kind: Some(fat::Kind::Fat32), time: TIME, ..fat::Options::default() };
            write_source(&fat::Fat::new(&files(&tree)?, &options)?, &file)
        }
        _ => Err(Error::usage(format!("no format {format}"))),
    }
}

fn files(tree: &Tree) -> Result<Vec<fat::File>> {
    let mut files = Vec::new();
    tree.walk_all(|path, id| {
        let content: Option<Arc<dyn Source>> = match &tree.inode(id).kind {
            Kind::File(content) => Some(Arc::new(content.clone())),
            _ => None,
        };
        files.push(fat::File { path: String::from_utf8_lossy(path).into_owned(), content });
        Ok(())
    })?;
    Ok(files)
}

fn write_source(source: &dyn Source, file: &File) -> Result<()> {
    let mut out = SparseFile::new(file);
    source.write_to(&mut out)?;
    out.finish().map(drop).map_err(write_error)
}

fn convert(format: &str, disk: &Path, out: &Path) -> Result<()> {
    let compression = match format.strip_prefix("qcow2").map(|rest| rest.trim_start_matches(':')) {
        Some("" | "none") => None,
        Some("zlib") => Some(qcow2::Compression::ZLIB),
        Some("zstd") => Some(qcow2::Compression::ZSTD),
        _ => return Err(Error::usage("qcow2 has none, zlib and zstd")),
    };
    let file = File::create(out).map_err(|error| Error::io("creating", out, error))?;
    let options = qcow2::Options { compression };
    qcow2::write(&RawFile::open(disk)?, Output::new(&file, out)?, &options).map(drop)
}
