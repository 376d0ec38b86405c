//! The published schemas against the reader, with Python's jsonschema as the judge: what the reader takes, the schema
//! takes; what the reader refuses, the schema refuses, but for a list of mistakes that no schema shows.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use moby::blueprint::{Input, Kind, Meaning, Node, Origin, ReadOptions, Source, parse, read};
use serde_json::{Map, Value, json};

/// Mistakes that the reader finds and a schema does not: what two values say together, what a text holds, what must be
/// there once. Not being a YAML document at all is another matter: there is nothing to validate.
const BEYOND_SCHEMA: [&str; 6] =
    ["disk-conflicts", "duplicate-names", "duplicates", "root-compression", "users", "volumes"];

const JUDGE: &str = r#"
import json, sys
try:
    from jsonschema import Draft202012Validator
except ImportError:
    sys.exit("Python's jsonschema is missing: apt-get install python3-jsonschema")
asked = json.load(sys.stdin)
Draft202012Validator.check_schema(asked["schema"])
validator = Draft202012Validator(asked["schema"])
verdicts = []
for document in asked["documents"]:
    error = next(iter(validator.iter_errors(document)), None)
    verdicts.append(None if error is None else "/".join(map(str, error.absolute_path)) + ": " + error.message[:200])
json.dump(verdicts, sys.stdout)
"#;

/// What Python says about each document; nothing where it fits.
fn judge(schema: &Value, documents: &[Value]) -> Vec<Option<String>> {
    use std::io::Write;
    let mut child = Command::new("python3")
        .args(["-c", JUDGE])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("python3 ({error}): apt-get install python3 python3-jsonschema"));
    let asked = json!({"schema": schema, "documents": documents}).to_string();
    let mut stdin = child.stdin.take().unwrap();
    // Everything is read before anything is answered.
    stdin.write_all(asked.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn schema(kind: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_moby")).args(["schema", kind]).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The document as an editor sees it, by the same rules of YAML as the reader's.
fn to_json(node: &Node) -> Value {
    match &node.kind {
        Kind::List(list) => Value::Array(list.iter().map(|node| to_json(node)).collect()),
        Kind::Map(pairs) => {
            let key = |node: &Node| match &node.kind {
                Kind::Scalar(scalar) => scalar.text.clone(),
                other => format!("{other:?}"),
            };
            let pairs = pairs.iter().map(|(name, value)| (key(name), to_json(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Kind::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => Value::Null,
            Meaning::Bool(value) => Value::Bool(value),
            Meaning::Integer(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => json!(1e300),
            },
            Meaning::Float => json!(0.5),
            Meaning::Text => Value::String(scalar.text.clone()),
        },
    }
}

fn document(text: &str) -> Option<Value> {
    let source = Source::new("x.yml", text, Origin::Folder(".".into()));
    let mut diagnostics = moby::blueprint::Diagnostics::default();
    parse(&source, &mut diagnostics).map(|node| to_json(&node))
}

fn is_read(text: &str) -> bool {
    let resolve = |_: &Path, _: &moby::blueprint::Place| Ok("docker.io/x/y:z".to_owned());
    let input = Input::Text { name: "x.yml".into(), text: text.into(), folder: ".".into() };
    let archives = |_: &moby::blueprint::ArchiveReference| Ok("docker.io/x/y:z".to_owned());
    let options = ReadOptions { resolve: Some(&resolve), archives: Some(&archives), ..ReadOptions::default() };
    read(&[input], options).is_ok()
}

fn files(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yml") {
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                all.push((path, text));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn every_blueprint_of_the_project_fits_the_schema() {
    let all = files(&["blueprints", "tests/blueprints", "tests/linuxkit"]);
    assert!(all.len() >= 10);
    let documents: Vec<Value> = all.iter().map(|(_, text)| document(text).unwrap()).collect();
    for ((path, _), verdict) in all.iter().zip(judge(&schema("blueprint"), &documents)) {
        assert_eq!(verdict, None, "{}", path.display());
    }
}

#[test]
fn every_recipe_of_the_project_fits_the_schema() {
    let mut all = Vec::new();
    for root in ["components", "kernels"] {
        for entry in std::fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path().join("build.yml");
            if path.exists() {
                all.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(all.len() >= 10, "{}", all.len());
    let mut documents: Vec<Value> = all.iter().map(|(_, text)| document(text).unwrap()).collect();
    documents.push(json!({"image": "x", "pakages": ["y"]}));
    let verdicts = judge(&schema("component"), &documents);
    for ((path, _), verdict) in all.iter().zip(&verdicts) {
        assert_eq!(*verdict, None, "{}", path.display());
    }
    assert!(verdicts.last().unwrap().is_some());
}

#[test]
fn mistakes_in_files_are_seen_by_the_schema_too() {
    let all: Vec<_> = files(&["tests/diagnostics"]).into_iter().filter(|(_, text)| document(text).is_some()).collect();
    let documents: Vec<Value> = all.iter().map(|(_, text)| document(text).unwrap()).collect();
    let mut unseen = Vec::new();
    for ((path, text), verdict) in all.iter().zip(judge(&schema("blueprint"), &documents)) {
        match (is_read(text), verdict) {
            (true, Some(error)) => panic!("{}: the reader takes it, the schema does not: {error}", path.display()),
            (false, None) => unseen.push(path.file_stem().unwrap().to_str().unwrap()),
            (false, Some(_)) | (true, None) => {}
        }
    }
    assert_eq!(unseen, BEYOND_SCHEMA);
}

/// One value for one key, where reader and schema have to say the same.
#[test]
fn reader_and_schema_agree_on_single_values() {
    let container = |key: &str, value: &str| format!("services: [{{name: x, image: y, {key}: {value}}}]\n");
    let mut cases: Vec<String> = Vec::new();
    for (key, values) in [
        ("capabilities", &["[CAP_KILL]", "[all]", "[NONE]", "[]", "[CAP_X]", "[kill]", "CAP_KILL", "[1]", "null"][..]),
        ("binds", &["['/a:/b']", "['/a:/b:ro']", "['/a']", "['/a:/b:ro:x']", "[':/b']", "['/a:b']", "[\"/a:/b\\n\"]"]),
        ("tmpfs", &["['/a']", "['/a:size=1m,ro']", "['a']", "['/a:b:c']", "['']"]),
        ("command", &["[]", "['/bin/sh', '-c', '']", "/bin/sh", "[1]", "[yes]", "[true]", "[~]"]),
        ("cwd", &["/x", "''", "x", "1", "[]"]),
        ("net", &["host", "new", "none", "/run/netns/x", "''", "root", "bridge", "true"]),
        ("pid", &["host", "new", "/x", "none"]),
        ("hostname", &["x", "''", "\"a\\nb\"", "5"]),
        ("readonly", &["true", "false", "yes", "'true'", "1"]),
        ("uid", &["0", "4294967295", "x", "1.5", "[]", "true"]),
        ("oomScoreAdj", &["-1000", "1000", "1001", "'0'", "1.5"]),
        ("sysctl", &["{a: b}", "{}", "{a: 1}", "[a]"]),
        ("rlimits", &["['nofile,1,2']", "['nofile,1']", "['nofile,1,2,3']", "nofile"]),
        (
            "devices",
            &[
                "[{path: all, type: b}]",
                "[{path: /dev/x, type: c, major: 1, minor: 2, mode: '0660'}]",
                "[{path: /dev/x, type: c, mode: 0660}]",
                "[{path: /dev/x, type: c, mode: '0888'}]",
                "[{path: dev/x, type: c, mode: '0660'}]",
                "[{path: all, type: x}]",
                "[{type: b}]",
            ],
        ),
        ("resources", &["{memory: {limit: -1}}", "{memory: {swappiness: 101}}", "{pids: {limit: x}}", "{cpus: 1}"]),
        ("runtime", &["{mkdir: [x], bindNS: {net: /x}}", "{bindNS: {nett: /x}}", "{interfaces: [{createInRoot: 1}]}"]),
        ("uidMappings", &["[{hostID: 1, containerID: 2, size: 3}]", "[{hostID: -1}]", "[{hostid: 1}]"]),
        ("security", &["strict", "linuxkit", "none", "''"]),
        ("unknown", &["1"]),
    ] {
        cases.extend(values.iter().map(|value| container(key, value)));
    }
    for name in ["x", "a.b_c-9", "..", ".", "a/b", "''", "5", "[x]", "\"a\\n\"", &"x".repeat(76), &"x".repeat(77)] {
        cases.push(format!("services: [{{name: {name}, image: y}}]\n"));
        cases.push(format!("volumes: [{{name: {name}}}]\n"));
    }
    let digest = format!("x@sha256:{}", "a".repeat(64));
    for image in [
        "redis",
        "redis:7",
        "a/b",
        "a/b/c:d",
        "localhost/x",
        "localhost:5000/x",
        "ghcr.io/a/b",
        "'[::1]:5000/x:1'",
        &digest,
        "'@pkg:../x'",
        "'docker-archive:a.tar'",
        "'docker-archive:/x/a.tar:redis:7'",
        "'docker-archive:'",
        "'docker-archive:a.tar:'",
        "'oci:./a'",
        "'oci:/a:tag'",
        "'oci:tag'",
        "'oci:Tag:x'",
        "'oci-archive:../a b.tar'",
        "a__b/c--d.e",
        "Redis",
        "a b",
        "'redis:'",
        "a//b",
        "redis:-x",
        "x@sha256:00",
        "a/-b",
        "a..b/c",
        "../x",
        "'@pkg:'",
        "'@other:x'",
        "http://x/y",
        "5",
    ] {
        cases.push(format!("init: [{image}]\n"));
        cases.push(format!("kernel: {{image: {image}}}\n"));
    }
    for file in [
        "path: etc/x, contents: ''",
        "path: /etc//x, symlink: /y",
        "path: x, directory: true",
        "path: x, source: y",
        "path: x, metadata: yaml",
        "path: x, metadata: xml",
        "path: ../x, contents: y",
        "path: a/../x, contents: y",
        "path: a/.., contents: y",
        "path: a..b/..c, contents: y",
        "path: '', contents: y",
        "contents: y",
        "path: x, contents: 5",
        "path: x, contents: y, mode: '0644'",
        "path: x, contents: y, mode: 0644",
        "path: x, contents: y, mode: rw",
        "path: x, contents: y, mode: -1",
        "path: x, contents: y, optional: 1",
        "path: \"a\\nb\", contents: y",
    ] {
        cases.push(format!("files: [{{{file}}}]\n"));
    }
    for rest in [
        "volumes: [{name: v, format: oci, platforms: [linux/amd64]}]",
        "volumes: [{name: v, platforms: [linux]}]",
        "volumes: [{name: v, format: tar}]",
        "volumes: [{name: v, format: ''}]",
        "volumes: [{name: v, image: ''}]",
        "kernel: {binary: a/b}",
        "kernel: {tar: none, ucode: x.cpio}",
        "kernel: {cmdline: 5}",
        "kernel: []",
        "init: x",
        "trust: {image: [x]}",
        "trust: {images: [x]}",
        "security: strict",
        "security: loose",
        "root: {}",
        "root: {type: erofs, verity: true, signature: optional, onfailure: reboot}",
        "root: {type: squashfs, verity: false}",
        "root: {type: initrd}",
        "root: {type: ext4}",
        "root: {verity: 'true'}",
        "root: {signature: never}",
        "root: {onfailure: continue}",
        "root: {kind: erofs}",
        "root: erofs",
        "disk: {}",
        "disk: {slots: 1}",
        "{root: {}, disk: {slots: 2, slot-size: 512M}}",
        "{root: {}, disk: {slots: 3}}",
        "{root: {}, disk: {slots: '2'}}",
        "{root: {}, disk: {slots: 2, slot-size: 512}}",
        "{root: {}, disk: {slots: 2, slot-size: 0G}}",
        "{root: {}, disk: {slots: 2, slot-size: 12345678G}}",
        "{root: {}, disk: {data: {}}}",
        "{root: {}, disk: {data: {size: rest, label: a.b_c-9, mount: /var/lib, filesystem: ext4, encrypt: tpm2}}}",
        "{root: {}, disk: {data: {size: 10G}}}",
        "{root: {}, disk: {data: {size: all}}}",
        "{root: {}, disk: {data: {label: ''}}}",
        "{root: {}, disk: {data: {label: a-label-that-is-too-long}}}",
        "{root: {}, disk: {data: {mount: /}}}",
        "{root: {}, disk: {data: {mount: /a/../b}}}",
        "{root: {}, disk: {data: {mount: /a/..b}}}",
        "{root: {}, disk: {data: {mount: /a//b}}}",
        "{root: {}, disk: {data: {mount: a}}}",
        "{root: {}, disk: {data: {filesystem: xfs}}}",
        "{root: {}, disk: {data: {encrypt: luks}}}",
        "services: {}",
        "{}",
        "[]",
        "onboot: [{name: x}]",
        "onboot: [{image: x}]",
        "onboot: null",
    ] {
        cases.push(format!("{rest}\n"));
    }
    let documents: Vec<Value> = cases.iter().map(|text| document(text).unwrap_or_else(|| panic!("{text}"))).collect();
    let verdicts = judge(&schema("blueprint"), &documents);
    let mut wrong = Vec::new();
    let (mut good, mut bad) = (0, 0);
    for (text, verdict) in cases.iter().zip(verdicts) {
        let is_read = is_read(text);
        *(if is_read { &mut good } else { &mut bad }) += 1;
        if is_read != verdict.is_none() {
            wrong.push(format!("reader {is_read}, schema {verdict:?}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join(""));
    assert!(good > 60 && bad > 70, "{good} {bad}");
}

/// The same for recipes: one key, good and bad values.
#[test]
fn reader_and_schema_agree_on_recipes() {
    let mut cases = vec!["{}".to_owned(), "[]".to_owned(), "packages: [x]".to_owned(), "image: x\nfoo: 1".to_owned()];
    for image in ["redis", "a/b", "a.b-c_d", "Redis", "-a", "a/", "''", "5", "a b"] {
        cases.push(format!("image: {image}"));
    }
    let mut add = |key: &str, rest: &str, values: &[&str]| {
        cases.extend(values.iter().map(|value| format!("image: x\n{key}: {value}\n{rest}")));
    };
    add("arches", "packages: [y]", &["[amd64]", "[amd64, arm64, riscv64]", "[x86]", "amd64"]);
    add("tag", "packages: [y]", &["v1", "v1-%h", "'{{.Hash}}'", "-x", ".x", "'a/b'", "1.0"]);
    add("recommends", "packages: [y]", &["true", "yes", "1"]);
    add("keep", "packages: [y]", &["[/usr/bin/x]", "[1]", "x"]);
    add("ca-certificates", "packages: [y]", &["true", "'true'"]);
    add("symlinks", "packages: [y]", &["[{path: a, target: b}]", "[{path: a}]", "[{path: a, target: ''}]"]);
    add("groups", "packages: [y]", &["[{name: a, gid: 5}]", "[{name: a}]", "[{name: A, gid: 5}]"]);
    add("extra-sources", "packages: [y]", &["['../a:a']", "['a']", "['a:']", "['a:b:c']", "a"]);
    add("entrypoint", "packages: [y]", &["[/bin/x]", "/bin/x"]);
    add("workdir", "packages: [y]", &["/x", "5", "\"a\\nb\""]);
    add("config", "packages: [y]", &["{readonly: true}", "{name: x}", "{readonly: 1}"]);
    add("packages", "", &["[a]", "[a=1.0-1]", "[a=1:2~x]", "[A]", "['']", "a", "[a_b]", "[1]"]);
    add("buildArgs", "", &["[A=b]", "[A=]", "[A]", "['A b=c']", "['A=@lkt:pkg:x']"]);
    add("network", "", &["true", "on"]);
    add("dockerfile", "", &["Dockerfile.x", "../Dockerfile", "/Dockerfile", "a/../../x"]);
    add(
        "files",
        "",
        &[
            "[{path: a, contents: b}]",
            "[{path: a, source: b, mode: 0755, uid: 5}]",
            "[{path: ../a, contents: b}]",
            "[{path: a, source: ../b}]",
            "[{path: a, source: /b}]",
            "[{path: /, directory: true}]",
            "[{contents: a}]",
            "[{path: a, contents: b, mode: '9'}]",
            "[{path: a, contents: b, uid: -1}]",
            "[{path: a, contents: b, uid: 4294967295}]",
        ],
    );
    add(
        "users",
        "",
        &[
            "[{name: a, uid: 5}]",
            "[{name: a, uid: 5, home: /x, shell: /bin/sh, groups: [b]}]",
            "[{name: a}]",
            "[{uid: 5}]",
            "[{name: 0a, uid: 5}]",
            "[{name: a, uid: 5, home: x}]",
            "[{name: a, uid: 5, home: '/x:y'}]",
        ],
    );
    add("cargo", "", &["{package: a}", "{package: a, path: ../x, install: /y}", "{}", "{package: a, install: ../y}"]);
    add("kernel", "", &["{package: a}", "{package: 5}", "{source: a, config: [b]}", "{source: a, config: [../b]}"]);
    let documents: Vec<Value> = cases.iter().map(|text| document(text).unwrap_or_else(|| panic!("{text}"))).collect();
    let (mut wrong, mut good) = (Vec::new(), 0);
    for (text, verdict) in cases.iter().zip(judge(&schema("component"), &documents)) {
        let source = Source::new("build.yml", text.as_str(), Origin::Remote);
        let is_read = moby::component::recipe::Recipe::read(&source).is_ok();
        good += usize::from(is_read);
        if is_read != verdict.is_none() {
            wrong.push(format!("reader {is_read}, schema {verdict:?}: {text}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join(""));
    assert!(good > 30 && cases.len() - good > 40, "{good} of {}", cases.len());
}

#[test]
fn labels_and_locks_have_schemas() {
    let label = json!({"binds": ["/a:/b"], "capabilities": ["all"], "runtime": {"mkdir": ["x"]}});
    let verdicts = judge(&schema("label"), &[label, json!({"name": "x"}), json!({"image": "x"})]);
    assert!(verdicts[0].is_none() && verdicts[1].is_some() && verdicts[2].is_some(), "{verdicts:?}");
    let mut lock = moby::lock::LockFile::new();
    let platform = moby::lock::LockedPlatform { manifest: Some(moby::store::Digest::of(b"")), ..Default::default() };
    let entry = moby::lock::LockEntry { platforms: [(moby::Arch::Amd64, platform)].into(), ..Default::default() };
    lock.images.insert("docker.io/library/x:1".into(), entry);
    let good = document(&lock.to_yaml()).unwrap();
    let mut other = good.clone();
    other["images"][0]["platforms"]["riscv64"] = json!({});
    let verdicts = judge(&schema("lock"), &[good, other]);
    assert!(verdicts[0].is_none() && verdicts[1].is_some(), "{verdicts:?}");
}

/// Editors show these.
#[test]
fn every_key_has_a_description() {
    fn walk(value: &Value, count: &mut usize) {
        match value {
            Value::Object(map) => {
                if let Some(Value::Object(properties)) = map.get("properties") {
                    for (key, property) in properties {
                        assert!(property["description"].as_str().is_some_and(|text| text.len() > 3), "{key}");
                        *count += 1;
                    }
                }
                map.values().for_each(|value| walk(value, count));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, count)),
            _ => {}
        }
    }
    let mut count = 0;
    walk(&schema("blueprint"), &mut count);
    assert!(count > 100, "{count}");
}

/// `moby schema --markdown blueprint > docs/blueprint-keys.md`, and the same for `component`, writes them anew.
#[test]
fn the_pages_of_the_book_are_those_of_the_tables() {
    for (kind, page) in [("blueprint", "docs/blueprint-keys.md"), ("component", "docs/component-keys.md")] {
        let output = Command::new(env!("CARGO_BIN_EXE_moby")).args(["schema", "--markdown", kind]).output().unwrap();
        assert!(output.status.success());
        let committed = std::fs::read_to_string(page).unwrap();
        let stale = format!("{page} is not what moby schema --markdown {kind} prints");
        assert!(committed == String::from_utf8(output.stdout).unwrap(), "{stale}");
    }
}
