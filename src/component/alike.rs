//! The programs of the guest are built from their own folders, each for itself, and do some things alike: modules are
//! found and loaded by init and by stage1, the kernel command line is read by three. What has one name in two of them
//! is the same text here, or stands in the list of what differs on purpose.

use std::collections::BTreeMap;
use std::path::Path;

/// Two files of `components/`, a text of the first with what the second has instead, and what differs on purpose.
type Pair = (&'static str, &'static str, (&'static str, &'static str), &'static [&'static str]);

const PAIRS: &[Pair] = &[
    ("init/src/modules/pattern.rs", "stage1/src/modules/pattern.rs", ("", ""), &[]),
    ("init/src/error.rs", "stage1/src/error.rs", ("", ""), &[]),
    ("init/src/console.rs", "stage1/src/console.rs", ("\"moby\"", "\"stage1\""), &[]),
    // Init knows what is built in, for `modprobe`.
    ("init/src/modules/index.rs", "stage1/src/modules/index.rs", ("", ""), &["fn read"]),
    ("init/src/modules/mod.rs", "stage1/src/modules/mod.rs", ("", ""), &[]),
    // stage1 keeps the failures for its report, init tells them at once.
    (
        "init/src/modules/coldplug.rs",
        "stage1/src/modules/coldplug.rs",
        ("", ""),
        &["fn open", "fn scan", "fn announced", "fn named", "fn file_system"],
    ),
    ("init/src/kernel_options.rs", "stage1/src/options.rs", ("", ""), &["fn read", "fn parse", "fn ending"]),
    ("init/src/kernel_options.rs", "update/src/slots/program.rs", ("", ""), &[]),
    ("stage1/src/bytes.rs", "update/src/slots/bytes.rs", ("", ""), &[]),
];

/// Least number of functions and constants that all pairs have in common: fewer, and the search is broken.
const LEAST: usize = 40;

#[test]
fn what_programs_of_the_guest_share_does_not_diverge() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("components");
    let read = |path: &str| {
        let text = std::fs::read_to_string(folder.join(path)).unwrap();
        text.split("#[cfg(test)]\n").next().unwrap().to_owned()
    };
    let mut shared = 0;
    for (one, other, (from, to), different) in PAIRS {
        let ones = items(&read(one).replace(from, if from.is_empty() { "" } else { to }));
        let others = items(&read(other));
        for (name, text) in &ones {
            let Some(there) = others.get(name) else { continue };
            shared += 1;
            let meant = different.contains(&name.as_str());
            assert_eq!(text != there, meant, "`{name}` of {one} and {other}\n{text}\n{there}");
        }
        for name in *different {
            assert!(ones.contains_key(*name) && others.contains_key(*name), "{name} of {one} and {other}");
        }
    }
    assert!(shared >= LEAST, "{shared}");
}

/// Functions and constants of a formatted file by name, without what is before `fn` or `const`.
fn items(text: &str) -> BTreeMap<String, String> {
    let mut items = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let inside = line.trim_start();
        let indentation = line.len() - inside.len();
        let item = inside.strip_prefix("pub ").unwrap_or(inside);
        let kind = ["fn", "const"].into_iter().find(|kind| item.starts_with(&format!("{kind} ")));
        let Some(kind) = kind else { continue };
        let end = |line: &&str| {
            let inside = line.trim_start();
            line.len() - inside.len() == indentation && inside.starts_with(['}', ']'])
        };
        let one_line = item.ends_with(';') || item.ends_with('}');
        let rest = if one_line { 0 } else { lines[at + 1..].iter().position(end).unwrap() + 1 };
        let name: String = item[kind.len() + 1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let content = std::iter::once(item).chain(lines[at + 1..=at + rest].iter().copied());
        items.insert(format!("{kind} {name}"), content.collect::<Vec<_>>().join("\n"));
    }
    items
}
