//! What is fuzzed: each function takes any bytes, must not panic, and checks what must hold for all that is accepted.
//!
//! `tests/fuzz.rs` runs them with generated input on stable Rust, `fuzz/` with libFuzzer on nightly.

use std::path::Path;

use moby::Arch;
use moby::blueprint::{Blueprint, Input, Place, ReadOptions, Reference, Settings, read, read_label_named};
use moby::lock::LockFile;
use moby::rootfs::runtime_spec::{BundleInputs, IdMap, OciConfig, generate};

/// The blueprint reader: whatever is wrong has a place that can be shown; what is read is written and read as the same.
pub fn blueprint(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Some(blueprint) = read_blueprint(text) {
        let written = blueprint.to_yaml();
        // A value that begins with `@` would be taken for a template when it is read again.
        if !written.contains('@') {
            let again = read_blueprint(&written).unwrap_or_else(|| panic!("{text:?}\n{written}"));
            assert_eq!(written, again.to_yaml(), "{text:?}");
        }
    }
}

/// The reference parser: a reference is written as it is read, a mistake lies within the text.
pub fn reference(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match Reference::parse(text) {
        Ok(reference) => {
            let full = reference.to_string();
            let again = Reference::parse(&full).unwrap_or_else(|error| panic!("{text:?} is {full:?}: {error}"));
            assert_eq!((&again, again.to_string()), (&reference, full.clone()));
            let safe = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
            assert!(full.chars().all(safe) && !full.split('/').any(|part| part == ".."), "{text:?}");
            drop(moby::lock::image_name(&reference).unwrap_or_else(|error| panic!("{text:?}: {error}")));
        }
        Err(error) => assert!(text.get(error.at.clone()).is_some(), "{text:?}: {error:?}"),
    }
}

/// config.json and runtime.json: the first half of the bytes is a blueprint, the rest after `%%%` a label. Both files
/// are JSON, and paths in them stay in their bundle.
pub fn configuration(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (blueprint, label) = text.split_once("%%%").unwrap_or((text, ""));
    let Some(blueprint) = read_blueprint(blueprint) else { return };
    let label: Option<Settings> = read_label_named(label, "label").ok().map(|(label, _)| label);
    let ids = IdMap::number(&blueprint);
    let oci = OciConfig { entrypoint: vec!["/x".into()], ..OciConfig::default() };
    for image in blueprint.containers() {
        let root = format!("containers/services/{}", *image.name);
        let inputs = BundleInputs {
            image,
            label: label.as_ref(),
            oci: &oci,
            ids: &ids,
            security: blueprint.security(),
            arch: Arch::Amd64,
            bundle_path: &root,
            root_of_image: &root,
            data: None,
        };
        let Ok(made) = generate(&inputs) else { continue };
        let config: serde_json::Value = serde_json::from_str(&made.config_json).unwrap();
        assert_eq!(config["root"]["path"], "rootfs");
        for mount in config["mounts"].as_array().unwrap() {
            let destination = mount["destination"].as_str().unwrap();
            assert!(destination.starts_with('/'), "{destination:?} in {text:?}");
        }
        drop(serde_json::from_str::<serde_json::Value>(&made.runtime_json).unwrap());
        assert_eq!(generate(&inputs).unwrap(), made);
    }
}

/// The lock reader: what is read is written and read as the same.
pub fn lock(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match LockFile::parse("x.lock", text.to_string()) {
        Ok(lock) => {
            let written = lock.to_yaml();
            let again = LockFile::parse("y.lock", written.clone()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!((&again, again.to_yaml()), (&lock, written));
        }
        Err(error) => show(&error),
    }
}

/// `moby cache import`: nothing but what an archive really holds gets a name.
pub fn archive(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let store = moby::store::Store::open(folder.path()).unwrap();
    let known = |text: &str| Reference::parse(text).ok().map(|reference| reference.to_string());
    if let Ok(images) = store.import(bytes, None, &known) {
        for image in images {
            assert!(store.blob_path(&image.descriptor.digest).is_file());
        }
    }
    let names = store.names().unwrap();
    assert!(names.iter().all(|(_, descriptor)| store.blob_path(&descriptor.digest).is_file()));
}

/// Images: `moby check` and the tree of parts. A walk ends with its first broken link.
pub fn image(bytes: &[u8]) {
    use moby::inspect::{Image, Status, Verdict, check, parts};
    let image: Image = std::sync::Arc::new(moby::formats::disk::Bytes(bytes.to_vec()));
    if let Ok(report) = check(&image, &[]) {
        let broken = report.links.iter().position(|link| link.status == Status::Broken);
        assert_eq!(broken.is_some(), matches!(report.verdict, Verdict::Broken { .. }));
        assert!(broken.is_none_or(|at| at + 1 == report.links.len()), "{report:?}");
    }
    if let Ok(part) = parts::Part::whole("image", image) {
        let _ = parts::dump(&part);
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn read_blueprint(text: &str) -> Option<Blueprint> {
    let resolve = |_: &Path, _: &Place| Ok("docker.io/x/y:z".to_owned());
    let input = Input::Text { name: "any.yml".into(), text: text.into(), folder: ".".into() };
    match read(&[input], ReadOptions { resolve: Some(&resolve), ..ReadOptions::default() }) {
        Ok((blueprint, warnings)) => {
            warnings.iter().for_each(|warning| drop((warning.render(true), warning.to_json())));
            Some(blueprint)
        }
        Err(error) => {
            show(&error);
            None
        }
    }
}

/// Everything that a mistake needs to be shown works on any text.
fn show(error: &moby::Error) {
    for mistake in error.diagnostics() {
        assert!(mistake.source.get(mistake.span.clone()).is_some(), "{mistake:?}");
        drop((mistake.render(false), mistake.to_json()));
    }
}
