//! What can only be seen in the merged blueprint: names that are there twice, volumes and users that are not there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::decode::shorten;
use super::diagnostic::Diagnostics;
use super::document::Blueprint;
use super::id::Id;
use super::image::Image;
use super::node::{Kind, Node};
use super::root::{RootSignature, RootType};
use super::source::{Place, Spanned};
use super::volume::Volume;

/// How many names are compared for "did you mean".
const MOST_COMPARED: usize = 1000;

/// The names in the texts, also of what has mistakes and is therefore not in the blueprint: nothing that refers to them
/// must be called a mistake.
#[derive(Debug, Default)]
pub struct Known {
    containers: BTreeSet<String>,
    volumes: BTreeSet<String>,
}

impl Known {
    /// Adds the names of a document.
    pub fn gather(&mut self, document: &Node) {
        let Kind::Map(sections) = &document.kind else { return };
        for (key, section) in sections {
            let names = match key.scalar().map(|scalar| scalar.text.as_str()) {
                Some("onboot" | "onshutdown" | "services") => &mut self.containers,
                Some("volumes") => &mut self.volumes,
                _ => continue,
            };
            let Kind::List(entries) = &section.kind else { continue };
            for entry in entries {
                let Kind::Map(pairs) = &entry.kind else { continue };
                let name = pairs.iter().find(|(key, _)| key.scalar().is_some_and(|scalar| scalar.text == "name"));
                names.extend(name.and_then(|(_, value)| value.scalar()).map(|scalar| scalar.text.clone()));
            }
        }
    }
}

/// Checks a merged blueprint.
pub fn check(blueprint: &Blueprint, known: &Known, diagnostics: &mut Diagnostics) {
    unique(blueprint.services.iter().map(|service| &service.name), "two services have the name", diagnostics);
    unique(blueprint.volumes.iter().map(|volume| &volume.name), "two volumes have the name", diagnostics);
    let volumes = blueprint.volumes.iter().map(|volume| (volume.name.as_str(), volume)).collect();
    for image in blueprint.containers() {
        image_volumes(image, known, &volumes, diagnostics);
        let settings = &image.settings;
        for id in settings.uid.iter().chain(&settings.gid).chain(settings.additional_gids.iter().flatten()) {
            known_id(id, known, diagnostics);
        }
    }
    root_and_disk(blueprint, diagnostics);
    for file in &blueprint.files {
        for id in file.uid.iter().chain(&file.gid) {
            known_id(id, known, diagnostics);
        }
    }
}

/// What the layout of disks asks of the root.
fn root_and_disk(blueprint: &Blueprint, diagnostics: &mut Diagnostics) {
    let disk = &blueprint.disk;
    let mut mistake = |place: &Place, message: &str, help: &str| {
        diagnostics.push(place.mistake(message).help(help));
    };
    if blueprint.root_on_disk().is_none() {
        let slots = disk.slots.as_ref().filter(|slots| slots.value > 1);
        let data = disk.data.as_ref().map(|data| &data.place);
        let needs = [("`slots: 2`", slots.map(|slots| &slots.place)), ("`data`", data)];
        for (what, place) in needs {
            if let Some(place) = place {
                let message = format!("{what} needs a root on the disk, and the root of this blueprint is the initrd");
                mistake(place, &message, "add `root: {type: erofs}`");
            }
        }
    }
    if let Some(size) = disk.slot_size.as_ref().filter(|_| disk.slots() < 2) {
        mistake(&size.place, "`slot-size` is for `slots: 2`; one root is as large as its content", "remove the key");
    }
    if let Some(root) = blueprint.root_on_disk()
        && let Some(compression) = &root.compression
        && !compression.value.is_of(root.kind())
    {
        let (word, kind) = (compression.value.word(), root.kind().word());
        let message = format!("a root of `type: {kind}` has no compression `{word}`");
        let help = match root.kind() {
            RootType::Erofs => "`erofs` has `default`, `lz4` and `none`; or choose `type: squashfs`",
            _ => "`squashfs` has `default`, `zstd`, `gzip`, `xz` and `none`; or choose `type: erofs`",
        };
        mistake(&compression.place, &message, help);
    }
    if let Some(root) = blueprint.root_on_disk()
        && !root.verity()
        && let Some(signature) = &root.signature
        && signature.value == RootSignature::Required
    {
        let message = "`signature: required` is about the root hash, and `verity: false` has none";
        mistake(&signature.place, message, "remove `verity: false`");
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a Spanned<String>>, message: &str, diagnostics: &mut Diagnostics) {
    let mut seen: HashMap<&str, &Place> = HashMap::new();
    for name in names {
        match seen.get(name.as_str()) {
            Some(first) => {
                let diagnostic = name.place.mistake(format!("{message} `{}`", shorten(name)));
                diagnostics.push(diagnostic.related(first, "first here"));
            }
            None => {
                seen.insert(name, &name.place);
            }
        }
    }
}

fn known_id(id: &Spanned<Id>, known: &Known, diagnostics: &mut Diagnostics) {
    let Some(name) = id.container() else { return };
    if known.containers.contains(name) {
        return;
    }
    let help = match name.parse::<u32>() {
        Ok(number) => format!("write {number} without quotes for the number"),
        Err(_) => diagnostics
            .suggest(name, known.containers.iter().map(String::as_str).take(MOST_COMPARED))
            .unwrap_or_else(|| "ids are numbers, `root`, or names of containers of this blueprint".to_owned()),
    };
    let message = format!("no container has the name `{}`, so it is no user or group", shorten(name));
    diagnostics.push(id.place.mistake(message).help(help));
}

fn image_volumes(image: &Image, known: &Known, volumes: &BTreeMap<&str, &Volume>, diagnostics: &mut Diagnostics) {
    let settings = &image.settings;
    for bind in settings.binds.iter().chain(&settings.binds_add).flatten() {
        let Some(name) = bind.volume() else { continue };
        let place = leading(&bind.place, name);
        let read_only = bind.options.iter().flatten().any(|option| option == "ro");
        check_use(name, read_only, &place, known, volumes, diagnostics);
    }
    for mount in settings.mounts.iter().flatten() {
        let Some(name) = mount.volume() else { continue };
        let place = mount.source_place.as_ref().unwrap_or(&mount.place);
        let first = mount.options.iter().find(|option| matches!(option.as_str(), "ro" | "rw"));
        let read_only = first.is_some_and(|option| option == "ro");
        check_use(name, read_only, place, known, volumes, diagnostics);
    }
}

/// The place of a text that begins what was written at `place`, behind a quote perhaps.
fn leading(place: &Place, text: &str) -> Place {
    let span = place.span();
    let written = place.source().text().get(span.clone()).unwrap_or_default();
    match written.find(text) {
        Some(at) if at <= 1 => Place::new(place.source(), span.start + at..span.start + at + text.len()),
        _ => place.clone(),
    }
}

/// Checks one use of a volume.
fn check_use(
    name: &str,
    read_only: bool,
    place: &Place,
    known: &Known,
    volumes: &BTreeMap<&str, &Volume>,
    diagnostics: &mut Diagnostics,
) {
    if !known.volumes.contains(name) {
        let help = diagnostics
            .suggest(name, known.volumes.iter().map(String::as_str).take(MOST_COMPARED))
            .unwrap_or_else(|| "paths of the host begin with `/`; volumes are listed under `volumes`".to_owned());
        diagnostics.push(place.mistake(format!("there is no volume `{}`", shorten(name))).help(help));
    } else if let Some(volume) = volumes.get(name).filter(|volume| volume.readonly && !read_only) {
        let diagnostic = place
            .mistake(format!("the volume `{name}` is read-only, but this use of it is not"))
            .related(&volume.name.place, "the volume")
            .help("add the option `ro`");
        diagnostics.push(diagnostic);
    }
}
