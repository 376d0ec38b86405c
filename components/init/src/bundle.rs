//! `runtime.json`: what is done around a container, outside of what the OCI runtime specification knows. Written by
//! the builder beside `config.json`; keys as in LinuxKit.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;

use crate::error::{Doing, Failure, Result};
use crate::mount_options::MountOptions;
use crate::mounts::{mount_through, mount_words};
use crate::netlink::{Interface, Network};

/// A runtime.json is small; a bigger file than this is no such file.
const LARGEST: u64 = 1 << 20;

/// The file's keys. All of them may be missing or null.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RuntimeFile {
    cgroups: Option<Vec<String>>,
    mounts: Option<Vec<Mount>>,
    mkdir: Option<Vec<String>>,
    interfaces: Option<Vec<LinkRequest>>,
    #[serde(rename = "bindNS")]
    bind_namespaces: Option<BoundNamespaces>,
}

/// A mount in the machine's mount namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mount {
    destination: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    source: Option<String>,
    options: Option<Vec<String>>,
}

/// A network interface of the container.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LinkRequest {
    name: String,
    add: Option<String>,
    peer: Option<String>,
    #[serde(rename = "createInRoot")]
    create_in_root: Option<bool>,
}

/// Where namespaces of the container are bound, for others to join.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BoundNamespaces {
    cgroup: Option<String>,
    ipc: Option<String>,
    mnt: Option<String>,
    net: Option<String>,
    pid: Option<String>,
    user: Option<String>,
    uts: Option<String>,
}

/// A container's folder with what its runtime.json says.
#[derive(Debug)]
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
    runtime: RuntimeFile,
}

/// Where something is mounted.
#[derive(Debug)]
enum Target {
    /// In the machine.
    Path(PathBuf),
    /// Inside the container: the folder below the mount.
    Inside(OwnedFd),
}

impl Target {
    fn path(&self) -> PathBuf {
        match self {
            Target::Path(path) => path.clone(),
            Target::Inside(folder) => PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())),
        }
    }
}

impl Bundle {
    /// Reads runtime.json; a bundle without one has nothing to prepare.
    pub fn read(path: &Path) -> Result<Bundle> {
        let file = path.join("runtime.json");
        let runtime = match fs::metadata(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => RuntimeFile::default(),
            Err(error) => return Err(error).at("reading", &file),
            Ok(metadata) if metadata.len() > LARGEST => {
                return Err(Failure::new(format!("{}: larger than {LARGEST} bytes", file.display())));
            }
            Ok(_) => RuntimeFile::parse(&fs::read(&file).at("reading", &file)?).at("parsing", &file)?,
        };
        Ok(Bundle { path: path.to_owned(), runtime })
    }

    /// Mounts, then folders, then control groups. When something fails nothing stays mounted: services are prepared
    /// again and again until it works.
    pub fn prepare(&self) -> Result<()> {
        let mut made = Vec::new();
        let result = self.prepare_all(&mut made);
        if result.is_err() {
            for target in made.iter().rev() {
                let _ = unmount(target.path(), UnmountFlags::DETACH);
            }
        }
        result
    }

    /// `made` gets every new mount.
    fn prepare_all(&self, made: &mut Vec<Target>) -> Result<()> {
        for mount in self.runtime.mounts.iter().flatten() {
            made.extend(self.mount(mount)?);
        }
        for folder in self.runtime.mkdir.iter().flatten() {
            self.folder(folder)?;
        }
        for group in self.runtime.cgroups.iter().flatten() {
            make_cgroup(group)?;
        }
        Ok(())
    }

    /// After creation, before the start: interfaces and bound namespaces of the process `pid`.
    pub fn connect(&self, pid: i32) -> Result<()> {
        for link in self.runtime.interfaces.iter().flatten() {
            link.give_to(pid)?;
        }
        for (kind, place) in self.runtime.bind_namespaces.iter().flat_map(BoundNamespaces::places) {
            let place = Path::new(place);
            if let Some(folder) = place.parent() {
                fs::create_dir_all(folder).at("creating", folder)?;
            }
            fs::OpenOptions::new().create(true).append(true).open(place).at("creating", place)?;
            mount_bind(format!("/proc/{pid}/ns/{kind}"), place).at("binding a namespace to", place)?;
        }
        Ok(())
    }

    /// Takes down what was mounted inside the bundle, the last first. Mounts elsewhere are meant to stay.
    pub fn release(&self) {
        for mount in self.runtime.mounts.iter().flatten().rev() {
            let words = mount.options.iter().flatten().map(String::as_str);
            let inside = Path::new(&mount.destination).starts_with(&self.path);
            if inside && !MountOptions::parse(words).remount {
                // Something of the container may still hold it; then it goes when that goes.
                let _ = unmount(mount.destination.as_str(), UnmountFlags::DETACH);
            }
        }
    }

    /// Gives the place of a new mount.
    fn mount(&self, mount: &Mount) -> Result<Option<Target>> {
        let words = mount.options.clone().unwrap_or_default();
        let kind = mount.kind.as_deref().unwrap_or_default();
        let mut source = mount.source.clone().unwrap_or_default();
        let mut options = MountOptions::parse(words.iter().map(String::as_str));
        let mut words = words;
        if kind == "bind" && !options.bind {
            words.push("bind".to_owned());
            options.bind = true;
        }
        // A relative source is beside config.json, as in the OCI runtime specification.
        if options.bind && !source.starts_with('/') {
            source = self.path.join(&source).to_string_lossy().into_owned();
        }
        for key in ["upperdir", "workdir"].into_iter().filter(|_| kind == "overlay") {
            if let Some(folder) = options.value(key) {
                fs::create_dir_all(folder).at("creating", Path::new(folder))?;
            }
        }
        // Words alone change a mount that is there.
        let new = options.bind || !options.remount && !kind.is_empty();
        if mount.destination.starts_with('/') {
            let target = Path::new(&mount.destination);
            let file = options.bind && fs::metadata(&source).is_ok_and(|metadata| !metadata.is_dir());
            if !target.exists() && !file {
                fs::create_dir_all(target).at("creating", target)?;
            } else if !target.exists() {
                fs::File::create(target).at("creating", target)?;
            }
            mount_words(&source, target, kind, &words)?;
            return Ok(new.then(|| Target::Path(target.to_owned())));
        }
        // Through descriptors, so that a link inside the container cannot lead out of it.
        let below = Target::Inside(self.folder(&mount.destination)?);
        let mut above = None;
        mount_through(&source, &below.path(), kind, &words, || {
            Ok(above.insert(Target::Inside(self.folder(&mount.destination)?)).path())
        })?;
        Ok(new.then_some(below))
    }

    /// Makes a folder and what is missing above it: an absolute path in the machine, a relative one in the
    /// container's root file system, where links are followed as inside the container.
    fn folder(&self, path: &str) -> Result<OwnedFd> {
        let (root, rest) = match path.strip_prefix('/') {
            Some(rest) => (PathBuf::from("/"), rest),
            None => (self.path.join("rootfs"), path),
        };
        folder_in(&root, Path::new(rest))
    }
}

/// Opens `path` inside `root`, making the folders that are missing (0755).
fn folder_in(root: &Path, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = open(root, flags, Mode::empty()).at("opening", root)?;
    let mut sofar = PathBuf::from(".");
    let mut folder = openat2(&base, &sofar, flags, Mode::empty(), ResolveFlags::IN_ROOT).at("opening", root)?;
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                match mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    // A read-only place may hold it already; opening it tells.
                    Err(Errno::ROFS) => {}
                    Err(error) => return Err(error).at("creating", &root.join(path)),
                }
                sofar.push(name);
            }
            Component::ParentDir => sofar.push(".."),
            _ => continue,
        }
        folder = openat2(&base, &sofar, flags, Mode::empty(), ResolveFlags::IN_ROOT).at("opening", &root.join(path))?;
    }
    Ok(folder)
}

/// Makes a control group in every hierarchy that is mounted.
fn make_cgroup(name: &str) -> Result<()> {
    let relative = Path::new(name.trim_start_matches('/'));
    if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(Failure::new(format!("control group {name:?}: not a plain path")));
    }
    let base = Path::new("/sys/fs/cgroup");
    if base.join("cgroup.controllers").exists() {
        let path = base.join(relative);
        return fs::create_dir_all(&path).at("creating", &path);
    }
    for hierarchy in fs::read_dir(base).at("reading", base)?.flatten() {
        let path = hierarchy.path().join(relative);
        fs::create_dir_all(&path).at("creating", &path)?;
    }
    Ok(())
}

impl RuntimeFile {
    fn parse(bytes: &[u8]) -> Result<RuntimeFile, std::io::Error> {
        serde_json::from_slice(bytes).map_err(std::io::Error::from)
    }
}

impl LinkRequest {
    /// Creates or finds the interface and gives it to the network namespace of `pid`. The peer of a pair stays.
    fn give_to(&self, pid: i32) -> Result<()> {
        let peer = self.peer.as_deref().filter(|peer| !peer.is_empty());
        let kind = match self.add.as_deref().filter(|kind| !kind.is_empty()) {
            Some(kind) => Some(kind),
            None => peer.map(|_| "veth"),
        };
        let network = Network::open()?;
        match kind {
            Some(kind) if peer.is_none() && self.create_in_root != Some(true) => return self.create_inside(kind, pid),
            Some(kind) => network.create_link(&self.name, kind, peer)?,
            None => {}
        }
        network.move_link(Interface::named(&self.name)?.index, pid)
    }

    /// Some kinds (WireGuard) remember the namespace in which they were made, so a thread goes there to make it.
    fn create_inside(&self, kind: &str, pid: i32) -> Result<()> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let namespace = fs::File::open(&path).at("opening", &path)?;
        let inside = || {
            use std::os::fd::AsFd;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .doing("entering a container's network")?;
            Network::open()?.create_link(&self.name, kind, None)
        };
        std::thread::scope(|scope| scope.spawn(inside).join())
            .map_err(|_| Failure::new("the thread in the container's network failed"))?
    }
}

impl BoundNamespaces {
    fn places(&self) -> Vec<(&'static str, &str)> {
        [
            ("cgroup", &self.cgroup),
            ("ipc", &self.ipc),
            ("mnt", &self.mnt),
            ("net", &self.net),
            ("pid", &self.pid),
            ("user", &self.user),
            ("uts", &self.uts),
        ]
        .into_iter()
        .filter_map(|(kind, place)| Some((kind, place.as_deref().filter(|place| !place.is_empty())?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn reads_what_linuxkit_writes() {
        let text = br#"{"cgroups": ["a"], "mounts": [
            {"destination": "/c/tmp", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/c/tmp", "options": ["remount", "private"]},
            {"destination": "/c/rootfs", "type": "overlay", "source": "overlay", "options": ["lowerdir=/l"]}],
            "mkdir": [], "interfaces": [{"name": "vethin", "add": "", "peer": "vethout", "createInRoot": true}],
            "bindNS": {"cgroup": "", "ipc": "", "mnt": "", "net": "/run/netns/x", "pid": "", "user": "", "uts": ""},
            "namespace": ""}"#;
        let file = RuntimeFile::parse(text).unwrap();
        assert_eq!(file.mounts.unwrap().len(), 3);
        assert_eq!(file.bind_namespaces.unwrap().places(), [("net", "/run/netns/x")]);
        let link = &file.interfaces.unwrap()[0];
        assert_eq!((link.peer.as_deref(), link.create_in_root), (Some("vethout"), Some(true)));
    }

    #[test]
    fn nulls_and_nothing() {
        assert!(RuntimeFile::parse(b"{}").is_ok());
        assert!(RuntimeFile::parse(br#"{"mounts": null, "bindNS": null, "other": 1}"#).is_ok());
        for wrong in [&b""[..], b"[]1", b"{\"mounts\": 3}", b"\xff", &[b'['; 100_000]] {
            assert!(RuntimeFile::parse(wrong).is_err());
        }
    }

    #[test]
    fn links_stay_inside_the_container() {
        let root = std::env::temp_dir().join(format!("moby-init-bundle-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("srv")).unwrap();
        symlink("/srv", root.join("out")).unwrap();
        symlink("../../../..", root.join("up")).unwrap();
        folder_in(&root, Path::new("out/a/b")).unwrap();
        folder_in(&root, Path::new("up/c/../../../d")).unwrap();
        assert!(root.join("srv/a/b").is_dir() && root.join("c").is_dir() && root.join("d").is_dir());
        fs::remove_dir_all(root).unwrap();
    }

    fn mounts_below(folder: &Path) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let lines = mounts.lines().filter(|line| line.contains(folder.to_str().unwrap()));
        lines.map(str::to_owned).collect()
    }

    /// Mounts are for root.
    fn can_mount(folder: &Path) -> bool {
        let done = rustix::mount::mount("tmpfs", folder, "tmpfs", rustix::mount::MountFlags::empty(), None);
        done.is_ok() && unmount(folder, UnmountFlags::DETACH).is_ok()
    }

    fn bundle(name: &str, mounts: &str) -> Bundle {
        let path = std::env::temp_dir().join(format!("moby-init-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("rootfs")).unwrap();
        let mounts = mounts.replace("BUNDLE", path.to_str().unwrap());
        fs::write(path.join("runtime.json"), format!("{{\"mounts\": [{mounts}]}}")).unwrap();
        Bundle::read(&path).unwrap()
    }

    #[test]
    fn a_failure_leaves_no_mounts() {
        let last = [
            // No such kind of file system.
            r#"{"destination": "BUNDLE/d", "type": "moby-none", "source": "x"}"#,
            // Nothing to bind.
            r#"{"destination": "BUNDLE/missing/e", "type": "bind", "source": "none-such", "options": ["ro"]}"#,
        ];
        for last in last {
            let bundle = bundle(
                "leak",
                &format!(
                    r#"{{"destination": "BUNDLE/a", "type": "tmpfs", "source": "tmpfs"}},
                    {{"destination": "BUNDLE/a", "options": ["remount", "private"]}},
                    {{"destination": "inside", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "private"]}},
                    {{"destination": "BUNDLE/b", "type": "bind", "source": "rootfs", "options": ["ro"]}}, {last}"#
                ),
            );
            if can_mount(&bundle.path) {
                for _ in 0..3 {
                    assert!(bundle.prepare().is_err());
                }
                assert_eq!(mounts_below(&bundle.path), [""; 0]);
            }
            fs::remove_dir_all(&bundle.path).unwrap();
        }
    }

    #[test]
    fn options_of_mounts_inside_of_the_container() {
        let bundle = bundle(
            "inside",
            r#"{"destination": "in/side", "type": "bind", "source": "rootfs", "options": ["ro", "private"]}"#,
        );
        if can_mount(&bundle.path) {
            let done = bundle.prepare();
            let mounts = mounts_below(&bundle.path);
            let _ = unmount(bundle.path.join("rootfs/in/side"), UnmountFlags::DETACH);
            done.unwrap();
            assert!(matches!(mounts.as_slice(), [one] if one.contains(" ro,")), "{mounts:?}");
        }
        fs::remove_dir_all(&bundle.path).unwrap();
    }

    #[test]
    fn cgroup_names_are_checked() {
        assert!(make_cgroup("../x").is_err());
    }
}
