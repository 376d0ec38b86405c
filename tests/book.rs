//! The book against the program and itself: links lead somewhere, every page is reached, every flag is written down, and
//! the README's blueprint is the one that it links to.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages, by their paths from the project's folder.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    for folder in ["", "docs", "docs/formats"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                pages.insert(path.strip_prefix(root()).unwrap().to_owned(), text);
            }
        }
    }
    pages
}

/// The relative links of a page: what stands in `](...)` outside of code.
fn links(text: &str) -> Vec<String> {
    let mut code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
        }
        if code || line.starts_with("    ") {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if !target.contains("://") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// The anchor of a heading: lower case, spaces as dashes, without other signs.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let letters = heading.to_lowercase().replace(' ', "-");
            letters.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
        })
        .collect()
}

fn joined(page: &Path, target: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in page.parent().unwrap().join(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

#[test]
fn links_lead_somewhere_and_every_page_is_reached() {
    let pages = pages();
    let mut reached = BTreeSet::from([PathBuf::from("README.md")]);
    let mut queue = VecDeque::from([PathBuf::from("README.md")]);
    while let Some(page) = queue.pop_front() {
        for link in links(&pages[&page]) {
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if target.is_empty() { page.clone() } else { joined(&page, target) };
            assert!(root().join(&path).exists(), "{}: {link} leads nowhere", page.display());
            let Some(text) = pages.get(&path) else { continue };
            let known = anchor.is_empty() || anchors(text).contains(anchor);
            assert!(known, "{}: {link}: there is no such heading", page.display());
            if reached.insert(path.clone()) {
                queue.push_back(path);
            }
        }
    }
    let lost: Vec<_> = pages.keys().filter(|page| !reached.contains(*page)).collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_moby")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The verbs that a help lists.
fn verbs(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_flag_is_in_the_book() {
    let book: String = pages().into_values().collect::<Vec<_>>().join("\n");
    let written = |flag: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
        book.match_indices(flag).any(|(at, _)| !book[at + flag.len()..].starts_with(letter))
    };
    let mut missing = BTreeSet::new();
    let mut count = 0;
    for verb in verbs(&help(&[])) {
        let text = help(&[&verb]);
        let mut texts = vec![(verb.clone(), text.clone())];
        texts.extend(verbs(&text).into_iter().map(|below| (format!("{verb} {below}"), help(&[&verb, &below]))));
        for (name, text) in texts {
            for line in text.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
                let flag = line.split_whitespace().find(|word| word.starts_with("--")).unwrap_or_default();
                let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                count += 1;
                if !matches!(flag, "" | "--help" | "--version") && !written(flag) {
                    missing.insert(format!("moby {name} {flag}"));
                }
            }
        }
    }
    assert!(count > 200, "{count}");
    assert!(missing.is_empty(), "not in the book: {missing:#?}");
}

#[test]
fn the_blueprint_of_the_readme_is_the_one_it_links_to() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let shown = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let there = std::fs::read_to_string(root().join("blueprints/redis.yml")).unwrap();
    let plain = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned());
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    };
    assert_eq!(plain(shown), plain(&there));
}
