//! Whole blueprints, read as the program reads them.

#![allow(clippy::unwrap_used)]

use moby::blueprint::{Blueprint, Input, ReadOptions, read};

fn read_text(text: &str) -> moby::Result<Blueprint> {
    let input = Input::Text { name: "test.yml".into(), text: text.into(), folder: "/nowhere".into() };
    let resolve = |folder: &std::path::Path, _: &moby::blueprint::Place| {
        Ok(format!("docker.io/moby/{}:hash", folder.file_name().unwrap().to_string_lossy()))
    };
    read(&[input], ReadOptions { resolve: Some(&resolve), ..ReadOptions::default() }).map(|(blueprint, _)| blueprint)
}

#[test]
fn a_first_blueprint_is_read() {
    let text = "kernel:\n  image: \"@pkg:../kernels/6.1-cloud\"\n  cmdline: console=ttyS0\nservices:\n  - name: web\n    image: nginx:1\n    binds: [\"/etc:/etc:ro\"]\nfiles:\n  - path: /etc//x\n    mode: 0644\n    contents: hi\n";
    let blueprint = match read_text(text) {
        Ok(blueprint) => blueprint,
        Err(error) => panic!("{}", error.diagnostics().iter().map(|d| d.render(false)).collect::<String>()),
    };
    assert_eq!(blueprint.kernel.image.unwrap().to_string(), "docker.io/moby/6.1-cloud:hash");
    assert_eq!(blueprint.services[0].image.to_string(), "docker.io/library/nginx:1");
    assert_eq!(blueprint.files[0].path.as_str(), "etc/x");
    assert_eq!(blueprint.files[0].mode(), 0o644);
    assert_eq!(blueprint.files[0].parent_mode(), 0o755);
}

/// Everything that is said about a blueprint: mistakes, warnings, the closing line.
fn said(path: &std::path::Path) -> String {
    let resolve = |folder: &std::path::Path, _: &moby::blueprint::Place| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        match &*name {
            "broken" => Err(moby::Error::usage(format!("no build.yml in {}", folder.display())).hint("make one")),
            name => Ok(format!("docker.io/moby/{name}:hash")),
        }
    };
    let options = ReadOptions { resolve: Some(&resolve), ..ReadOptions::default() };
    let mut out = String::new();
    let (shown, last) = match read(&[Input::File(path.into())], options) {
        Ok((_, warnings)) => (warnings, "no mistakes".to_owned()),
        Err(error) => (error.diagnostics().to_vec(), error.to_string()),
    };
    for diagnostic in &shown {
        assert!(diagnostic.source.get(diagnostic.span.clone()).is_some(), "{diagnostic:?}");
        let json = diagnostic.to_json();
        assert!(json["line"].as_u64() >= Some(1) && json["message"].as_str().is_some_and(|text| !text.is_empty()));
        out += &diagnostic.render(false);
        out += "\n\n";
    }
    out += &last;
    out.push('\n');
    out
}

/// `SNAPSHOTS=overwrite` writes the expected texts anew.
#[test]
fn mistakes_are_shown_at_their_places() {
    let mut count = 0;
    let mut files: Vec<_> =
        std::fs::read_dir("tests/diagnostics").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yml")) {
        let actual = said(&path);
        count += actual.matches("\nerror").count() + usize::from(actual.starts_with("error"));
        let expected = path.with_extension("txt");
        if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
            std::fs::write(&expected, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert!(actual == expected, "{} is shown so:\n{actual}\nbut was expected so:\n{expected}", path.display());
    }
    assert!(count >= 40, "{count}");
}

/// The ways of writing that are met in LinuxKit's own examples and tests, in blueprints of our own.
#[test]
fn blueprints_as_linuxkits_users_write_them_are_read() {
    let folder = std::path::Path::new("tests/linuxkit");
    let read_files = |names: &[&str]| {
        let inputs: Vec<Input> = names.iter().map(|name| Input::File(folder.join(name))).collect();
        let (blueprint, warnings) =
            read(&inputs, ReadOptions::default()).unwrap_or_else(|error| panic!("{}", shown(&error)));
        assert!(warnings.is_empty(), "{names:?}: {}", warnings[0].render(false));
        // What is printed is read as the same.
        let printed = blueprint.to_yaml();
        assert_eq!(read_text(&printed).unwrap_or_else(|error| panic!("{}", shown(&error))).to_yaml(), printed);
        blueprint
    };
    let desktop = read_files(&["desktop.yml"]);
    assert_eq!(desktop.init.len(), 3);
    let names: Vec<&str> = desktop.onboot.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["metadata", "module", "module", "share"]);
    let docker = desktop.services[1].settings.command.as_ref().unwrap();
    assert_eq!((docker.len(), docker[6].as_str()), (8, "--storage-driver"));
    let getty = &desktop.services[2].settings;
    assert!(getty.env.is_none() && getty.binds_add.as_ref().unwrap().len() == 1);

    let server = read_files(&["server.yml"]);
    assert_eq!(server.kernel.cmdline.as_ref().unwrap().as_str(), "console=ttyS1");
    assert_eq!(server.volumes.len(), 2);
    assert_eq!(server.files.len(), 4);
    let text = server.to_yaml();
    assert!(text.contains("# a comment of the file, not of the blueprint"), "{text}");
    let arm = read_files(&["server.yml", "server-arm64.yml"]);
    assert_eq!((arm.onboot.len(), arm.kernel.cmdline.as_ref().unwrap().as_str()), (3, "console=ttyAMA0"));
}

/// LinuxKit refuses these of its own files too: one is to be filled in, two show mistakes.
#[test]
fn what_linuxkit_refuses_of_its_own_is_refused() {
    for (text, message) in [
        ("init:\n  - example/init:<hash>\nfiles:\nfiles:\n  - path: x\n    source: <firmware>\n", "3 mistakes"),
        ("unknownField: \"abc\"\nkernel:\n  image: x\n", "unknown key `unknownField`"),
        ("onboot: [{name: x, image: y, binds: ['v:/v']}]\nvolumes: [{name: v, readonly: true}]\n", "is read-only"),
        ("files:\n  - path: x\n    contents: |\n#  a\n      b\n", "a comment that is not indented ends a block"),
    ] {
        let shown = shown(&read_text(text).unwrap_err());
        assert!(shown.contains(message), "{shown}");
    }
}

fn shown(error: &moby::Error) -> String {
    let all: Vec<String> = error.diagnostics().iter().map(|diagnostic| diagnostic.render(false)).collect();
    format!("{error}\n{}", all.join("\n"))
}

fn good_blueprints() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = std::fs::read_dir("tests/blueprints")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn blueprints_written_out_are_read_as_the_same() {
    for (name, text) in good_blueprints() {
        let first = read_text(&text).unwrap_or_else(|error| panic!("{name}: {}", shown(&error)));
        let written = first.to_yaml();
        let second = read_text(&written).unwrap_or_else(|error| panic!("{name}: {}\n{written}", shown(&error)));
        assert_eq!(written, second.to_yaml(), "{name}");
        assert_eq!(first.references(), second.references(), "{name}");
        let metadata = first.metadata(moby::blueprint::MetadataFormat::Yaml);
        let third = read_text(&metadata).unwrap_or_else(|error| panic!("{name}: {}\n{metadata}", shown(&error)));
        assert_eq!(metadata, third.metadata(moby::blueprint::MetadataFormat::Yaml), "{name}");
        let json = first.metadata(moby::blueprint::MetadataFormat::Json);
        let fourth = read_text(&json).unwrap_or_else(|error| panic!("{name}: {}\n{json}", shown(&error)));
        assert_eq!(json, fourth.metadata(moby::blueprint::MetadataFormat::Json), "{name}");
    }
}

/// The names of all keys, at every level.
fn keys(table: &moby::blueprint::schema::Table, all: &mut std::collections::BTreeSet<&'static str>) {
    use moby::blueprint::schema::Shape;
    for key in table.keys {
        all.insert(key.name);
        let mut shape = &key.shape;
        while let Shape::List(inner) = shape {
            shape = inner;
        }
        if let Shape::Map(table) = shape {
            keys(table, all);
        }
    }
}

/// A key of a table that nothing decodes would be taken and lost.
#[test]
fn every_key_survives_being_read_and_written() {
    let mut all = std::collections::BTreeSet::new();
    keys(&moby::blueprint::BLUEPRINT, &mut all);
    assert!(all.len() > 100, "{}", all.len());
    let written = read_text(&std::fs::read_to_string("tests/blueprints/everything.yml").unwrap()).unwrap().to_yaml();
    for key in all {
        let line = |line: &str| line.trim_start().trim_start_matches("- ").starts_with(&format!("{key}:"));
        assert!(written.lines().any(line), "`{key}` is not in\n{written}");
    }
}

/// Keys that the book does not have are keys that nobody finds.
#[test]
fn every_key_is_in_the_book() {
    let pages = |names: [&str; 2]| names.map(|name| std::fs::read_to_string(name).unwrap()).concat();
    // The second is written from the tables; `tests/schema.rs` sees to it that it is not stale.
    let book = pages(["docs/blueprint.md", "docs/blueprint-keys.md"]);
    let mut all = std::collections::BTreeSet::new();
    keys(&moby::blueprint::BLUEPRINT, &mut all);
    let missing: Vec<_> = all.into_iter().filter(|key| !book.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");

    let book = pages(["docs/components.md", "docs/component-keys.md"]);
    for key in moby::component::recipe::RECIPE.keys {
        assert!(book.contains(&format!("`{}`", key.name)), "the book says nothing of `{}` in recipes", key.name);
    }
}

#[test]
fn the_blueprints_of_this_project_are_read() {
    for name in ["minimal", "redis", "nginx"] {
        let resolve = |folder: &std::path::Path, _: &moby::blueprint::Place| {
            assert!(folder.starts_with("blueprints/../"), "{}", folder.display());
            Ok(format!("moby/{}:1", folder.file_name().unwrap().to_string_lossy()))
        };
        let options = ReadOptions { resolve: Some(&resolve), ..ReadOptions::default() };
        let read = read(&[Input::File(format!("blueprints/{name}.yml").into())], options);
        let (blueprint, warnings) = read.unwrap_or_else(|error| panic!("{}", shown(&error)));
        assert!(warnings.is_empty());
        assert_eq!(blueprint.security(), moby::blueprint::Security::Strict);
        assert!(blueprint.references().len() > 4);
    }
}

#[test]
fn several_blueprints_become_one() {
    let input = |name: &str, text: &str| Input::Text { name: name.into(), text: text.into(), folder: ".".into() };
    let first = input(
        "a.yml",
        "kernel: {image: k1, cmdline: one, tar: a}\ninit: [i1]\nvolumes: [{name: v}]\nservices: [{name: s, image: x}]\n",
    );
    let second =
        input("b.yml", "kernel: {image: k2, tar: ''}\ninit: [i2]\nservices: [{name: t, image: x, binds: ['v:/v']}]\n");
    let inputs = [first.clone(), second];
    let (merged, _) = read(&inputs, ReadOptions::default()).unwrap_or_else(|error| panic!("{}", shown(&error)));
    assert_eq!(merged.kernel.image.as_ref().unwrap().as_typed(), "k2");
    assert_eq!((merged.kernel.cmdline(), merged.kernel.tar(), merged.kernel.binary()), ("one", None, "kernel"));
    assert_eq!(merged.init.iter().map(|init| init.as_typed()).collect::<Vec<_>>(), ["i1", "i2"]);
    assert_eq!(merged.services.len(), 2);
    assert_eq!(moby::blueprint::output_name(&inputs), "b");

    let third = input("c.yml", "services: [{name: s, image: x}]\n");
    let error = read(&[first, third], ReadOptions::default()).unwrap_err();
    let text = error.diagnostics()[0].render(false);
    assert!(text.contains("c.yml:1:19") && text.contains("a.yml:4:19"), "{text}");
}

#[test]
fn root_and_disk_are_merged_key_by_key() {
    let text = |name: &str, text: &str| Input::Text { name: name.into(), text: text.into(), folder: ".".into() };
    let base =
        text("a.yml", "root: {type: squashfs, onfailure: reboot}\ndisk: {slots: 2, data: {size: 1G, label: x}}\n");
    let later = text("b.yml", "root: {verity: false}\ndisk: {data: {label: y}}\n");
    let (merged, _) = read(&[base.clone(), later], ReadOptions::default()).unwrap();
    let written = merged.to_yaml();
    let end = "root:\n    type: squashfs\n    verity: false\n    onfailure: reboot\ndisk:\n    slots: 2\n    data:\n        \
               size: \"1G\"\n        label: \"y\"\n";
    assert!(format!("{}\n", written.trim_end()).ends_with(end), "{written}");
    assert!(merged.root_on_disk().is_some_and(|root| !root.verity()));

    // Back to the root in memory, for which the first one's disk has no meaning.
    let memory = text("c.yml", "root: {type: initrd}\ndisk: {slots: 1}\n");
    let error = read(&[base, memory], ReadOptions::default()).unwrap_err();
    assert_eq!(error.diagnostics().len(), 1, "{}", shown(&error));
    assert!(shown(&error).contains("a.yml:2:24"), "{}", shown(&error));
}

#[test]
fn names_of_outputs_come_from_the_last_input() {
    let name = |argument: &str| moby::blueprint::output_name(&[Input::from_argument(argument.as_ref())]);
    assert_eq!(name("a/b/linux.kit.yml"), "linux.kit");
    assert_eq!(name("-"), "moby");
    assert_eq!(name("https://example.com/x/redis.yml?raw=1"), "redis");
    assert_eq!(name("https://example.com"), "moby");
    assert_eq!(name(".."), "moby");
}

#[test]
fn urls_are_fetched_and_have_no_folder() {
    let fetch = |url: &str| match url {
        "https://example.com/a.yml" => Ok(b"init: [\"@pkg:x\", \"@pkg:/abs\"]".to_vec()),
        other => Err(moby::Error::network(format!("no {other}"))),
    };
    let resolve = |_: &std::path::Path, _: &moby::blueprint::Place| Ok("x".to_owned());
    let options = ReadOptions { fetch: Some(&fetch), resolve: Some(&resolve), ..ReadOptions::default() };
    let error = read(&[Input::Url("https://example.com/a.yml".into())], options).unwrap_err();
    assert_eq!(error.diagnostics().len(), 1, "{}", shown(&error));
    let error = read(&[Input::Url("https://example.com/b.yml".into())], options).unwrap_err();
    assert_eq!(error.exit(), moby::error::Exit::Network);
}

#[test]
fn templates_are_relative_to_the_blueprint_and_resolved_once() {
    let asked = std::cell::RefCell::new(Vec::new());
    let resolve = |folder: &std::path::Path, _: &moby::blueprint::Place| {
        asked.borrow_mut().push(folder.display().to_string());
        Ok("docker.io/moby/x:hash".to_owned())
    };
    let text = "init: [\"@pkg:../x\", \"@pkg:../x\", \"@pkg:/abs/y\"]\nkernel: {ucode: \"@pkg:ucode\"}\n";
    let input = Input::Text { name: "t.yml".into(), text: text.into(), folder: "/some/where".into() };
    let options = ReadOptions { resolve: Some(&resolve), ..ReadOptions::default() };
    let (blueprint, _) = read(&[input], options).unwrap_or_else(|error| panic!("{}", shown(&error)));
    asked.borrow_mut().sort();
    assert_eq!(*asked.borrow(), ["/abs/y", "/some/where/../x", "/some/where/ucode"]);
    assert_eq!(blueprint.ucode_image().unwrap().tag(), Some("hash"));
    assert_eq!(blueprint.init[1].as_typed(), "docker.io/moby/x:hash");

    let lost = |_: &std::path::Path, _: &moby::blueprint::Place| Err(moby::Error::network("no route"));
    let input = Input::Text { name: "t.yml".into(), text: text.into(), folder: ".".into() };
    let error = read(&[input], ReadOptions { resolve: Some(&lost), ..ReadOptions::default() }).unwrap_err();
    assert_eq!((error.exit(), error.message().starts_with("t.yml:")), (moby::error::Exit::Network, true), "{error}");
}

#[test]
fn labels_have_neither_name_nor_image() {
    use moby::blueprint::{Reference, read_label};
    let reference = Reference::parse("linuxkit/sysctl:v1").unwrap();
    let (settings, _) = read_label(r#"{"capabilities": ["CAP_SYS_ADMIN"], "readonly": true}"#, &reference).unwrap();
    assert_eq!((settings.capabilities.unwrap().len(), settings.readonly.unwrap().value), (1, true));
    assert!(read_label("pid: host\nbinds:\n - /dev:/dev\n", &reference).is_ok());
    let getty = "devices:\n  - path: /dev/console\n    type: c\n    major: 5\n    minor: 1\n    mode: 0666\n";
    assert_eq!(read_label(getty, &reference).unwrap().0.devices.unwrap()[0].mode, Some(0o666));
    for (text, message) in [
        (r#"{"name": "x"}"#, "`name` cannot be set in a label"),
        ("[]", "expected a map"),
        (r#"{"bind": []}"#, "unknown key `bind` in the label"),
        (r#"{"readonly": "true"}"#, "expected true or false"),
        ("{", "not YAML"),
        (r#"{"hostname": "@pkg:x"}"#, "has no meaning here"),
    ] {
        let error = read_label(text, &reference).unwrap_err();
        assert!(shown(&error).contains(message), "{text}: {}", shown(&error));
        assert!(shown(&error).contains("label org.mobyproject.config of docker.io/linuxkit/sysctl:v1"));
    }
}

mod anything {
    use proptest::prelude::*;

    use super::*;

    /// Reads a text and shows all that is said about it; nothing of that may panic.
    fn try_out(text: &str) {
        let resolve = |_: &std::path::Path, _: &moby::blueprint::Place| Ok("docker.io/x/y:z".to_owned());
        let input = Input::Text { name: "any.yml".into(), text: text.into(), folder: ".".into() };
        match read(&[input], ReadOptions { resolve: Some(&resolve), ..ReadOptions::default() }) {
            Ok((blueprint, warnings)) => {
                warnings.iter().for_each(|warning| drop((warning.render(true), warning.to_json())));
                let written = blueprint.to_yaml();
                if !written.contains('@') {
                    let again =
                        read_text(&written).unwrap_or_else(|error| panic!("{text:?}\n{written}{}", shown(&error)));
                    assert_eq!(written, again.to_yaml(), "{text:?}");
                }
            }
            Err(error) => {
                for mistake in error.diagnostics() {
                    assert!(mistake.source.get(mistake.span.clone()).is_some(), "{text:?}: {mistake:?}");
                    drop((mistake.render(false), mistake.to_json()));
                }
                assert!(error.message().contains("mistake"), "{error}");
            }
        }
        drop(moby::blueprint::read_label_named(text, "label"));
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec![
                "kernel", "image", "services", "files", "name", "init", "onboot", "volumes", "path", "contents", "mode",
                "binds", "rlimits", "devices", "mounts", "runtime", "uid", "tmpfs", "<<", "@pkg:x", "0666", "1.5", "~",
                "true", "yes", "nofile,1,2", "/a:/b:ro", "redis:7", "a@sha256:", "CAP_CHOWN", "résumé", "☃",
            ]).prop_map(str::to_owned),
            6 => prop::sample::select(vec![
                ": ", ":", "\n", "\n  ", "\n    ", "- ", "\n- ", "\n  - ", "{", "}", "[", "]", ", ", "\"", "'", "#", " #",
                "&a ", "*a", "!", "!!str ", "|\n", ">-\n", "---\n", "...\n", "%YAML 1.2\n", "? ", "\\", "\r\n", "\t", "@",
                "\u{feff}", "\u{85}", "\u{2028}", "\\x00", "=", "/", "..",
            ]).prop_map(str::to_owned),
            1 => "\\PC{0,4}",
        ];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn does_not_panic(text in pieces()) {
            try_out(&text);
        }

        #[test]
        fn that_is_nearly_right_does_not_panic(
            which in any::<prop::sample::Index>(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, pieces()), 1..4),
        ) {
            let all = good_blueprints();
            let mut text: Vec<char> = all[which.index(all.len())].1.chars().collect();
            for (at, length, new) in edits {
                let at = at.index(text.len() + 1);
                let end = (at + length).min(text.len());
                text.splice(at..end, new.chars().take(12));
            }
            try_out(&text.into_iter().collect::<String>());
        }
    }
}
