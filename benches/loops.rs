//! How long the inner loops take:
//!
//!     cargo bench --bench loops [-- NAME]
//!
//! On all cores; RAYON_NUM_THREADS=1 for one. Entries are counted in thousands.

mod inner_loops;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};

/// MiB of the inputs; entries are about 100,000.
const SIZE: usize = 25;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("loops");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_secs(1));
    for one in inner_loops::ALL {
        let entries = (SIZE * inner_loops::ENTRIES) as u64;
        let bytes = (SIZE << 20) as u64;
        group.throughput(if one.bytes { Throughput::Bytes(bytes) } else { Throughput::Elements(entries) });
        // The inputs are made when the loop is wanted, and go before the next one's are made.
        group.bench_function(one.name, |bencher| {
            let mut run = (one.prepare)(SIZE);
            bencher.iter(&mut run);
        });
    }
    group.finish();
    criterion.final_summary();
}
