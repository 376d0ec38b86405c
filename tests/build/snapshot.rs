//! Expected texts beside the tests.

use std::path::Path;

/// Compares a text with the file of this name in `tests/build/expected/`; `SNAPSHOTS=overwrite` writes it.
#[track_caller]
pub fn compare(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/expected").join(name);
    if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if actual == expected {
        return;
    }
    let mut shown = String::new();
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    for line in &old {
        if !new.contains(line) {
            shown += &format!("-{line}\n");
        }
    }
    for line in &new {
        if !old.contains(line) {
            shown += &format!("+{line}\n");
        }
    }
    panic!("{} differs (SNAPSHOTS=overwrite takes the new text):\n{shown}", path.display());
}
