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
