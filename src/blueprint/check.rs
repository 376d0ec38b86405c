//! What can only be seen in the merged blueprint: names that are there twice, volumes and users that are not there.

use std::collections::{BTreeMap, HashMap};

use super::decode::shorten;
use super::diagnostic::Diagnostics;
use super::document::Blueprint;
use super::id::Id;
use super::image::Image;
use super::source::{Place, Spanned};
use super::volume::Volume;

/// Checks a merged blueprint.
pub fn check(blueprint: &Blueprint, diagnostics: &mut Diagnostics) {
    unique(blueprint.services.iter().map(|service| &service.name), "two services have the name", diagnostics);
    unique(blueprint.volumes.iter().map(|volume| &volume.name), "two volumes have the name", diagnostics);
    let volumes: BTreeMap<&str, &Volume> =
        blueprint.volumes.iter().map(|volume| (volume.name.as_str(), volume)).collect();
    let names: Vec<&str> = blueprint.containers().map(|image| image.name.as_str()).collect();
    let mut known = names.clone();
    known.sort_unstable();
    let check_id = |id: &Option<Spanned<Id>>, diagnostics: &mut Diagnostics| {
        if let Some(id) = id {
            known_id(id, &known, &names, diagnostics);
        }
    };
    for image in blueprint.containers() {
        image_volumes(image, &volumes, diagnostics);
        check_id(&image.settings.uid, diagnostics);
        check_id(&image.settings.gid, diagnostics);
        for id in image.settings.additional_gids.iter().flatten() {
            known_id(id, &known, &names, diagnostics);
        }
    }
    for file in &blueprint.files {
        check_id(&file.uid, diagnostics);
        check_id(&file.gid, diagnostics);
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

/// `sorted` is for finding, `names` for guessing in the order of the blueprint.
fn known_id(id: &Spanned<Id>, sorted: &[&str], names: &[&str], diagnostics: &mut Diagnostics) {
    let Some(name) = id.container() else { return };
    if sorted.binary_search(&name).is_ok() {
        return;
    }
    let help = match name.parse::<u32>() {
        Ok(number) => Some(format!("write {number} without quotes for the number")),
        Err(_) => diagnostics.suggest(name, names.iter().copied().take(1000)),
    };
    let message = format!("no container has the name `{}`, so it is no user or group", shorten(name));
    let help = help.or_else(|| Some("ids are numbers, `root`, or names of containers of this blueprint".to_owned()));
    diagnostics.push(id.place.mistake(message).help_if(help));
}

fn image_volumes(image: &Image, volumes: &BTreeMap<&str, &Volume>, diagnostics: &mut Diagnostics) {
    let settings = &image.settings;
    for bind in settings.binds.iter().chain(&settings.binds_add).flatten() {
        let Some(name) = bind.volume() else { continue };
        // The source stands at the start of the text, so that it can be marked where the text has no escapes.
        let place = leading(&bind.place, name);
        let read_only = bind.options.iter().flatten().any(|option| option == "ro");
        volume(name, read_only, &place, volumes, diagnostics);
    }
    for mount in settings.mounts.iter().flatten() {
        let Some(name) = mount.volume() else { continue };
        let place = mount.source_place.as_ref().unwrap_or(&mount.place);
        let first = mount.options.iter().find(|option| matches!(option.as_str(), "ro" | "rw"));
        volume(name, first.is_some_and(|option| option == "ro"), place, volumes, diagnostics);
    }
}

fn leading(place: &Place, text: &str) -> Place {
    let span = place.span();
    let written = place.source().text().get(span.clone()).unwrap_or_default();
    match written.find(text) {
        Some(at) if at <= 1 => Place::new(place.source(), span.start + at..span.start + at + text.len()),
        _ => place.clone(),
    }
}

fn volume(
    name: &str,
    read_only: bool,
    place: &Place,
    volumes: &BTreeMap<&str, &Volume>,
    diagnostics: &mut Diagnostics,
) {
    let Some(volume) = volumes.get(name) else {
        let names = volumes.keys().copied().take(1000);
        let help = diagnostics
            .suggest(name, names)
            .unwrap_or_else(|| "paths of the host begin with `/`; volumes are listed under `volumes`".to_owned());
        diagnostics.push(place.mistake(format!("there is no volume `{}`", shorten(name))).help(help));
        return;
    };
    if volume.readonly && !read_only {
        let diagnostic = place
            .mistake(format!("the volume `{name}` is read-only, but this use of it is not"))
            .related(&volume.name.place, "the volume")
            .help("add the option `ro`");
        diagnostics.push(diagnostic);
    }
}
