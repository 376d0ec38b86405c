use super::*;
use crate::arch::Arch;

/// Packages from lines of `name version; Field: value; ...`.
struct Few(Vec<Arc<Package>>);

impl Few {
    fn new(lines: &[&str]) -> Few {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let packages = lines.iter().enumerate().map(|(at, line)| {
            let mut fields = line.split(';').map(str::trim);
            let (name, version) = fields.next().unwrap().split_once(' ').unwrap();
            let rest = fields.collect::<Vec<_>>().join("\n");
            let text = format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\nFilename: x\nSize: 1\nSHA256: {digest}\n{rest}\n"
            );
            Arc::new(Package::parse(&text, Arch::Amd64, at).unwrap())
        });
        Few(packages.collect())
    }

    fn resolve(&self, requests: &[&str], options: &ResolveOptions) -> Result<String> {
        let requests: Vec<String> = requests.iter().map(|request| request.to_string()).collect();
        let packages = resolve(self, &requests, options)?;
        Ok(packages.iter().map(|package| package.to_string()).collect::<Vec<_>>().join(", "))
    }

    fn plain(&self, requests: &[&str]) -> String {
        self.resolve(requests, &ResolveOptions::default()).unwrap()
    }

    fn refusal(&self, requests: &[&str]) -> String {
        let error = self.resolve(requests, &ResolveOptions::default()).unwrap_err();
        format!("{error}. {}", error.hint_text().unwrap_or(""))
    }
}

impl Universe for Few {
    fn named(&self, name: &str) -> Result<Vec<Arc<Package>>> {
        Ok(self.0.iter().filter(|package| &*package.name == name).cloned().collect())
    }

    fn providing(&self, name: &str) -> Result<Vec<Arc<Package>>> {
        Ok(self.0.iter().filter(|package| package.provides.iter().any(|p| &*p.name == name)).cloned().collect())
    }

    fn similar(&self, name: &str) -> Result<Vec<String>> {
        Ok(similar(name, self.0.iter().map(|package| &*package.name)))
    }

    fn describe(&self) -> String {
        "test (main)".to_string()
    }
}

#[test]
fn the_closure_is_taken_in_its_highest_versions() {
    let few = Few::new(&[
        "a 1; Depends: b (>= 1), c; Pre-Depends: d",
        "b 1",
        "b 2; Depends: a",
        "c 1; Depends: b",
        "d 1",
        "e 1",
    ]);
    assert_eq!(few.plain(&["a"]), "a 1, b 2, c 1, d 1");
    assert_eq!(few.plain(&["b=1"]), "b 1");
    assert_eq!(few.plain(&["a", "b=1"]), "a 1, b 1, c 1, d 1");
    assert_eq!(few.plain(&[]), "");
}

#[test]
fn alternatives_prefer_what_is_chosen_already() {
    let few = Few::new(&[
        "a 1; Depends: x | y",
        "b 1; Depends: y",
        "x 1",
        "y 1",
        "c 1; Depends: none | y",
        "d 1; Depends: x (>= 2) | y",
    ]);
    assert_eq!(few.plain(&["a"]), "a 1, x 1");
    assert_eq!(few.plain(&["a", "b"]), "a 1, b 1, y 1");
    assert_eq!(few.plain(&["c"]), "c 1, y 1");
    assert_eq!(few.plain(&["d"]), "d 1, y 1");
}

#[test]
fn virtual_packages_are_filled() {
    let few = Few::new(&[
        "a 1; Depends: mta",
        "b 1; Depends: mta (>= 3)",
        "x 1; Provides: mta; Priority: extra",
        "y 1; Provides: mta (= 3)",
        "z 1; Provides: mta; Priority: important",
        "w 1; Provides: only",
    ]);
    assert_eq!(few.plain(&["a"]), "a 1, z 1");
    assert_eq!(few.plain(&["a", "b"]), "a 1, b 1, y 1");
    assert_eq!(few.plain(&["only"]), "w 1");
    assert!(few.refusal(&["mta"]).contains("name one of x, y, z"));
}

#[test]
fn conflicts_lead_to_the_next_alternative_or_are_named() {
    let few = Few::new(&[
        "a 1; Depends: x | y",
        "b 1; Conflicts: x",
        "c 1; Depends: x",
        "x 1",
        "y 1; Provides: thing; Conflicts: thing",
        "z 1; Provides: thing; Conflicts: thing",
        "n 1; Breaks: m (<< 2)",
        "m 1",
        "m 2; Depends: missing",
        // The first way of f leads to a dead end two steps later.
        "f 1; Depends: g | h",
        "g 1; Depends: i",
        "i 1; Conflicts: b",
        "h 1",
    ]);
    assert_eq!(few.plain(&["a", "b"]), "a 1, b 1, y 1");
    let refusal = few.refusal(&["b", "c"]);
    assert!(refusal.contains("x 1 and b 1 exclude") || refusal.contains("b 1 and x 1 exclude"), "{refusal}");
    assert!(refusal.contains("x is needed by c"), "{refusal}");
    assert!(few.refusal(&["y", "z"]).contains("exclude each other"));
    assert_eq!(few.plain(&["y"]), "y 1");
    assert!(few.refusal(&["n", "m=1"]).contains("m (<< 2)"));
    assert_eq!(few.plain(&["b", "f"]), "b 1, f 1, h 1");
    // A dead end in the highest version leads to the next.
    assert_eq!(few.plain(&["m"]), "m 1");
}

#[test]
fn recommended_packages_are_taken_where_they_can() {
    let few = Few::new(&[
        "a 1; Recommends: b, none, c, d | e",
        "b 1; Depends: missing",
        "c 1; Conflicts: a",
        "d 1; Depends: missing",
        "e 1; Recommends: f",
        "f 1",
    ]);
    assert_eq!(few.plain(&["a"]), "a 1");
    let options = ResolveOptions { recommends: true, without: None };
    assert_eq!(few.resolve(&["a"], &options).unwrap(), "a 1, e 1, f 1");
}

#[test]
fn maintainer_scripts_tools_are_left_out_unless_they_are_asked_for() {
    let few = Few::new(&[
        "a 1; Depends: debconf (>= 0.5) | debconf-2.0, adduser, b",
        "b 1",
        "adduser 3; Depends: passwd",
        "passwd 1",
        "debconf 1",
    ]);
    assert_eq!(few.plain(&["a"]), "a 1, b 1");
    assert_eq!(few.plain(&["a", "adduser"]), "a 1, adduser 3, b 1");
    let only = |names: &[&str]| ResolveOptions {
        without: Some(names.iter().map(|n| n.to_string()).collect()),
        recommends: false,
    };
    assert_eq!(few.resolve(&["a"], &only(&["b"])).unwrap(), "a 1, adduser 3, debconf 1, passwd 1");
    assert_eq!(few.resolve(&["a"], &only(&[])).unwrap(), "a 1, adduser 3, b 1, debconf 1, passwd 1");
}

#[test]
fn what_cannot_be_had_is_explained() {
    let few = Few::new(&[
        "redis-server 7; Depends: redis-tools",
        "redis-tools 7; Depends: liblua (>= 6)",
        "liblua 5",
        "libluax 5",
    ]);
    let refusal = few.refusal(&["redis-server"]);
    assert!(refusal.contains("redis-server -> redis-tools needs liblua (>= 6)"), "{refusal}");
    assert!(refusal.contains("only 5"), "{refusal}");
    assert!(few.refusal(&["redis"]).contains("redis-tools, redis-server"));
    assert!(few.refusal(&["lublua"]).contains("similar names are liblua"));
    assert!(few.refusal(&["liblua=6"]).contains("it has 5"));
    assert!(few.refusal(&["liblua:arm64"]).contains("architecture"));
    assert!(few.refusal(&["LibLua"]).contains("no package"));
}

#[test]
fn similar_names_are_found() {
    assert!(one_letter_off("ngnix", "nginx") && one_letter_off("ngin", "nginx") && one_letter_off("nginxx", "nginx"));
    assert!(!one_letter_off("nxnig", "nginx") && !one_letter_off("nn", "nginx"));
}

proptest::proptest! {
    /// Whatever is chosen is closed, free of conflicts, and the same every time.
    #[test]
    fn results_hold(edges in proptest::collection::vec((0usize..8, 0usize..8, 0usize..8, 0u8..4), 0..24)) {
        let mut fields: Vec<(Vec<String>, Vec<String>)> = vec![Default::default(); 8];
        for (from, to, other, kind) in edges {
            match kind {
                0 => fields[from].1.push(format!("p{to}")),
                1 => fields[from].0.push(format!("p{to} | p{other}")),
                _ => fields[from].0.push(format!("p{to}")),
            }
        }
        let lines: Vec<String> = fields.iter().enumerate().map(|(at, (depends, conflicts))| {
            format!("p{at} 1; Depends: {}; Conflicts: {}", depends.join(", "), conflicts.join(", "))
        }).collect();
        let few = Few::new(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let requests = ["p0".to_string(), "p1".to_string()];
        // All subsets that have the requests, to know whether there is a solution at all.
        let valid = |set: &[Arc<Package>]| set.iter().all(|package| {
            package.depends.iter().all(|group| group.iter().any(|r| set.iter().any(|p| p.satisfies(r))))
                && !set.iter().any(|p| p.name != package.name && package.conflicts.iter().any(|r| p.satisfies(r)))
        });
        let solvable = (0u32..64).any(|mask| {
            let set: Vec<_> = few.0.iter().enumerate().filter(|(at, _)| *at < 2 || mask >> (at - 2) & 1 == 1).map(|(_, p)| p.clone()).collect();
            valid(&set)
        });
        match resolve(&few, &requests, &ResolveOptions::default()) {
            Ok(packages) => {
                proptest::prop_assert!(valid(&packages));
                let again = resolve(&few, &requests, &ResolveOptions::default()).unwrap();
                proptest::prop_assert_eq!(packages.iter().map(|p| p.to_string()).collect::<Vec<_>>(), again.iter().map(|p| p.to_string()).collect::<Vec<_>>());
            }
            Err(error) => proptest::prop_assert!(!solvable, "{}", error),
        }
    }
}
