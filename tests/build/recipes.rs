//! Mistakes in recipes, each shown at its place: `tests/recipes/*.yml` and what is said of them.

use std::path::{Path, PathBuf};

use moby::blueprint::{Origin, Source};
use moby::component::recipe::Recipe;

/// Everything that is said about a recipe: mistakes, warnings, the closing line.
fn said(path: &Path) -> (String, usize) {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let source = Source::new(name, text, Origin::Folder("/nowhere".into()));
    let (shown, last) = match Recipe::read(&source) {
        Ok((_, warnings)) => (warnings, "no mistakes".to_owned()),
        Err(error) => {
            assert_eq!(error.exit(), moby::error::Exit::Usage);
            (error.diagnostics().to_vec(), error.to_string())
        }
    };
    let mut out = String::new();
    for diagnostic in &shown {
        assert!(diagnostic.source.get(diagnostic.span.clone()).is_some(), "{diagnostic:?}");
        out += &diagnostic.render(false);
        out += "\n\n";
    }
    (out + &last + "\n", shown.len())
}

#[test]
fn mistakes_are_shown_at_their_places() {
    let mut count = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yml")) {
        let (actual, mistakes) = said(&path);
        count += mistakes;
        assert_eq!(mistakes == 0, path.ends_with("good.yml"), "{}:\n{actual}", path.display());
        let expected = path.with_extension("txt");
        if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
            std::fs::write(&expected, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert!(actual == expected, "{} is shown so:\n{actual}\nbut was expected so:\n{expected}", path.display());
    }
    assert!(count >= 60, "{count}");
}
