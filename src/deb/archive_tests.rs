use std::path::Path;

use super::super::deb_file::tests::deb;
use super::super::fetch::{Answer, Validators};
use super::super::mirror::Mirrors;
use super::super::opening::Freshness;
use super::super::signature::Keyring;
use super::super::test_key::{Special, TestKey, day};
use super::*;
use crate::ui::Mode;
use std::time::{Duration, SystemTime};

/// A network that must not be needed, or that does not answer.
struct NoNetwork;

impl Fetch for NoNetwork {
    fn document(&self, url: &str, _: u64, _: &Validators) -> Result<Answer> {
        Err(Error::network(format!("{url}: no network")))
    }

    fn file(&self, url: &str, _: &Store, _: &Digest, _: u64, _: &crate::ui::Task) -> Result<std::fs::File> {
        Err(Error::network(format!("{url}: no network")))
    }
}

/// A mirror that is asked as if it were far away, and counts.
struct Far<'a> {
    folder: &'a Path,
    asked: AtomicUsize,
}

impl Fetch for Far<'_> {
    fn document(&self, url: &str, limit: u64, known: &Validators) -> Result<Answer> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let local = format!("file:{}{}", self.folder.display(), url.strip_prefix("http://far").unwrap());
        Ok(match fetch::document(&NoNetwork, &local, limit, known)? {
            Answer::Found(bytes, _) => {
                let etag = Some(Digest::of(&bytes).to_string());
                match known.etag == etag {
                    true => Answer::NotModified,
                    false => Answer::Found(bytes, Validators { etag, last_modified: None }),
                }
            }
            other => other,
        })
    }

    fn file(
        &self,
        url: &str,
        store: &Store,
        digest: &Digest,
        size: u64,
        task: &crate::ui::Task,
    ) -> Result<std::fs::File> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let local = format!("file:{}{}", self.folder.display(), url.strip_prefix("http://far").unwrap());
        fetch::file(&NoNetwork, &local, store, digest, size, task)
    }
}

/// A mirror in a folder, a store and a keyring.
struct World {
    folder: tempfile::TempDir,
    key: TestKey,
}

impl World {
    fn new() -> World {
        World { folder: tempfile::tempdir().unwrap(), key: TestKey::new(1, Special::default()) }
    }

    fn mirror(&self) -> std::path::PathBuf {
        self.folder.path().join("mirror")
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.mirror().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Publishes a suite with packages (name, version, more fields), made so many days after the key.
    fn publish(&self, suite: &str, days: u32, packages: &[(&str, &str, &str)]) {
        let mut list = String::new();
        for (name, version, fields) in packages {
            let bytes = deb(name, version, &[(&format!("./usr/bin/{name}"), version)]);
            let filename = format!("pool/{name}_{version}.deb");
            self.put(&filename, &bytes);
            let (digest, size) = (Digest::of(&bytes).hex(), bytes.len());
            list.push_str(&format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\nFilename: {filename}\nSize: {size}\nSHA256: {digest}\n{fields}\n"
            ));
        }
        let packed = zstd::encode_all(list.as_bytes(), 3).unwrap();
        let by_hash = format!("dists/{suite}/main/binary-amd64/by-hash/SHA256/{}", Digest::of(&packed).hex());
        self.put(&by_hash, &packed);
        let date = ["Tue, 14 Nov 2023 22:13:20 UTC", "Wed, 15 Nov 2023 22:13:20 UTC"][days as usize];
        let text = format!(
            "Origin: Debian\nSuite: stable\nCodename: {suite}\nDate: {date}\nValid-Until: Fri, 24 Nov 2023 00:00:00 UTC\nAcquire-By-Hash: yes\nArchitectures: amd64 arm64\nComponents: main contrib\nSHA256:\n {} {} main/binary-amd64/Packages\n {} {} main/binary-amd64/Packages.zst\n",
            Digest::of(list.as_bytes()).hex(),
            list.len(),
            Digest::of(&packed).hex(),
            packed.len()
        );
        self.put(&format!("dists/{suite}/InRelease"), self.key.sign(&text, days).as_bytes());
    }

    fn sources(&self, base: &str) -> Sources {
        Sources {
            mirrors: Mirrors::find(base, Path::new("/nowhere")).unwrap(),
            keyring: Keyring::parse(&self.key.public, "test keyring").unwrap(),
            now: day(2),
            freshness: Freshness::default(),
            check_valid_until: true,
        }
    }

    fn local(&self) -> Sources {
        self.sources(&format!("file:{}", self.mirror().display()))
    }

    fn open<'a>(&self, fetch: &'a dyn Fetch, sources: &Sources) -> Result<Archive<'a>> {
        self.open_for(fetch, sources, "x", &[], Arch::Amd64)
    }

    fn open_for<'a>(
        &self,
        fetch: &'a dyn Fetch,
        sources: &Sources,
        suite: &str,
        areas: &[&str],
        arch: Arch,
    ) -> Result<Archive<'a>> {
        let store = Store::open(&self.folder.path().join("store")).unwrap();
        let areas = areas.iter().map(|area| area.to_string()).collect();
        let wanted = Wanted { suite: suite.to_string(), areas, arch };
        Archive::open(&store, fetch, &Ui::new(Mode::Quiet), sources, &wanted)
    }
}

fn names(packages: &[Package]) -> String {
    packages.iter().map(|package| package.to_string()).collect::<Vec<_>>().join(", ")
}

fn resolve(archive: &Archive, names: &[&str]) -> Vec<Package> {
    let requests: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    archive.resolve(&requests, &ResolveOptions::default()).unwrap()
}

#[test]
fn packages_become_layers_and_are_fetched_once() {
    let world = World::new();
    world.publish("x", 0, &[("a", "1", "Depends: b, v"), ("b", "1", ""), ("c", "1", "Provides: v")]);
    world.publish("x-security", 1, &[("b", "1+deb1", "")]);
    let archive = world.open(&NoNetwork, &world.local()).unwrap();
    assert_eq!(archive.suites().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "x-security"]);
    let packages = resolve(&archive, &["a"]);
    assert_eq!(names(&packages), "a 1, b 1+deb1, c 1");
    assert_eq!(archive.package("b").unwrap().unwrap().version.as_str(), "1+deb1");
    assert!(archive.package("v").unwrap().is_none());
    let layers = archive.fetch_all(&packages).unwrap();
    let paths: Vec<_> =
        layers.iter().map(|layer| String::from_utf8_lossy(&layer.index.entries[0].path).into_owned()).collect();
    assert_eq!(paths, ["usr/bin/a", "usr/bin/b", "usr/bin/c"]);
    std::fs::remove_dir_all(world.mirror().join("pool")).unwrap();
    let again = archive.fetch_all(&packages).unwrap();
    assert!(again.iter().zip(&layers).all(|(a, b)| a.diff_id == b.diff_id));
    assert_eq!(std::fs::read_dir(world.folder.path().join("store/blobs/sha256")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(world.folder.path().join("store/temporary")).unwrap().count(), 0);
}

#[test]
fn altered_files_are_refused_at_every_step() {
    let world = World::new();
    world.publish("x", 0, &[("a", "1", "")]);
    let refused = |what: &str| {
        let error = match world.open(&NoNetwork, &world.local()) {
            Ok(archive) => archive.fetch(&resolve(&archive, &["a"])[0]).unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert!(error.message().contains(what), "{what}: {error}");
    };
    let alter = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let file_in =
        |folder: &str| std::fs::read_dir(world.mirror().join(folder)).unwrap().next().unwrap().unwrap().path();
    alter(&file_in("pool"));
    refused("signed for");
    let _ = std::fs::remove_dir_all(world.folder.path().join("store"));
    alter(&file_in("dists/x/main/binary-amd64/by-hash/SHA256"));
    refused("signed for");
    alter(&world.mirror().join("dists/x/InRelease"));
    let _ = std::fs::remove_dir_all(world.folder.path().join("store"));
    refused("no signature of");
}

#[test]
fn a_package_under_another_name_is_refused() {
    let world = World::new();
    world.publish("x", 0, &[("a", "1", "")]);
    let archive = world.open(&NoNetwork, &world.local()).unwrap();
    let mut package = resolve(&archive, &["a"]).remove(0);
    package.name = "b".into();
    assert!(archive.fetch(&package).unwrap_err().message().contains("is a 1 for all"));
}

#[test]
fn mistakes_in_what_is_wanted_are_explained() {
    let world = World::new();
    world.publish("x", 0, &[]);
    let refusal = |suite: &str, areas: &[&str], arch| {
        let error = world.open_for(&NoNetwork, &world.local(), suite, areas, arch).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        format!("{error}; {}", error.hint_text().unwrap())
    };
    assert!(refusal("y", &[], Arch::Amd64).contains("no mirror has the suite \"y\""));
    assert!(refusal("x-backports", &[], Arch::Amd64).contains("no mirror has the suite \"x-backports\""));
    assert!(refusal("x", &["non-free"], Arch::Amd64).contains("it has main, contrib"));
    assert!(world.open_for(&NoNetwork, &world.local(), "x", &["contrib"], Arch::Amd64).is_ok());
    // Listed as an architecture, although it has no packages.
    assert!(world.open_for(&NoNetwork, &world.local(), "x", &[], Arch::Arm64).is_ok());
}

#[test]
fn the_mirror_is_asked_as_seldom_as_allowed() {
    let world = World::new();
    world.publish("x", 0, &[("a", "1", "")]);
    let mirror = world.mirror();
    let far = Far { folder: &mirror, asked: AtomicUsize::new(0) };
    let mut sources = world.sources("http://far");
    let asked = |sources: &Sources| {
        let archive = world.open(&far, sources).unwrap();
        (far.asked.swap(0, Ordering::Relaxed), names(&resolve(&archive, &["a"])))
    };
    // InRelease of three suites, of which one exists, and its list.
    assert_eq!(asked(&sources), (4, "a 1".to_string()));
    // The files were written just now, long after the time of this test: not fresh, so asked again.
    assert_eq!(asked(&sources), (3, "a 1".to_string()));
    world.publish("x", 1, &[("a", "2", "")]);
    sources.freshness = Freshness::Offline;
    assert_eq!(asked(&sources), (0, "a 1".to_string()));
    sources.freshness = Freshness::default();
    assert_eq!(asked(&sources), (4, "a 2".to_string()));
    // An older one than is known is not believed.
    world.publish("x", 0, &[("a", "1", "")]);
    assert_eq!(asked(&sources).1, "a 2");
    // Without an answer, what is known is used.
    let archive = world.open(&NoNetwork, &sources).unwrap();
    assert_eq!(names(&resolve(&archive, &["a"])), "a 2");
    // The files' own time: fresh for ten minutes.
    sources.check_valid_until = false;
    sources.now = SystemTime::now();
    assert_eq!(asked(&sources), (0, "a 2".to_string()));
    sources.now += Duration::from_secs(601);
    assert_eq!(asked(&sources).0, 3);
    // With nothing known, no answer is an error of the network.
    let world = World::new();
    assert_eq!(world.open(&NoNetwork, &world.sources("http://far")).unwrap_err().exit(), Exit::Network);
}

#[test]
fn release_files_that_have_ended_to_be_valid_are_refused_unless_that_is_wanted() {
    let world = World::new();
    world.publish("x", 0, &[("a", "1", "")]);
    let mut sources = world.local();
    sources.now = day(30);
    assert!(world.open(&NoNetwork, &sources).unwrap_err().message().contains("ended to be valid"));
    sources.check_valid_until = false;
    assert!(world.open(&NoNetwork, &sources).is_ok());
}

#[test]
fn suites_bring_their_updates() {
    let shown = |suite| {
        let suites = suites_of(suite).into_iter().map(|(name, needed)| if needed { name } else { format!("{name}?") });
        suites.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown("bookworm"), "bookworm bookworm-updates? bookworm-security?");
    assert_eq!(shown("bookworm-backports"), "bookworm bookworm-updates? bookworm-security? bookworm-backports");
    assert_eq!(shown("trixie-security"), "trixie trixie-updates? trixie-security");
    assert_eq!(shown("sid"), "sid");
    assert_eq!(shown("experimental"), "sid experimental");
}
