//! Whole blueprints, read as the program reads them.

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
