//! `build.yml`: what a component is made from.
//!
//! A recipe has LinuxKit's keys of a package where they mean something here (`image`, `org`, `arches`, `config`, `tag`)
//! and says in data what a Dockerfile says in commands. Every key is in a [`Table`]: an unknown one is a mistake with its
//! place, and the JSON schema of recipes is written from the same tables.

mod read;

use std::sync::Arc;

use crate::Arch;
use crate::blueprint::schema::{IfAbsent, Key, Shape, TEXTS, Table};
use crate::blueprint::{Settings, Source, Spanned, Value};
use crate::component::users::{Group, User};

/// The file in a component's folder.
pub const FILE_NAME: &str = "build.yml";

/// The organisation of a component that names none.
pub const ORGANISATION: &str = "moby";

/// The Debian suite of a recipe that names none.
pub const SUITE: &str = "bookworm";

/// A recipe, as it stands in its file.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The text it was read from, for messages.
    pub source: Arc<Source>,
    /// The last part of the image's name.
    pub image: Spanned<String>,
    /// The part before it.
    pub organisation: String,
    /// A tag in place of the content's hash. `%h` and `{{.Hash}}` in it stand for the hash.
    pub tag: Option<String>,
    /// What it can be built for.
    pub arches: Vec<Arch>,
    /// The suite that packages come from.
    pub suite: String,
    /// Areas beside `main`: `contrib`, `non-free-firmware`.
    pub areas: Vec<String>,
    /// Packages, each `NAME` or `NAME=VERSION`.
    pub packages: Vec<Spanned<String>>,
    /// Whether what they recommend is taken too.
    pub recommends: bool,
    /// Packages that count as there, in place of the usual ones.
    pub without: Option<Vec<String>>,
    /// Whether the bundle of certificate authorities is made.
    pub certificates: bool,
    /// The only paths of the packages that stay, with what they load.
    pub keep: Vec<Spanned<String>>,
    /// Paths of the packages that go.
    pub drop: Vec<Spanned<String>>,
    /// A program that is built from source.
    pub cargo: Option<Cargo>,
    /// The Dockerfile that makes the image, if it is not made by the recipe.
    pub dockerfile: Option<Dockerfile>,
    /// `buildArgs`, for a Dockerfile.
    arguments: Vec<String>,
    /// `network`, for a Dockerfile.
    network: bool,
    /// Not `disable-cache`, for a Dockerfile.
    cache: bool,
    /// Whether a key says what is in the image.
    says_content: bool,
    /// Folders and files from elsewhere that count as parts of the recipe's folder.
    pub extra_sources: Vec<ExtraSource>,
    /// Single files.
    pub files: Vec<File>,
    /// Symbolic links.
    pub symlinks: Vec<Symlink>,
    /// Accounts.
    pub users: Vec<User>,
    /// Groups.
    pub groups: Vec<Group>,
    /// The kernel, for a kernel image.
    pub kernel: Option<Kernel>,
    /// Whether the packages' processor microcode becomes `ucode.cpio`.
    pub microcode: bool,
    /// How the image is run.
    pub run: Run,
    /// The label `org.mobyproject.config`.
    pub config: Option<Settings>,
}

/// How an image is run: the fields of its configuration.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Run {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub workdir: String,
    pub user: String,
}

/// An image that another program makes from a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The file in the recipe's folder.
    pub file: String,
    /// Arguments of the build, `NAME=value`.
    pub arguments: Vec<String>,
    /// Whether commands of the Dockerfile may use the network.
    pub network: bool,
    /// Whether the cache of docker buildx may be used; buildah's never is.
    pub cache: bool,
}

/// A folder or file from elsewhere.
#[derive(Clone, Debug)]
pub struct ExtraSource {
    /// Where it is, from the recipe's folder on.
    pub from: Spanned<String>,
    /// Where it counts as lying, in the recipe's folder.
    pub to: String,
}

/// A program of a Cargo package.
#[derive(Clone, Debug)]
pub struct Cargo {
    /// The package's folder, from the recipe's.
    pub path: Spanned<String>,
    /// The package's name.
    pub package: String,
    /// The program's name.
    pub binary: String,
    /// Where it goes in the image.
    pub install: Spanned<String>,
}

/// A file or folder of its own.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it goes.
    pub path: Spanned<String>,
    /// What goes there.
    pub content: FileContent,
    /// Permission bits; 0755 for folders and for what is executable here, else 0644.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a file is made from.
#[derive(Clone, Debug)]
pub enum FileContent {
    /// A folder.
    Directory,
    /// A text of the recipe.
    Text(String),
    /// A file of the recipe's folder.
    Source(Spanned<String>),
}

/// A symbolic link.
#[derive(Clone, Debug)]
pub struct Symlink {
    /// Where it goes.
    pub path: Spanned<String>,
    /// Where it points.
    pub target: String,
}

/// Where a kernel comes from.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// A package of the suite, or the metapackage that leads to one. `$ARCH` in it is the architecture's name.
    Package(Spanned<String>),
    /// Debian's source, compiled without modules.
    Source {
        /// The package that has it.
        package: Spanned<String>,
        /// Files of options in the recipe's folder, later ones over earlier ones. `$ARCH` in them is the
        /// architecture's name.
        config: Vec<Spanned<String>>,
    },
}

/// LinuxKit's packages name more architectures than images are built for here.
const ARCHES: Shape = Shape::List(&Shape::Word(&["amd64", "arm64", "riscv64", "s390x", "ppc64le"]));
const ID: Shape = Shape::Integer(0, u32::MAX as u64 - 1);
/// A path from the recipe's folder on.
const INSIDE: Shape = Shape::Matching(r"(?!/)(?!(?:.*/)?\.\.(?:/.*)?$)[^\n\r]+");
const IMAGE_PATH: Shape = Shape::Matching(r"(?!(?:.*/)?\.\.(?:/.*)?$)[^\n\r]*[^/.\n\r][^\n\r]*");
const NAME: Shape = Shape::Matching(r"(?!.{129})[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*");
const TAG: Shape = Shape::Matching(r"(?![.-])(?=.{1,80}$)(?:[A-Za-z0-9._-]|%h|\{\{ ?\.Hash ?\}\})+");
const PACKAGES: Shape = Shape::List(&Shape::Matching(r"[a-z0-9][a-z0-9+.-]*(?:=[0-9A-Za-z.+:~-]+)?"));
const ACCOUNT: Shape = Shape::Matching("[a-z_][a-z0-9_-]{0,31}");
const FIELD: Shape = Shape::Matching(r"/[^:,\n\r]*");
const ARGUMENTS: Shape = Shape::List(&Shape::Matching(r"[A-Za-z_][A-Za-z0-9_]*=(?!@lkt:)[^\n\r]*"));
const EXTRA: Shape = Shape::List(&Shape::Matching(r"[^:\n\r]+:[^:\n\r]+"));

/// The keys of a recipe.
pub static RECIPE: Table = Table {
    name: "a recipe",
    keys: &[
        Key::new("image", NAME, "last part of the image's name").required(),
        Key::new("org", Shape::Line, "part of the name before it: an organisation, with or without a registry")
            .or(IfAbsent::Text(ORGANISATION)),
        Key::new("tag", TAG, "the tag; %h or {{.Hash}} in it stands for the content's hash").or(IfAbsent::Text("%h")),
        Key::new("arches", ARCHES, "what it can be built for; others than amd64 and arm64 are passed over")
            .or(IfAbsent::Texts(&["amd64", "arm64"])),
        Key::new("suite", Shape::Line, "Debian suite that packages come from").or(IfAbsent::Text(SUITE)),
        Key::new("areas", TEXTS, "areas of the archive beside main: contrib, non-free-firmware")
            .or(IfAbsent::Texts(&[])),
        Key::new("packages", PACKAGES, "Debian packages, NAME or NAME=VERSION; what they depend on comes with them"),
        Key::new("recommends", Shape::Bool, "what the packages recommend too").or(IfAbsent::Bool(false)),
        Key::new("without", TEXTS, "packages that count as there; replaces the usual list")
            .told("those that only maintainer scripts use"),
        Key::new("ca-certificates", Shape::Bool, "make the bundle of certificate authorities")
            .or(IfAbsent::Bool(false)),
        Key::new("keep", TEXTS, "the only paths of the packages that stay, with the libraries they load")
            .told("everything"),
        Key::new("drop", TEXTS, "paths of the packages that go").told("documentation only"),
        Key::new("cargo", Shape::Map(&CARGO), "a program that is built from source, static"),
        Key::new("extra-sources", EXTRA, "folders and files from elsewhere, as parts of this folder: FROM:TO")
            .or(IfAbsent::Texts(&[])),
        Key::new("dockerfile", INSIDE, "the image is made from this Dockerfile by another program")
            .told("`Dockerfile`, if it is there and no key says what is in the image"),
        Key::new("buildArgs", ARGUMENTS, "with a Dockerfile: arguments of the build, NAME=value")
            .or(IfAbsent::Texts(&[])),
        Key::new("network", Shape::Bool, "with a Dockerfile: its commands may use the network")
            .or(IfAbsent::Bool(false)),
        Key::new("disable-cache", Shape::Bool, "with a Dockerfile: nothing of an earlier build is used")
            .or(IfAbsent::Bool(false)),
        Key::new("gitrepo", Shape::Line, "where the sources are, for readers"),
        Key::new("files", Shape::List(&Shape::Map(&FILE)), "files and folders"),
        Key::new("symlinks", Shape::List(&Shape::Map(&SYMLINK)), "symbolic links"),
        Key::new("users", Shape::List(&Shape::Map(&USER)), "accounts"),
        Key::new("groups", Shape::List(&Shape::Map(&GROUP)), "groups"),
        Key::new("kernel", Shape::Map(&KERNEL), "makes a kernel image"),
        Key::new("microcode", Shape::Bool, "makes ucode.cpio of the packages' processor microcode")
            .or(IfAbsent::Bool(false)),
        Key::new("entrypoint", TEXTS, "fixed first part of the command"),
        Key::new("command", TEXTS, "the command, or the rest of it"),
        Key::new("env", TEXTS, "environment (NAME=value)"),
        Key::new("workdir", Shape::Line, "working folder"),
        Key::new("user", Shape::Line, "user and group of the image's configuration"),
        Key::new("config", Shape::Map(&crate::blueprint::LABEL), "how it runs (label org.mobyproject.config)"),
    ],
};

/// The keys of `cargo`.
pub static CARGO: Table = Table {
    name: "`cargo`",
    keys: &[
        Key::new("path", Shape::Line, "folder of the Cargo package, from the recipe's").or(IfAbsent::Text(".")),
        Key::new("package", Shape::Line, "name of the package").required(),
        Key::new("binary", Shape::Line, "name of the program").told("that of the package"),
        Key::new("install", IMAGE_PATH, "where it goes in the image").told("/usr/bin/BINARY"),
    ],
};

/// The keys of an entry of `files`.
pub static FILE: Table = Table {
    name: "a file of a recipe",
    keys: &[
        Key::new("path", IMAGE_PATH, "where it goes").required(),
        Key::new("source", INSIDE, "a file of the recipe's folder"),
        Key::new("contents", Shape::Text, "its text"),
        Key::new("directory", Shape::Bool, "a folder").or(IfAbsent::Bool(false)),
        Key::new("mode", Shape::Mode, "permission bits, octal").told("0644; 0755 for folders and executable sources"),
        Key::new("uid", ID, "owner").or(IfAbsent::Integer(0)),
        Key::new("gid", ID, "group").or(IfAbsent::Integer(0)),
    ],
};

/// The keys of an entry of `symlinks`.
pub static SYMLINK: Table = Table {
    name: "a symbolic link",
    keys: &[
        Key::new("path", IMAGE_PATH, "where it goes").required(),
        Key::new("target", Shape::Matching(r"[^\n\r]{1,4095}"), "where it points").required(),
    ],
};

/// The keys of an entry of `users`.
pub static USER: Table = Table {
    name: "a user",
    keys: &[
        Key::new("name", ACCOUNT, "its name").required(),
        Key::new("uid", ID, "its number").required(),
        Key::new("gid", ID, "its first group").told("its own number"),
        Key::new("home", FIELD, "its home").or(IfAbsent::Text("/")),
        Key::new("shell", FIELD, "its shell").or(IfAbsent::Text("/usr/sbin/nologin")),
        Key::new("groups", TEXTS, "names of further groups"),
    ],
};

/// The keys of an entry of `groups`.
pub static GROUP: Table = Table {
    name: "a group",
    keys: &[Key::new("name", ACCOUNT, "its name").required(), Key::new("gid", ID, "its number").required()],
};

/// The keys of `kernel`.
pub static KERNEL: Table = Table {
    name: "`kernel` of a recipe",
    keys: &[
        Key::new("package", Shape::Line, "package with the kernel, or the one that leads to it; $ARCH is replaced"),
        Key::new("source", Shape::Line, "package with the kernel's source, to be compiled, in place of `package`"),
        Key::new(
            "config",
            Shape::List(&INSIDE),
            "with `source`: files of options on top of tinyconfig; $ARCH is replaced",
        ),
    ],
};

/// A tag's text with the hash put in, which `%h` and LinuxKit's `{{.Hash}}` stand for.
pub fn expand_tag(tag: &str, hash: &str) -> String {
    let mut out = tag.replace("%h", hash);
    for form in ["{{.Hash}}", "{{ .Hash }}"] {
        out = out.replace(form, hash);
    }
    out
}

/// The JSON schema of recipes, draft 2020-12.
pub fn json_schema() -> Value {
    crate::blueprint::json_schema_of("moby component", &RECIPE)
}
