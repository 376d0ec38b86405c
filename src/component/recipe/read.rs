//! Reading a recipe: every mistake of the file in one go.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::{
    CARGO, Cargo, Dockerfile, ExtraSource, FILE, FILE_NAME, File, FileContent, GROUP, KERNEL, Kernel, ORGANISATION,
    RECIPE, Recipe, Run, SUITE, SYMLINK, Symlink, USER,
};
use crate::Arch;
use crate::blueprint::{Decoder, Diagnostic, Fields, Node, Origin, Source, Spanned, read_document};
use crate::component::embedded;
use crate::component::users::{Group, User, is_account_name};
use crate::deb::{Version, is_package_name};
use crate::error::{Error, Result};

/// Architectures that LinuxKit's packages name; images are built here for those that there is an [`Arch`] of.
const ARCH_WORDS: [(&str, Option<Arch>); 5] =
    [("amd64", Some(Arch::Amd64)), ("arm64", Some(Arch::Arm64)), ("riscv64", None), ("s390x", None), ("ppc64le", None)];

/// The Dockerfile of a recipe that names none.
const DOCKERFILE: &str = "Dockerfile";

/// Keys that say what is in the image, which a Dockerfile says otherwise.
const CONTENT: [&str; 17] = [
    "packages",
    "cargo",
    "files",
    "symlinks",
    "users",
    "groups",
    "kernel",
    "microcode",
    "entrypoint",
    "command",
    "env",
    "workdir",
    "user",
    "ca-certificates",
    "keep",
    "drop",
    "without",
];

/// Keys that are about the building of a Dockerfile.
const ABOUT_DOCKERFILE: [&str; 3] = ["buildArgs", "network", "disable-cache"];

/// The largest recipe that is read.
const SIZE_LIMIT: u64 = 1 << 20;

impl Recipe {
    /// Reads `build.yml` of a component's folder. Gives warnings too.
    pub fn of_folder(folder: &Path) -> Result<(Recipe, Vec<Diagnostic>)> {
        Recipe::of_file(folder, FILE_NAME)
    }

    /// Reads the recipe of a component's folder that has another name than `build.yml`.
    pub fn of_file(folder: &Path, file_name: &str) -> Result<(Recipe, Vec<Diagnostic>)> {
        let path = folder.join(file_name);
        let text = match std::fs::metadata(&path) {
            Ok(found) if found.len() > SIZE_LIMIT => {
                return Err(Error::usage(format!("{} is larger than {SIZE_LIMIT} bytes", path.display())));
            }
            Ok(_) => std::fs::read(&path).map_err(|error| Error::io("reading", &path, error))?,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(missing(folder, file_name));
            }
            Err(error) => return Err(Error::io("reading", &path, error)),
        };
        let text = String::from_utf8(text)
            .map_err(|error| Error::usage(format!("{} is not UTF-8: {}", path.display(), error.utf8_error())))?;
        let source = Source::new(path.display().to_string(), text, Origin::Folder(folder.to_owned()));
        let (mut recipe, warnings) = Recipe::read(&source)?;
        // What a Dockerfile makes is said nowhere else: a recipe without content has no other meaning.
        if recipe.dockerfile.is_none() && !recipe.says_content && folder.join(DOCKERFILE).is_file() {
            recipe.dockerfile = Some(recipe.dockerfile_named(DOCKERFILE));
        }
        Ok((recipe, warnings))
    }

    /// Reads a recipe's text.
    pub fn read(source: &Arc<Source>) -> Result<(Recipe, Vec<Diagnostic>)> {
        read_document(source, |decoder, node| recipe(decoder, node, source))
    }
}

fn missing(folder: &Path, file_name: &str) -> Error {
    if folder.is_file() {
        return Error::usage(format!("{} is a file, and a component is a folder", folder.display()))
            .hint(format!("name the folder in which its {file_name} lies"));
    }
    let error = Error::usage(format!("{} has no {file_name}, so it is no component", folder.display()));
    if folder.join(DOCKERFILE).exists() {
        return error.hint(format!("it has a Dockerfile: a {file_name} with the line `image: NAME` makes it one"));
    }
    if !folder.exists() {
        return Error::usage(format!("there is no folder {}", folder.display())).hint(match embedded::near(folder) {
            Some(near) => format!("did you mean {near}, which comes with the program (moby pkg ls)?"),
            None => "in blueprints it is relative to the blueprint's own folder".to_owned(),
        });
    }
    error.hint("the book's chapter on components says what stands in it")
}

fn recipe(decoder: &mut Decoder<'_, '_>, node: &Node, source: &Arc<Source>) -> Option<Recipe> {
    let fields = decoder.fields(node, &RECIPE)?;
    let image = fields.get("image").and_then(|node| name_part(decoder, node, "`image`"));
    let organisation = fields.get("org").and_then(|node| organisation(decoder, node));
    let arches = fields.get("arches").and_then(|node| {
        decoder.list(node, "`arches`", |decoder, node| {
            decoder.word(node, "an entry of `arches`", &ARCH_WORDS).map(|arch| arch.value)
        })
    });
    let arches = arches.map(|arches| arches.into_iter().flatten().collect());
    let flag = |decoder: &mut Decoder<'_, '_>, key: &str| {
        let value = fields.get(key).and_then(|node| decoder.bool(node, &format!("`{key}`")));
        value.is_some_and(|value| value.value)
    };
    let _ = fields.get("gitrepo").map(|node| decoder.clean_text(node, "`gitrepo`"));
    let dockerfile = fields.get("dockerfile").and_then(|node| folder_path(decoder, node, "`dockerfile`"));
    let mut recipe = Recipe {
        source: source.clone(),
        organisation: organisation.map_or_else(|| ORGANISATION.to_owned(), |text| text.value),
        tag: fields.get("tag").and_then(|node| tag(decoder, node)),
        arches: arches.unwrap_or_else(|| Arch::ALL.to_vec()),
        suite: fields
            .get("suite")
            .and_then(|node| decoder.clean_text(node, "`suite`"))
            .and_then(|text| archive_name(decoder, text, "`suite`"))
            .unwrap_or_else(|| SUITE.to_owned()),
        areas: list(decoder, &fields, "areas")
            .into_iter()
            .filter_map(|text| archive_name(decoder, text, "an entry of `areas`"))
            .collect(),
        packages: packages(decoder, &fields),
        recommends: flag(decoder, "recommends"),
        without: plain_list(decoder, &fields, "without"),
        certificates: flag(decoder, "ca-certificates"),
        keep: list(decoder, &fields, "keep"),
        drop: list(decoder, &fields, "drop"),
        cargo: fields.get("cargo").and_then(|node| cargo(decoder, node)),
        dockerfile: None,
        arguments: entries(decoder, &fields, "buildArgs", argument),
        network: flag(decoder, "network"),
        cache: !flag(decoder, "disable-cache"),
        says_content: CONTENT.iter().any(|key| fields.key(key).is_some()),
        extra_sources: entries(decoder, &fields, "extra-sources", extra_source),
        files: entries(decoder, &fields, "files", file),
        symlinks: entries(decoder, &fields, "symlinks", symlink),
        users: entries(decoder, &fields, "users", user),
        groups: entries(decoder, &fields, "groups", group),
        kernel: fields.get("kernel").and_then(|node| kernel(decoder, node)),
        microcode: flag(decoder, "microcode"),
        run: Run {
            entrypoint: plain_list(decoder, &fields, "entrypoint").unwrap_or_default(),
            command: plain_list(decoder, &fields, "command").unwrap_or_default(),
            env: plain_list(decoder, &fields, "env").unwrap_or_default(),
            workdir: plain(decoder, &fields, "workdir").unwrap_or_default(),
            user: plain(decoder, &fields, "user").unwrap_or_default(),
        },
        config: fields.get("config").and_then(|node| decoder.label(node)),
        image: image?,
    };
    let about_packages = ["recommends", "without", "ca-certificates", "keep", "drop", "microcode"];
    // A kernel image is made of the kernel's package alone.
    let (useless, why) = match (fields.get("kernel"), fields.get("packages")) {
        (Some(_), _) => (&[["packages"].as_slice(), &about_packages].concat()[..], "and `kernel` names its own"),
        (None, None) => (&about_packages[..], "and there is no `packages`"),
        (None, Some(_)) => (&[][..], ""),
    };
    for key in useless {
        if let Some(named) = fields.key(key) {
            decoder.mistake(named, format!("`{key}` is about the files of packages, {why}"));
        }
    }
    if let Some(file) = dockerfile {
        recipe.dockerfile = Some(recipe.dockerfile_named(&file));
        for named in CONTENT.iter().filter_map(|key| Some((key, fields.key(key)?))) {
            decoder.mistake(named.1, format!("`{}` says what is in the image, and so does `dockerfile`", named.0));
        }
    } else if recipe.says_content {
        for named in ABOUT_DOCKERFILE.iter().filter_map(|key| Some((key, fields.key(key)?))) {
            decoder.mistake(named.1, format!("`{}` is about a Dockerfile, and this recipe needs none", named.0));
        }
    }
    Some(recipe)
}

impl Recipe {
    /// Has the image made from another Dockerfile than the recipe says.
    pub fn set_dockerfile(&mut self, file: &str) -> Result<()> {
        if self.says_content {
            let message =
                format!("{} says itself what is in the image, and is not made from a Dockerfile", self.source.name());
            return Err(Error::usage(message).hint("leave --dockerfile away"));
        }
        if file.starts_with('/') || file.split('/').any(|part| part == "..") {
            return Err(Error::usage(format!("the Dockerfile {file} is not in the recipe's folder")));
        }
        self.dockerfile = Some(self.dockerfile_named(file));
        Ok(())
    }

    fn dockerfile_named(&self, file: &str) -> Dockerfile {
        let (arguments, network, cache) = (self.arguments.clone(), self.network, self.cache);
        Dockerfile { file: file.to_owned(), arguments, network, cache }
    }
}

/// An entry of `buildArgs`.
fn argument(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<String> {
    let text = decoder.clean_text(node, "an entry of `buildArgs`")?;
    let good = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match text.split_once('=') {
        Some((_, value)) if value.starts_with("@lkt:") => {
            let diagnostic = text.place.mistake("an entry of `buildArgs` has a value that only LinuxKit works out");
            decoder.push(diagnostic.help("write the reference: moby pkg show-tag prints it"));
        }
        Some((name, _)) if good(name) => return Some(text.value),
        _ => {
            let diagnostic = text.place.mistake("an entry of `buildArgs` is no argument");
            decoder.push(diagnostic.help("NAME=value, the name of letters, digits and `_`"));
        }
    }
    None
}

/// An entry of `extra-sources`.
fn extra_source(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<ExtraSource> {
    let text = decoder.clean_text(node, "an entry of `extra-sources`")?;
    let good = |to: &str| {
        !to.contains(':')
            && !to.starts_with('/')
            && !to.split('/').any(|part| part.is_empty() || part == "." || part == "..")
    };
    match text.split_once(':') {
        Some((from, to)) if !from.is_empty() && good(to) => {
            let (from, to) = (from.to_owned(), to.to_owned());
            Some(ExtraSource { from: text.map(|_| from), to })
        }
        _ => {
            let diagnostic = text.place.mistake("an entry of `extra-sources` is not FROM:TO");
            decoder.push(
                diagnostic.help("FROM is relative to this folder, TO a path in it without `..`: ../common:common"),
            );
            None
        }
    }
}

/// The part of an image's name before its last: an organisation, with or without a registry in front.
fn organisation(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<Spanned<String>> {
    let text = decoder.clean_text(node, "`org`")?;
    match crate::blueprint::Reference::parse(&format!("{}/image", text.as_str())) {
        Ok(reference) if reference.tag().is_none_or(|tag| tag == "latest") && reference.digest().is_none() => {
            Some(text)
        }
        Ok(_) => {
            let diagnostic = text.place.mistake("`org` is no part of an image's name");
            decoder.push(diagnostic);
            None
        }
        Err(error) => {
            let diagnostic = text.place.mistake(format!("`org` is no part of an image's name: {}", error.message));
            decoder.push(diagnostic.help("an organisation, or a registry and an organisation: registry.example/group"));
            None
        }
    }
}

/// A part of an image's name: what registries take.
fn name_part(decoder: &mut Decoder<'_, '_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let text = decoder.clean_text(node, what)?;
    let good = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends(part.chars().next())
            && ends(part.chars().last())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    if text.len() <= 128 && text.split('/').all(good) {
        return Some(text);
    }
    let diagnostic = text.place.mistake(format!("{what} is no part of an image's name"));
    decoder.push(diagnostic.help("lower-case letters and digits, with `.`, `_`, `-` and `/` between them"));
    None
}

fn tag(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<String> {
    let text = decoder.clean_text(node, "`tag`")?;
    let shown = super::expand_tag(&text, "");
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !text.is_empty() && text.len() <= 80 && shown.chars().all(good) && !text.starts_with(['.', '-']) {
        return Some(text.value);
    }
    let diagnostic = text.place.mistake("`tag` is no tag");
    decoder.push(diagnostic.help("letters and digits with `.`, `_` and `-`; %h or {{.Hash}} for the content's hash"));
    None
}

/// The packages, each `NAME` or `NAME=VERSION`.
fn packages(decoder: &mut Decoder<'_, '_>, fields: &Fields<'_>) -> Vec<Spanned<String>> {
    let mut all = list(decoder, fields, "packages");
    all.retain(|text| {
        let (name, version) = text.split_once('=').unwrap_or((text, "0"));
        let wrong = match (is_package_name(name), Version::parse(version)) {
            (true, Ok(_)) => return true,
            (true, Err(what)) => format!("an entry of `packages`: {what}"),
            (false, _) => "an entry of `packages` is no package's name".to_owned(),
        };
        let help = "a Debian package's name in lower case, or NAME=VERSION; the architecture is the image's";
        decoder.push(text.place.mistake(wrong).help(help));
        false
    });
    all
}

/// The name of a suite or area, which is a part of URLs.
fn archive_name(decoder: &mut Decoder<'_, '_>, text: Spanned<String>, what: &str) -> Option<String> {
    let good = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
    };
    if text.split('/').all(good) {
        return Some(text.value);
    }
    let diagnostic = text.place.mistake(format!("{what} is no name in Debian's archive"));
    decoder.push(diagnostic.help("such as bookworm, bookworm-backports, contrib, non-free-firmware"));
    None
}

fn plain(decoder: &mut Decoder<'_, '_>, fields: &Fields<'_>, key: &str) -> Option<String> {
    fields.get(key).and_then(|node| decoder.clean_text(node, &format!("`{key}`"))).map(|text| text.value)
}

fn list(decoder: &mut Decoder<'_, '_>, fields: &Fields<'_>, key: &str) -> Vec<Spanned<String>> {
    fields.get(key).and_then(|node| decoder.texts(node, &format!("`{key}`"))).unwrap_or_default()
}

fn plain_list(decoder: &mut Decoder<'_, '_>, fields: &Fields<'_>, key: &str) -> Option<Vec<String>> {
    let texts = fields.get(key).and_then(|node| decoder.texts(node, &format!("`{key}`")))?;
    Some(texts.into_iter().map(|text| text.value).collect())
}

fn entries<T>(
    decoder: &mut Decoder<'_, '_>,
    fields: &Fields<'_>,
    key: &str,
    read: fn(&mut Decoder<'_, '_>, &Node) -> Option<T>,
) -> Vec<T> {
    let entries = fields.get(key).and_then(|node| decoder.list(node, &format!("`{key}`"), read));
    entries.unwrap_or_default()
}

/// A path in the image, without `/` at its ends and `..` in it.
fn image_path(decoder: &mut Decoder<'_, '_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let text = decoder.clean_text(node, what)?;
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") || text.len() > 4095 || parts.iter().any(|part| part.len() > 255) {
        let diagnostic = text.place.mistake(format!("{what} is no path in the image"));
        decoder.push(diagnostic.help("paths are relative to the root of the image, without `..`"));
        return None;
    }
    let path = parts.join("/");
    Some(text.map(|_| path))
}

/// A path in the recipe's folder. What lies elsewhere would not be part of the component's hash.
fn folder_path(decoder: &mut Decoder<'_, '_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let text = decoder.clean_text(node, what)?;
    if text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part == "..") {
        let diagnostic = text.place.mistake(format!("{what} is not in the recipe's folder"));
        decoder.push(diagnostic.help("a relative path without `..`"));
        return None;
    }
    Some(text)
}

fn cargo(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<Cargo> {
    let fields = decoder.fields(node, &CARGO)?;
    let package = fields.get("package").and_then(|node| decoder.clean_text(node, "`package` of `cargo`"))?;
    let path = match fields.get("path") {
        Some(node) => decoder.clean_text(node, "`path` of `cargo`")?,
        None => Spanned::new(".".to_owned(), package.place.clone()),
    };
    let binary = match fields.get("binary") {
        Some(node) => decoder.clean_text(node, "`binary` of `cargo`")?.value,
        None => package.value.clone(),
    };
    let install = match fields.get("install") {
        Some(node) => image_path(decoder, node, "`install` of `cargo`")?,
        None => Spanned::new(format!("usr/bin/{binary}"), package.place.clone()),
    };
    Some(Cargo { path, package: package.value, binary, install })
}

fn file(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<File> {
    let fields = decoder.fields(node, &FILE)?;
    let path = fields.get("path").and_then(|node| image_path(decoder, node, "`path`"));
    let directory = fields.get("directory").and_then(|node| decoder.bool(node, "`directory`"));
    let text = fields.get("contents").and_then(|node| decoder.any_text(node, "`contents`"));
    let source = fields.get("source").and_then(|node| folder_path(decoder, node, "`source`"));
    let mode = fields.get("mode").and_then(|node| decoder.mode(node, "`mode`")).map(|mode| mode.value);
    let number = |decoder: &mut Decoder<'_, '_>, key: &str| match fields.get(key) {
        Some(node) => id(decoder, node, key),
        None => Some(0),
    };
    let (uid, gid) = (number(decoder, "uid"), number(decoder, "gid"));
    let directory = directory.is_some_and(|directory| directory.value);
    let said = usize::from(directory)
        + usize::from(fields.get("contents").is_some())
        + usize::from(fields.get("source").is_some());
    if said != 1 {
        let message = "a file has one of `source`, `contents` and `directory: true`";
        let found = if said == 0 { "this has none" } else { "this has more than one" };
        decoder.mistake(node, format!("{message}; {found}"));
        return None;
    }
    let content = match (directory, text, source) {
        (true, ..) => FileContent::Directory,
        (_, Some(text), _) => FileContent::Text(text.value),
        (_, _, Some(source)) => FileContent::Source(source),
        _ => return None,
    };
    Some(File { path: path?, content, mode, uid: uid?, gid: gid? })
}

fn symlink(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<Symlink> {
    let fields = decoder.fields(node, &SYMLINK)?;
    let path = fields.get("path").and_then(|node| image_path(decoder, node, "`path`"));
    let target = fields.get("target").and_then(|node| decoder.clean_text(node, "`target`"))?;
    if target.is_empty() || target.len() > 4095 {
        let diagnostic = target.place.mistake("`target` of a symbolic link has 1 to 4095 bytes");
        decoder.push(diagnostic);
        return None;
    }
    Some(Symlink { path: path?, target: target.value })
}

fn id(decoder: &mut Decoder<'_, '_>, node: &Node, key: &str) -> Option<u32> {
    // The last number means "unchanged" in the system calls (chown(2)).
    decoder.integer::<u32>(node, &format!("`{key}`"), 0, i128::from(u32::MAX) - 1).map(|number| number.value)
}

/// What may stand in a field of passwd(5) and group(5).
fn field(decoder: &mut Decoder<'_, '_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let text = decoder.clean_text(node, what)?;
    if let Some(at) = text.find([':', ',']) {
        let diagnostic = decoder.part(node, at..at + 1).mistake(format!("{what} has a separator of passwd in it"));
        decoder.push(diagnostic);
        return None;
    }
    Some(text)
}

fn account_name(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<Spanned<String>> {
    let text = field(decoder, node, "`name`")?;
    if !is_account_name(&text) {
        let diagnostic = text.place.mistake("`name` is no name of a user or group");
        decoder.push(diagnostic.help("1 to 32 of a-z, 0-9, `_` and `-`, the first no digit and no `-`"));
        return None;
    }
    Some(text)
}

fn user(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<User> {
    let fields = decoder.fields(node, &USER)?;
    let name = fields.get("name").and_then(|node| account_name(decoder, node));
    let uid = fields.get("uid").and_then(|node| id(decoder, node, "uid"));
    let gid = match fields.get("gid") {
        Some(node) => id(decoder, node, "gid"),
        None => uid,
    };
    let mut text = |key: &str, default: &str| {
        let Some(node) = fields.get(key) else { return Some(default.to_owned()) };
        let text = field(decoder, node, &format!("`{key}`"))?;
        if !text.starts_with('/') {
            decoder.push(text.place.mistake(format!("`{key}` is a path from the root on")));
            return None;
        }
        Some(text.value)
    };
    let (home, shell) = (text("home", "/"), text("shell", "/usr/sbin/nologin"));
    let groups = plain_list(decoder, &fields, "groups").unwrap_or_default();
    Some(User { name: name?.value, uid: uid?, gid: gid?, home: home?, shell: shell?, groups })
}

fn group(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<Group> {
    let fields = decoder.fields(node, &GROUP)?;
    let name = fields.get("name").and_then(|node| account_name(decoder, node));
    let gid = fields.get("gid").and_then(|node| id(decoder, node, "gid"));
    Some(Group { name: name?.value, gid: gid? })
}

fn kernel(decoder: &mut Decoder<'_, '_>, node: &Node) -> Option<Kernel> {
    let fields = decoder.fields(node, &KERNEL)?;
    let package = fields.get("package").and_then(|node| decoder.clean_text(node, "`package`"));
    let source = fields.get("source").and_then(|node| decoder.clean_text(node, "`source`"));
    let config = fields
        .get("config")
        .and_then(|node| decoder.list(node, "`config`", |decoder, node| folder_path(decoder, node, "`config`")));
    match (fields.get("package"), fields.get("source"), fields.get("config")) {
        (Some(_), None, None) => Some(Kernel::Package(package?)),
        (None, Some(_), Some(_)) => Some(Kernel::Source { package: source?, config: config? }),
        _ => {
            decoder.mistake(node, "a kernel has either `package`, or `source` and `config`");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel_of(kernel: &str) -> Result<Option<Kernel>> {
        let text = format!("image: k\nkernel: {kernel}\n");
        Recipe::read(&Source::new("build.yml", text, Origin::Remote)).map(|(recipe, _)| recipe.kernel)
    }

    #[test]
    fn a_kernel_is_a_package_or_compiled() {
        assert!(matches!(kernel_of("{package: a}").unwrap(), Some(Kernel::Package(name)) if name.as_str() == "a"));
        let Some(Kernel::Source { package, config }) = kernel_of("{source: a, config: [b, c/$ARCH.config]}").unwrap()
        else {
            panic!()
        };
        assert_eq!((package.as_str(), config.len(), config[1].as_str()), ("a", 2, "c/$ARCH.config"));
        for wrong in ["{}", "{source: a}", "{config: [b]}", "{package: a, config: [b]}", "{package: a, source: b}"] {
            assert_eq!(kernel_of(wrong).unwrap_err().exit(), crate::error::Exit::Usage, "{wrong}");
        }
        assert!(kernel_of("{source: a, config: [../b]}").is_err());
    }
}
