//! `--input-tar`: the bytes of an earlier output, and nothing but them.

use moby::store::manifest::media_type;

use crate::bench::Bench;
use crate::fixtures::{Images, Layer, Packing, awkward_layers, noise};
use crate::server::Server;

fn images() -> Images {
    let mut images = Images::default();
    images.image("app/awkward:1", &awkward_layers(), Packing::Gzip, "amd64");
    images.image("app/zstd:1", &[Layer::new().file("z", &noise(4, 70_000)).bytes()], Packing::Zstd, "amd64");
    let modules = Layer::new().file("lib/modules/1/a.ko", &noise(5, 5000)).bytes();
    let kernel = Layer::new().file("kernel", &noise(6, 9000)).file("kernel.tar", &modules).bytes();
    images.image("app/kernel:1", &[kernel], Packing::Gzip, "amd64");
    let foreign = images.image("", &[Layer::new().file("f", &noise(7, 5000)).bytes()], Packing::Gzip, "arm64");
    images.index("app/foreign:1", media_type::INDEX, vec![foreign]);
    images
}

fn blueprint(host: &str) -> String {
    format!(
        "kernel: {{image: \"{host}/app/kernel:1\", cmdline: quiet}}\n\
         init: [\"{host}/app/zstd:1\"]\n\
         services: [{{name: a, image: \"{host}/app/awkward:1\"}}, {{name: b, image: \"{host}/app/awkward:1\", readonly: true}}]\n\
         volumes:\n- {{name: v, image: \"{host}/app/zstd:1\"}}\n- {{name: f, image: \"{host}/app/foreign:1\", format: oci}}\n\
         files: [{{path: z2, contents: new}}]\n"
    )
}

const OFFLINE: [&str; 9] = ["build", "--offline", "--format", "tar", "--arch", "amd64", "-o", "x.tar", "web.yml"];

#[test]
fn a_store_without_layers_and_an_earlier_output_make_the_same() {
    let server = Server::honest(images());
    let bench = Bench::new(&blueprint(&server.host()));
    let one = bench.tar("one.tar", &[]);
    bench.works(&["build", "--arch", "amd64", "--dir", "first", "web.yml"]);
    let asked = server.log().len();
    bench.works(&["cache", "clean", "--layers"]);
    let ran = bench.run(&OFFLINE);
    assert_eq!(ran.status, 4, "{}", ran.said);
    assert_eq!(bench.tar("two.tar", &["--offline", "--input-tar", "one.tar"]), one);
    // Any format, and a changed blueprint: another order, another command line, a container less.
    bench.works(&["cache", "clean", "--layers"]);
    bench.works(&["build", "--arch", "amd64", "--offline", "--dir", "second", "--input-tar", "one.tar", "web.yml"]);
    for file in ["web-kernel", "web-initrd.img", "web-cmdline"] {
        assert_eq!(bench.read(&format!("first/{file}")), bench.read(&format!("second/{file}")), "{file}");
    }
    assert_eq!(server.log().len(), asked);

    let text = blueprint(&server.host())
        .replace("quiet", "loud")
        .replace("name: a,", "name: c,")
        .replace("name: v,", "name: w,");
    bench.write("web.yml", text);
    bench.works(&["cache", "clean", "--layers"]);
    let from_input = bench.tar("three.tar", &["--offline", "--input-tar", "one.tar"]);
    assert_eq!(server.log().len(), asked);
    assert_eq!(bench.tar("four.tar", &[]), from_input);
    assert!(server.log().len() > asked, "the layers were not fetched again");
}

#[test]
fn what_the_earlier_output_does_not_have_is_fetched() {
    let server = Server::honest(images());
    let bench = Bench::new(&blueprint(&server.host()));
    let one = bench.tar("one.tar", &[]);
    // A tampered output: one byte of one file.
    let mut tampered = one.clone();
    let wanted = noise(4, 70_000);
    let at = tampered.windows(64).position(|window| window == &wanted[..64]).unwrap();
    tampered[at + 10] ^= 1;
    // Everywhere: the file is there twice.
    while let Some(next) = tampered.windows(64).position(|window| window == &wanted[..64]) {
        tampered[next + 10] ^= 1;
    }
    bench.write("tampered.tar", &tampered);
    bench.works(&["cache", "clean", "--layers"]);
    let words: Vec<&str> = OFFLINE.iter().copied().chain(["--input-tar", "tampered.tar"]).collect();
    let ran = bench.run(&words);
    assert_eq!(ran.status, 4, "{}", ran.said);
    assert!(ran.said.contains("is not in the earlier output; building without --input-tar"), "{}", ran.said);
    assert!(!bench.path("x.tar").exists());
    assert_eq!(bench.tar("two.tar", &["--input-tar", "tampered.tar"]), one);
    // With everything in the store it has no say at all.
    let asked = server.log().len();
    assert_eq!(bench.tar("three.tar", &["--offline", "--input-tar", "tampered.tar"]), one);
    assert_eq!(server.log().len(), asked);
}

#[test]
fn what_is_no_earlier_output_is_refused() {
    let server = Server::honest(images());
    let bench = Bench::new(&blueprint(&server.host()));
    bench.tar("one.tar", &[]);
    bench.write("foreign.tar", Layer::new().file("x", b"y").bytes());
    bench.write("junk.tar", [7; 5000]);
    bench.write("cut.tar", &bench.read("one.tar")[..30_000]);
    for (file, status, part) in [
        ("foreign.tar", 3, "no root file system that was built"),
        ("junk.tar", 3, "not readable as a tar"),
        ("cut.tar", 3, "--input-tar cut.tar"),
        ("gone.tar", 1, "--input-tar gone.tar"),
        ("x.tar", 2, "is what this build writes"),
    ] {
        bench.write("x.tar", "");
        let words: Vec<&str> = OFFLINE.iter().copied().chain(["--input-tar", file]).collect();
        let ran = bench.run(&words);
        assert_eq!(ran.status, status, "{file}: {}", ran.said);
        assert!(ran.said.contains(part), "{file}: {}", ran.said);
    }
    let words: Vec<&str> = OFFLINE.iter().copied().chain(["--input-tar", "one.tar", "--pull"]).collect();
    assert_eq!(bench.run(&words).status, 2);
}
