//! dm-verity trees, judged by veritysetup: the same bytes and root hash, and its verdict on damage.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use moby::formats::verity::{self, Options};

const SALT: [u8; 32] = [0xa5; 32];
const UUID: &str = "01234567-89ab-8def-8123-456789abcdef";

fn options() -> Options {
    let digits: String = UUID.chars().filter(|c| *c != '-').collect();
    let uuid = std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap());
    Options { salt: SALT.to_vec(), uuid: Some(uuid) }
}

fn data(blocks: u64) -> Vec<u8> {
    (0..blocks * 4096).map(|at| (at / 4096 * 31 + at % 251) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// veritysetup's output; `None` if it is not installed.
fn veritysetup(arguments: &[&str]) -> Option<(bool, String)> {
    let program = "/usr/sbin/veritysetup";
    if !Path::new(program).exists() {
        assert!(std::env::var_os("CI").is_none(), "veritysetup is not installed");
        eprintln!("not run: veritysetup is not installed");
        return None;
    }
    let done = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    Some((done.status.success(), text))
}

#[test]
fn veritysetup_makes_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for blocks in [1, 2, 127, 128, 129, 257, 16_384, 16_385] {
        let bytes = data(blocks);
        fs::write(path("data"), &bytes).unwrap();
        let _ = fs::remove_file(path("theirs"));
        let mut out = File::create(path("ours")).unwrap();
        let made = verity::write(&mut bytes.as_slice(), bytes.len() as u64, &mut out, &options()).unwrap();
        assert_eq!(fs::metadata(path("ours")).unwrap().len(), made.size);
        let (salt, uuid) = (format!("--salt={}", hex(&SALT)), format!("--uuid={UUID}"));
        let arguments = ["format", salt.as_str(), uuid.as_str(), &path("data"), &path("theirs")];
        let Some((done, text)) = veritysetup(&arguments) else { return };
        assert!(done, "{text}");
        let stated = text.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim();
        assert_eq!(stated, hex(&made.root_hash), "{blocks} blocks");
        let (ours, mut theirs) = (fs::read(path("ours")).unwrap(), fs::read(path("theirs")).unwrap());
        // Of a device of one block veritysetup writes the superblock only, without the rest of its block.
        theirs.resize(theirs.len().next_multiple_of(4096), 0);
        assert!(ours == theirs, "{blocks} blocks: the trees differ");
        let (done, text) = veritysetup(&["verify", &path("data"), &path("ours"), &hex(&made.root_hash)]).unwrap();
        assert!(done, "{text}");
        let (done, text) = veritysetup(&["dump", &path("ours")]).unwrap();
        assert!(done && text.contains(UUID) && text.contains(&format!("Data blocks:     \t{blocks}\n")), "{text}");
    }
}

#[test]
fn the_first_wrong_block_is_named() {
    let good = data(300);
    let mut tree = Cursor::new(Vec::new());
    let made = verity::write(&mut good.as_slice(), good.len() as u64, &mut tree, &options()).unwrap();
    let tree = tree.into_inner();
    let check = |data: &[u8], tree: &[u8], root| {
        let mut data = data;
        verity::verify(&mut data, &mut Cursor::new(tree), root)
    };
    let (superblock, wrong) = check(&good, &tree, made.root_hash).unwrap();
    assert_eq!((superblock, wrong), (made.superblock.clone(), None));

    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    let place = |data: &[u8], tree: &[u8], root| {
        let wrong = check(data, tree, root).unwrap().1.unwrap();
        (wrong.level, wrong.block)
    };
    for block in [0, 127, 128, 255, 256, 299] {
        let data = flipped(&good, block * 4096 + 77);
        assert_eq!(place(&data, &tree, made.root_hash), (None, block as u64));
    }
    // Block 1 is the top, 2 to 4 the hashes of the data; padding counts too.
    assert_eq!(place(&good, &flipped(&tree, 2 * 4096 - 1), made.root_hash), (Some(1), 0));
    assert_eq!(place(&good, &flipped(&tree, 3 * 4096), made.root_hash), (Some(0), 1));
    assert_eq!(place(&good, &flipped(&tree, 5 * 4096 - 1), made.root_hash), (Some(0), 2));
    assert_eq!(place(&good, &tree, [0; 32]), (Some(1), 0));
    // The salt is in every hash; what is cut off, and what is no superblock, is an error.
    assert_eq!(place(&good, &flipped(&tree, 90), made.root_hash), (Some(1), 0));
    assert!(check(&good[..299 * 4096], &tree, made.root_hash).is_err());
    assert!(check(&good, &tree[..4 * 4096], made.root_hash).is_err());
    assert!(check(&good, &flipped(&tree, 3), made.root_hash).is_err());
}

#[test]
fn threads_change_nothing() {
    let bytes = data(3000);
    let write = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut out = Cursor::new(Vec::new());
            let made = verity::write(&mut bytes.as_slice(), bytes.len() as u64, &mut out, &options()).unwrap();
            (made, out.into_inner())
        })
    };
    let one = write(1);
    assert!(one == write(2) && one == write(16));
}

#[test]
fn impossible_wishes_are_refused() {
    let mut out = Cursor::new(Vec::new());
    for size in [0, 1, 4095, 4097] {
        assert!(verity::write(&mut [0; 8192].as_slice(), size, &mut out, &options()).is_err());
    }
    let long = Options { salt: vec![0; 257], ..options() };
    assert!(verity::write(&mut [0; 4096].as_slice(), 4096, &mut out, &long).is_err());
    assert!(verity::write(&mut [0; 4096].as_slice(), 8192, &mut out, &options()).is_err());
}
