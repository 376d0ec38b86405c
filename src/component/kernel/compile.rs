//! Compiling a kernel from Debian's source.
//!
//! The package `linux-source-VERSION` holds one archive. It is unpacked into a folder of the store that is deleted
//! afterwards, configured (`make tinyconfig` and the options of the recipe on top) and compiled by the machine's tools.
//! What comes out is a tree as a kernel's package has it, so that [`super::image_of_packages`] makes the image.
//!
//! Limits: no modules (`CONFIG_MODULES`), everything is compiled in; nothing is signed. The bytes depend on the source,
//! the options, the time and the versions of compiler and linker. They do not depend on folder, user, host or the
//! number of processors; none of those reaches the compiler.
//!
//! It takes 4 GiB of disk, ten minutes on two processors, and what [`host_tools`] looks for. The result is kept in the
//! store under the digest of what went in.

use std::fs;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::host_tools::{self, HostTools};
use super::options::{OptionFile, Options};
use crate::Arch;
use crate::component::toolchain::unpack;
use crate::error::{Context, Error, IoContext, Result};
use crate::formats::tar::{Member, MemberKind, Writer};
use crate::rootfs::{Content, Kind, Tree, flatten, write_error};
use crate::store::{Checked, Digest, Hasher, Store, Xattrs};
use crate::ui::Ui;

/// Derived data of this kind holds compiled kernels; the number goes up when the way they are compiled changes.
const KIND: &str = "kernel-build-1";
/// How much of what make says is shown when it fails.
const SAID: u64 = 4 << 10;
/// `.config`, the release, the lists of what is built in.
const TEXT_LIMIT: u64 = 16 << 20;

/// What is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// A tree with `usr/src/linux-source-*.tar.xz`.
    pub source: &'a Tree,
    /// Files of options, later ones over earlier ones.
    pub options: &'a [OptionFile],
    /// What it shall run on.
    pub arch: Arch,
    /// When it counts as compiled, in seconds since the epoch; `uname -v` shows the day.
    pub time: i64,
}

/// Compiles a kernel, or takes it from the store. The tree has `boot/vmlinuz-VERSION`, `boot/config-VERSION` and
/// `lib/modules/VERSION` with the lists of what is built in.
///
/// # Errors
/// Exit status 1 if the machine lacks tools or the compilation fails, 2 for options that the kernel does not take, 3 if
/// the package has no source.
pub fn compile(order: &Order<'_>, store: &Store, ui: &Ui) -> Result<Tree> {
    let options = Options::read(order.options)?;
    if options.value("MODULES").is_some_and(|value| value != "n") {
        return Err(Error::usage("CONFIG_MODULES is asked for, and kernels with modules are not compiled here")
            .hint("turn every driver on with =y, or take a kernel of Debian with kernel: {package: ...}"));
    }
    let (name, source) = source(order.source)?;
    let tools = host_tools::find(order.arch, &options)?;
    let key = key(order, &source, &options, &tools);
    let damaged = |path: &Path| ui.warn(format!("{} is damaged; it is compiled again", path.display()));
    let Checked { path, size, digest } = match store.checked(KIND, &key, damaged)? {
        Some(there) => there,
        None => {
            let task = ui.task("compile", format!("{name} for {}", order.arch), None);
            let folder = store.temporary_folder()?;
            unpack_source(&name, &source, store, folder.path())?;
            let build = Build { order, tools: &tools, folder: source_folder(folder.path())? };
            build.configure(&options)?;
            build.make(&["-j", &processors().to_string(), build.target()], "compiling the kernel")?;
            let file = store.temporary_file()?;
            build.collect(file.as_file())?;
            drop(task);
            store.put_checked(KIND, &key, file)?
        }
    };
    flatten(&[store.archive_in_file(&path.as_path().into(), 0, size, &digest)?], order.time)
}

/// Name and content of the only source in a tree.
fn source(tree: &Tree) -> Result<(String, Content)> {
    let folder = tree.resolve(b"usr/src").into_iter().flat_map(|folder| tree.names(folder));
    let mut found = folder.filter_map(|(name, id)| {
        let name = std::str::from_utf8(name).ok()?;
        let shown = name.strip_suffix(".tar.xz").filter(|name| name.starts_with("linux-source-"))?;
        match &tree.inode(id).kind {
            Kind::File(content) => Some((shown.to_string(), content.clone())),
            _ => None,
        }
    });
    let none = || {
        Error::refused("the packages have no kernel source: there is no usr/src/linux-source-VERSION.tar.xz")
            .hint("name a package such as linux-source-6.12")
    };
    let first = found.next().ok_or_else(none)?;
    match found.next() {
        Some((other, _)) => {
            Err(Error::refused(format!("the packages have two kernel sources: {} and {other}", first.0)))
        }
        None => Ok(first),
    }
}

fn key(order: &Order<'_>, source: &Content, options: &Options, tools: &HostTools) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(source.digest.as_bytes());
    hasher.field(options.text().as_bytes());
    hasher.field(order.arch.name().as_bytes());
    hasher.field(tools.identity.as_bytes());
    hasher.update(&order.time.to_le_bytes());
    hasher.finish()
}

/// Unpacks what a build needs: all but the documentation, of which it reads the Kconfig files, and programs that test
/// kernels. Symbolic links in those lead to anywhere.
fn unpack_source(name: &str, source: &Content, store: &Store, folder: &Path) -> Result<()> {
    let layer = store.inflate(source.open()?)?.commit(None)?;
    let needed = |path: &[u8]| {
        let mut parts = path.splitn(3, |byte| *byte == b'/');
        let (Some(_), Some(first), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return true };
        match first {
            b"Documentation" => rest.ends_with(b"Kconfig") || rest.ends_with(b"Makefile"),
            b"tools" => !rest.starts_with(b"testing/"),
            _ => true,
        }
    };
    unpack(&[(name.to_string(), layer)], folder, needed).context("unpacking the kernel's source")
}

/// The only folder in a folder.
fn source_folder(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder).at("reading", folder)?;
    match entries.next() {
        Some(entry) => Ok(entry.at("reading", folder)?.path()),
        None => Err(Error::refused("the archive of the kernel's source is empty")),
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

struct Build<'a> {
    order: &'a Order<'a>,
    tools: &'a HostTools,
    folder: PathBuf,
}

impl Build<'_> {
    /// What make is told to make.
    fn target(&self) -> &'static str {
        match self.order.arch {
            Arch::Amd64 => "bzImage",
            Arch::Arm64 => "Image",
        }
    }

    fn configure(&self, options: &Options) -> Result<()> {
        self.make(&["tinyconfig"], "configuring the kernel")?;
        let path = self.folder.join(".config");
        let mut config = fs::OpenOptions::new().append(true).open(&path).at("opening", &path)?;
        // Of several lines for one option the last holds.
        config.write_all(options.text().as_bytes()).at("writing", &path)?;
        drop(config);
        self.make(&["olddefconfig"], "configuring the kernel")?;
        options.check(&self.text(".config")?)
    }

    /// Runs make in the source. Nothing of this process's environment reaches it but where programs are.
    fn make(&self, arguments: &[&str], doing: &str) -> Result<()> {
        let log = self.folder.join("../make.log");
        let said = fs::File::create(&log).at("making", &log)?;
        let also = said.try_clone().at("making", &log)?;
        let arch = match self.order.arch {
            Arch::Amd64 => "x86_64",
            Arch::Arm64 => "arm64",
        };
        let mut command = Command::new("make");
        command.args(arguments).current_dir(&self.folder).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for (name, value) in [
            ("ARCH", arch),
            ("CROSS_COMPILE", self.tools.prefix),
            ("KBUILD_BUILD_TIMESTAMP", &day(self.order.time)),
            ("KBUILD_BUILD_USER", "moby"),
            ("KBUILD_BUILD_HOST", "moby"),
            ("KBUILD_BUILD_VERSION", "1"),
            ("LOCALVERSION", ""),
            ("LC_ALL", "C"),
            ("TZ", "UTC0"),
        ] {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(said).stderr(also);
        let status = command.status().map_err(|error| Error::failed(format!("make cannot be run: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::failed(format!("{doing} failed ({status}):\n{}", end_of(&log)?)))
    }

    fn text(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        let mut text = String::new();
        let file = fs::File::open(&path).at("opening", &path)?;
        file.take(TEXT_LIMIT).read_to_string(&mut text).at("reading", &path)?;
        Ok(text)
    }

    /// Writes the finished parts to an archive.
    fn collect(&self, out: &fs::File) -> Result<()> {
        let version = self.text("include/config/kernel.release")?.trim_end().to_string();
        if version.is_empty() || version.contains('/') {
            return Err(Error::failed(format!("the kernel calls itself \"{}\"", version.escape_debug())));
        }
        let kernel = match self.order.arch {
            Arch::Amd64 => "arch/x86/boot/bzImage",
            Arch::Arm64 => "arch/arm64/boot/Image",
        };
        let mut tar = Writer::new(BufWriter::with_capacity(256 << 10, out));
        let modules = format!("lib/modules/{version}");
        for (path, from) in [
            (format!("boot/config-{version}"), ".config"),
            (format!("boot/vmlinuz-{version}"), kernel),
            (modules.clone(), ""),
            (format!("{modules}/modules.builtin"), "modules.builtin"),
            (format!("{modules}/modules.builtin.modinfo"), "modules.builtin.modinfo"),
        ] {
            let member = |mode, kind| Member {
                path: path.as_bytes(),
                mode,
                uid: 0,
                gid: 0,
                mtime: self.order.time,
                xattrs: const { &Xattrs::new() },
                records: &[],
                kind,
            };
            if from.is_empty() {
                tar.member(&member(0o755, MemberKind::Folder)).map_err(write_error)?;
                continue;
            }
            let content = Content::host_file(&self.folder.join(from))?;
            tar.member(&member(0o644, MemberKind::File(content.size))).map_err(write_error)?;
            content.copy_to(&mut tar)?;
        }
        tar.finish().and_then(|mut out| out.flush()).map_err(write_error)
    }
}

/// The last lines of a file.
fn end_of(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).at("opening", path)?;
    let size = file.metadata().at("reading", path)?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(SAID))).at("reading", path)?;
    let mut bytes = Vec::new();
    file.take(SAID).read_to_end(&mut bytes).at("reading", path)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = if size > SAID { text.split_once('\n').map_or(&*text, |(_, rest)| rest) } else { &text };
    Ok(whole.trim_end().to_string())
}

/// A time's day as `2023-11-14`, in UTC. The calendar is counted from the first of March of the year 0, so that a leap
/// day is the last one of its year.
fn day(time: i64) -> String {
    let days = time.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        for (time, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_400, "2000-02-29"),
            (951_868_799, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_700_000_000, "2023-11-14"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(time), expected);
        }
    }

    #[test]
    fn the_end_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(end_of(&path).unwrap(), "one\ntwo");
        let long: String = (0..2000).map(|at| format!("line {at}\n")).collect();
        fs::write(&path, long).unwrap();
        let end = end_of(&path).unwrap();
        assert!(end.starts_with("line ") && end.ends_with("line 1999") && end.len() <= 4096, "{end}");
    }

    #[test]
    fn what_cannot_be_compiled_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let refusal = |text: &str| {
            let options = [OptionFile { name: "x.config".into(), text: text.into() }];
            let order = Order { source: &Tree::new(0), options: &options, arch: Arch::Amd64, time: 0 };
            compile(&order, &store, &Ui::new(crate::ui::Mode::Quiet)).unwrap_err()
        };
        assert!(refusal("CONFIG_MODULES=y\n").message().contains("CONFIG_MODULES"));
        assert!(refusal("CONFIG_SMP=y\n").message().contains("no kernel source"));
        assert!(refusal("nonsense\n").message().contains("x.config line 1"));
    }
}
