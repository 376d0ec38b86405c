//! The recipes and guest sources of this project, which are part of the program.
//!
//! They are written into the store when they are first needed: cargo compiles files, not bytes in memory. So a recipe
//! has one form, a folder, and the same hash wherever it comes from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::blueprint::nearest;
use crate::error::{IoContext, Result};
use crate::store::{Digest, Hasher, Store};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The folders of recipes that are part of the program: `components/redis`, `kernels/6.1-cloud`.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().filter_map(|(path, ..)| path.strip_suffix(super::recipe::FILE_NAME)?.strip_suffix('/'))
}

/// The recipe of this program that a folder's name means: by its last two parts, whatever stands before.
pub fn named(folder: &Path) -> Option<&'static str> {
    names().find(|name| folder.ends_with(name))
}

/// The recipe of this program that a folder's name is like: the one of that name without its folder, or one that is
/// written alike.
pub fn near(folder: &Path) -> Option<&'static str> {
    let last = folder.file_name()?.to_str()?;
    let end: PathBuf = folder.components().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
    names().find(|name| name.rsplit('/').next() == Some(last)).or_else(|| nearest(end.to_str()?, names()))
}

/// The folder of one of [`names`], written into the store if it is not there.
pub fn folder(store: &Store, name: &str) -> Result<PathBuf> {
    let place = store.derived_path("recipes-1", &digest());
    if !place.is_dir() {
        let made = store.temporary_folder()?;
        for (path, executable, content) in FILES {
            let path = made.path().join(path);
            if let Some(above) = path.parent() {
                fs::create_dir_all(above).at("making", above)?;
            }
            fs::write(&path, content).at("writing", &path)?;
            let mode = if executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at("writing", &path)?;
        }
        if let Some(above) = place.parent() {
            fs::create_dir_all(above).at("making", above)?;
        }
        let made = made.keep();
        // Another build may have been faster; its files are the same.
        if let Err(error) = fs::rename(&made, &place)
            && !place.is_dir()
        {
            return Err(crate::Error::io("writing", &place, error));
        }
    }
    Ok(place.join(name))
}

fn digest() -> Digest {
    let mut hasher = Hasher::new();
    for (path, executable, content) in FILES {
        hasher.field(path.as_bytes());
        hasher.update(&[u8::from(executable)]);
        hasher.field(content);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::recipe::Recipe;

    #[test]
    fn every_recipe_of_the_project_is_there_and_reads() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let names: Vec<_> = names().collect();
        for name in ["components/init", "components/redis", "kernels/6.1-cloud"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        for name in names {
            let folder = super::folder(&store, name).unwrap();
            if let Err(error) = Recipe::of_folder(&folder) {
                let shown: Vec<_> = error.diagnostics().iter().map(|mistake| mistake.render(false)).collect();
                panic!("{name}: {error}\n{}", shown.join("\n"));
            }
        }
        assert_eq!(named(Path::new("/any/where/../components/redis")), Some("components/redis"));
        assert_eq!(named(Path::new("../my/redis")), None);
    }

    #[test]
    fn a_name_that_is_nearly_one_is_recognised() {
        for (written, meant) in [
            ("redis", Some("components/redis")),
            ("./../components/rediss", Some("components/redis")),
            ("../kernels/6.1-clod", Some("kernels/6.1-cloud")),
            ("../my/agent", None),
            ("..", None),
        ] {
            assert_eq!(near(Path::new(written)), meant, "{written}");
        }
    }
}
