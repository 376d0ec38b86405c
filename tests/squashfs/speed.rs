//! Time, size and memory against mksquashfs with the same compressor, level and block size on the same folder.
//!
//!     MOBY_BENCH_TREE=/some/folder cargo test --release --test squashfs speed -- --nocapture
//!
//! `MOBY_BENCH` may hold the cases: `zstd:15@131072,gzip:9@131072`.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use moby::formats::squashfs::Options;

use crate::support::machine::available;
use crate::{image, run, sample};

#[test]
fn speed_and_size_against_mksquashfs() {
    if !available("mksquashfs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let given = std::env::var_os("MOBY_BENCH_TREE");
    let root = match &given {
        Some(path) => path.into(),
        None => {
            let root = folder.path().join("root");
            std::fs::create_dir(&root).unwrap();
            for number in 0..300u32 {
                let size = 1 + number as usize * number as usize % 200_000;
                std::fs::write(root.join(format!("{number}.txt")), sample::text(size, number.into())).unwrap();
            }
            root
        }
    };
    let cases = std::env::var("MOBY_BENCH").unwrap_or_else(|_| "zstd:9@131072,gzip:9@131072".to_string());
    let tree = sample::host_folder(&root);
    let threads = std::thread::available_parallelism().unwrap().get();
    for case in cases.split(',') {
        let (compression, block_size) = case.split_once('@').unwrap();
        let options = Options {
            compression: compression.parse().unwrap(),
            block_size: block_size.parse().unwrap(),
            time: 0,
            threads,
        };
        let (start, (before, _)) = (Instant::now(), processor_seconds());
        let summary = image(&tree, &folder.path().join("ours"), &options);
        let (ours, (after, children)) = (start.elapsed().as_secs_f64(), processor_seconds());
        let (theirs, size) = mksquashfs(&root, &folder.path().join("theirs"), compression, block_size);
        let (ours_busy, theirs_busy) = (after - before, processor_seconds().1 - children);
        println!(
            "{case}: {ours:.2} s ({ours_busy:.2} s of processors) and {} bytes; mksquashfs {theirs:.2} s \
             ({theirs_busy:.2} s) and {size} bytes; time {:.2}, processors {:.2}, size {:.4}",
            summary.size,
            ours / theirs,
            ours_busy / theirs_busy,
            summary.size as f64 / size as f64
        );
        assert!(summary.size as f64 <= 1.01 * size as f64, "larger than mksquashfs's");
    }
}

fn mksquashfs(root: &Path, to: &Path, compression: &str, block_size: &str) -> (f64, u64) {
    let mut command = Command::new("mksquashfs");
    command.args([root, to]).args(["-noappend", "-no-progress", "-quiet", "-b", block_size]);
    match compression.split_once(':') {
        Some((name, level)) => command.args(["-comp", name, "-Xcompression-level", level]),
        None if compression == "none" => command.args(["-noI", "-noD", "-noF", "-noX"]),
        None => command.args(["-comp", compression]),
    };
    let start = Instant::now();
    run(&mut command);
    (start.elapsed().as_secs_f64(), std::fs::metadata(to).unwrap().len())
}

/// Seconds that processors worked for this process, and for those that it started and that ended (proc(5)).
fn processor_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(4).map(|n| n.parse().unwrap()).collect();
    ((fields[0] + fields[1]) / 100.0, (fields[2] + fields[3]) / 100.0)
}
