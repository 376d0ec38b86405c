//! The release profile of guest programs.
//!
//! A `[profile.release]` in somebody's `~/.cargo/config.toml` would change the bytes, and cargo has no option to
//! ignore one. So every key is said on the command line, which wins over files: the package's own value, or cargo's
//! default, or what must be fixed for equal bytes.

/// Keys that are the package's to choose, with cargo's defaults (The Cargo Book, "Profiles", "Release").
const CHOSEN: [(&str, &str); 5] = [
    ("opt-level", "3"),
    ("lto", "false"),
    ("panic", "\"unwind\""),
    ("overflow-checks", "false"),
    ("debug-assertions", "false"),
];

/// Keys that are fixed. One codegen unit: smaller, and nothing depends on how code was split. No debug information:
/// it is stripped anyway, and holds paths.
const FIXED: [(&str, &str); 6] = [
    ("codegen-units", "1"),
    ("debug", "false"),
    ("incremental", "false"),
    ("rpath", "false"),
    ("split-debuginfo", "\"off\""),
    ("strip", "\"symbols\""),
];

/// The values for cargo's `--config`, in a fixed order: `profile.release.KEY=VALUE`.
pub(super) fn release(manifest: &str) -> Vec<String> {
    let chosen = CHOSEN.iter().map(|(key, default)| (*key, own_value(manifest, key).unwrap_or(default)));
    let all = chosen.chain(FIXED.iter().copied());
    all.map(|(key, value)| format!("profile.release.{key}={value}")).collect()
}

/// The value of a key of `[profile.release]` as it is written. Reads the plain form, `key = value` on a line of its
/// own below the table's header; other spellings of the same in TOML count as not there.
fn own_value<'a>(manifest: &'a str, key: &str) -> Option<&'a str> {
    let mut within = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            within = line.split('#').next().is_some_and(|header| header.trim() == "[profile.release]");
        } else if within && let Some((name, value)) = line.split_once('=') {
            let value = value.split('#').next().unwrap_or_default().trim();
            let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"\"'-".contains(&b));
            if name.trim() == key && plain && !value.is_empty() {
                return Some(value);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_chooses_what_it_may() {
        let manifest = "[package]\nlto = 5\n[profile.release] # small\n opt-level = \"z\" # smallest\nlto=true\n\
                        codegen-units = 16\npanic = { x = 1 }\n[profile.release.package.x]\noverflow-checks = true\n";
        let release = release(manifest);
        for line in ["opt-level=\"z\"", "lto=true", "codegen-units=1", "panic=\"unwind\"", "overflow-checks=false"] {
            assert!(release.contains(&format!("profile.release.{line}")), "{line} in {release:?}");
        }
        assert_eq!(release.len(), 11);
    }
}
