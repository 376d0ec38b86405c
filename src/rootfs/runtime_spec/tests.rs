//! Small copies of what LinuxKit writes for the same blueprints and labels, compared by meaning: absent, null, empty and
//! false are the same, and so is 0 for ids.

use serde_json::{Value as Json, json};

use super::*;
use crate::blueprint::{Blueprint, Input, ReadOptions, read, read_label_named};

fn blueprint(text: &str) -> Blueprint {
    let input = Input::Text { name: "test.yml".into(), text: text.into(), folder: ".".into() };
    read(&[input], ReadOptions::default()).unwrap_or_else(|error| panic!("{}", error.diagnostics()[0].render(false))).0
}

fn label(json: &Json) -> Settings {
    read_label_named(&json.to_string(), "label").unwrap().0
}

/// Drops what is empty, false or nothing, at every level.
fn meaning(json: Json) -> Json {
    let empty = |json: &Json| match json {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        Json::Array(list) => list.is_empty(),
        Json::Object(map) => map.is_empty(),
        Json::Bool(true) | Json::Number(_) => false,
    };
    match json {
        Json::Array(list) => Json::Array(list.into_iter().map(meaning).collect()),
        Json::Object(map) => {
            let full = map.into_iter().map(|(key, value)| (key, meaning(value)));
            Json::Object(full.filter(|(_, value)| !empty(value)).collect())
        }
        other => other,
    }
}

struct Made {
    config: Json,
    runtime: Json,
    config_text: String,
}

fn make(blueprint: &Blueprint, name: &str, label: Option<&Settings>, oci: &OciConfig, root: &str) -> Made {
    let image = blueprint.containers().find(|image| image.name.as_str() == name).unwrap();
    let ids = IdMap::number(blueprint);
    let bundle = format!("containers/services/{name}");
    let inputs = BundleInputs {
        image,
        label,
        oci,
        ids: &ids,
        security: blueprint.security(),
        arch: Arch::Amd64,
        bundle_path: &bundle,
        root_of_image: if root.is_empty() { "containers/services/a/lower" } else { root },
        data: blueprint.disk.data.as_ref().map(|data| data.value.mount()),
    };
    let made = generate(&inputs).unwrap();
    let mut config: Json = serde_json::from_str(&made.config_json).unwrap();
    assert_eq!(config["ociVersion"], OCI_VERSION);
    config.as_object_mut().unwrap().remove("ociVersion");
    let runtime = serde_json::from_str(&made.runtime_json).unwrap();
    Made { config, runtime, config_text: made.config_json }
}

fn no_image_config() -> OciConfig {
    OciConfig::default()
}

fn default_mounts() -> Json {
    json!([
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "nodev", "noexec", "relatime"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ])
}

#[test]
fn an_image_without_settings() {
    let oci = OciConfig {
        entrypoint: vec!["/bin/sh".into(), "-c".into()],
        cmd: vec!["echo hi".into()],
        env: vec!["PATH=/bin".into()],
        working_dir: "/opt".into(),
    };
    let made = make(&blueprint("services: [{name: a, image: app}]"), "a", None, &oci, "");
    let expected = json!({
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", "echo hi"], "env": ["PATH=/bin"], "cwd": "/opt",
            "capabilities": {},
        },
        "root": {"path": "rootfs"},
        "mounts": default_mounts(),
        "linux": {"resources": {}, "namespaces": [{"type": "pid"}, {"type": "mount"}]},
    });
    assert_eq!(made.config, expected);
    assert_eq!(
        made.runtime,
        json!({
            "cgroups": [],
            "mounts": [
                {"destination": "/containers/services/a/tmp", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/containers/services/a/tmp", "options": ["remount", "private"]},
                {"destination": "/containers/services/a/rootfs", "type": "overlay", "source": "overlay",
                 "options": ["lowerdir=/containers/services/a/lower", "upperdir=/containers/services/a/tmp/upper",
                             "workdir=/containers/services/a/tmp/work"]},
            ],
            "mkdir": [], "interfaces": [],
            "bindNS": {"cgroup": "", "ipc": "", "mnt": "", "net": "", "pid": "", "user": "", "uts": ""},
            "namespace": "",
        })
    );
    let start = "{\n    \"ociVersion\": \"1.2.1\",\n    \"process\": {\n        \"user\": {\n            \"uid\": 0,";
    assert!(made.config_text.starts_with(start), "{}", made.config_text);
    assert!(made.config_text.ends_with("\n}"));
}

#[test]
fn the_label_is_overruled_by_the_blueprint() {
    let label = label(&json!({
        "capabilities": ["CAP_NET_BIND_SERVICE", "CAP_CHOWN"], "readonly": true, "net": "host", "pid": "host",
        "binds": ["/etc/resolv.conf:/etc/resolv.conf", "/run:/run"], "tmpfs": ["/tmp:size=10m"],
        "env": ["FROM_LABEL=1"], "command": ["/usr/bin/daemon", "--label"], "rlimits": ["nofile,100,200"],
        "sysctl": {"net.core.somaxconn": "128"}, "annotations": {"a": "label"}, "maskedPaths": ["/proc/kcore"],
        "runtime": {"mkdir": ["/var/lib/label"], "mounts": [{"type": "tmpfs", "destination": "/var/x"}]},
    }));
    let blueprint = blueprint(
        r#"
services:
  - {name: as-is, image: labelled}
  - name: more
    image: labelled
    capabilities.add: [CAP_NET_ADMIN, CAP_CHOWN]
    binds.add: ["/dev:/dev"]
    tmpfs: ["/scratch"]
    runtime: {mkdir: ["/var/lib/more"], bindNS: {net: /run/netns/more}}
  - name: replaced
    image: labelled
    binds: ["/a:/b:ro"]
    net: new
    pid: new
    readonly: false
    command: ["/usr/bin/daemon"]
    sysctl: {net.core.somaxconn: "99"}
    env: []
"#,
    );
    let made = make(&blueprint, "as-is", Some(&label), &no_image_config(), "containers/services/as-is/rootfs");
    let (config, runtime) = (meaning(made.config), meaning(made.runtime));
    assert_eq!(config["process"]["args"], json!(["/usr/bin/daemon", "--label"]));
    assert_eq!(config["process"]["env"], json!(["FROM_LABEL=1"]));
    assert_eq!(config["process"]["cwd"], "/");
    assert_eq!(config["process"]["rlimits"], json!([{"type": "RLIMIT_NOFILE", "hard": 200, "soft": 100}]));
    assert_eq!(config["root"], json!({"path": "rootfs", "readonly": true}));
    assert_eq!(
        config["linux"],
        json!({"sysctl": {"net.core.somaxconn": "128"}, "namespaces": [{"type": "mount"}],
               "maskedPaths": ["/proc/kcore"]})
    );
    assert_eq!(config["annotations"], json!({"a": "label"}));
    let mounts = config["mounts"].as_array().unwrap();
    let destinations: Vec<&str> = mounts.iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
    let sorted = ["/dev", "/dev/pts", "/etc/resolv.conf", "/proc", "/run", "/sys", "/sys/fs/cgroup", "/tmp"];
    assert_eq!(destinations, sorted);
    assert_eq!(mounts[0]["options"], json!(["nosuid", "strictatime", "mode=755", "size=65536k", "ro"]));
    assert_eq!(mounts[2]["options"], json!(["rw", "rbind", "rshared"]));
    assert_eq!(mounts[5]["options"], json!(["nosuid", "noexec", "nodev", "ro"]));
    assert_eq!(mounts[7]["options"], json!(["size=10m"]));
    assert_eq!(
        runtime,
        json!({
            "mkdir": ["/var/lib/label"],
            "mounts": [
                {"destination": "/containers/services/as-is/rootfs", "source": "/containers/services/as-is/rootfs",
                 "options": ["bind"]},
                {"destination": "/var/x", "type": "tmpfs"},
            ],
        })
    );

    let made = make(&blueprint, "more", Some(&label), &no_image_config(), "containers/services/as-is/rootfs");
    let (config, runtime) = (meaning(made.config), meaning(made.runtime));
    let all = json!(["CAP_CHOWN", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"]);
    assert_eq!(
        config["process"]["capabilities"],
        json!({"bounding": all, "inheritable": all, "permitted": all,
               "effective": ["CAP_NET_BIND_SERVICE", "CAP_CHOWN", "CAP_NET_ADMIN"]})
    );
    let mounts = config["mounts"].as_array().unwrap();
    assert_eq!(mounts[0]["type"], "bind");
    assert!(mounts.iter().any(|mount| mount["destination"] == "/scratch" && mount.get("options").is_none()));
    assert!(mounts.iter().any(|mount| mount["destination"] == "/run"));
    assert_eq!(runtime["mkdir"], json!(["/var/lib/more"]));
    assert_eq!(runtime["mounts"][0]["source"], "/containers/services/as-is/rootfs");
    assert_eq!(runtime["mounts"][1]["destination"], "/var/x");
    assert_eq!(runtime["bindNS"], json!({"net": "/run/netns/more"}));

    let made = make(&blueprint, "replaced", Some(&label), &no_image_config(), "containers/services/as-is/rootfs");
    let (config, runtime) = (meaning(made.config), meaning(made.runtime));
    assert_eq!(config["root"], json!({"path": "rootfs"}));
    assert_eq!(config["process"].get("env"), None);
    let namespaces = json!([{"type": "network"}, {"type": "pid"}, {"type": "mount"}]);
    assert_eq!(config["linux"]["namespaces"], namespaces);
    let mounts = config["mounts"].as_array().unwrap();
    assert_eq!(mounts[0], json!({"destination": "/b", "type": "bind", "source": "/a", "options": ["ro", "rbind"]}));
    assert!(!mounts.iter().any(|mount| mount["destination"] == "/run"));
    assert_eq!(runtime["mounts"].as_array().unwrap().len(), 4);
}

#[test]
fn limits_devices_and_resources() {
    let blueprint = blueprint(
        r#"
services:
  - name: a
    image: a
    rlimits: ["nofile,1024,unlimited"]
    oomScoreAdj: 100
    noNewPrivileges: true
    hostname: box
    cwd: /z
    devices:
      - {path: /dev/null, type: c, major: 1, minor: 3, mode: 0666}
      - {path: all, type: b, major: 8}
    resources:
      memory: {limit: 1048576, disableOOMKiller: true}
      pids: {limit: 5}
      blockio: {weight: 10, throttleReadBpsDevice: [{major: 8, minor: 0, rate: 1000}]}
    uidMappings: [{hostID: 5, containerID: 0, size: 10}]
    userns: new
    mounts:
      - {source: mqueue}
      - {destination: /x, type: tmpfs, options: [ro]}
    capabilities: [ALL]
"#,
    );
    let made = make(&blueprint, "a", None, &no_image_config(), "");
    let config = &made.config;
    assert!(made.config_text.contains("\"hard\": 18446744073709551615"));
    assert_eq!(config["process"]["rlimits"][0]["soft"], 1024);
    assert_eq!(config["process"]["oomScoreAdj"], 100);
    assert_eq!(config["process"]["noNewPrivileges"], true);
    assert_eq!(config["process"]["cwd"], "/z");
    assert_eq!(config["hostname"], "box");
    let effective = config["process"]["capabilities"]["effective"].as_array().unwrap();
    assert_eq!(
        (effective.len(), &effective[0], &effective[40]),
        (41, &json!("CAP_CHOWN"), &json!("CAP_CHECKPOINT_RESTORE"))
    );
    let nodes = json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438}]);
    assert_eq!(config["linux"]["devices"], nodes);
    assert_eq!(
        config["linux"]["resources"],
        json!({
            "devices": [
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": true, "type": "b", "access": "rwm"},
            ],
            "memory": {"limit": 1048576, "disableOOMKiller": true},
            "pids": {"limit": 5},
            "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
        })
    );
    assert_eq!(config["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 5, "size": 10}]));
    let mounts = config["mounts"].as_array().unwrap();
    let queue = json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"});
    assert!(mounts.contains(&queue), "{mounts:?}");
    assert!(mounts.contains(&json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]})));
}

#[test]
fn volumes_become_paths() {
    let blueprint = blueprint(
        r#"
volumes: [{name: data}, {name: seeded, readonly: true}]
services:
  - name: a
    image: a
    binds: ["data:/data", "seeded:/seeded:ro"]
    mounts:
      - {type: bind, source: data, destination: /again, options: [bind]}
      - {type: bind, source: data, destination: /bare}
"#,
    );
    let made = make(&blueprint, "a", None, &no_image_config(), "");
    let mounts = made.config["mounts"].as_array().unwrap();
    let path = "/containers/volumes/data/merged";
    for expected in [
        json!({"destination": "/data", "type": "bind", "source": path, "options": ["rw", "rbind", "rshared"]}),
        json!({"destination": "/again", "type": "bind", "source": path, "options": ["bind"]}),
        json!({"destination": "/bare", "type": "bind", "source": path, "options": ["rbind"]}),
        json!({"destination": "/seeded", "type": "bind", "source": "/containers/volumes/seeded/merged",
               "options": ["ro", "rbind"]}),
    ] {
        assert!(mounts.contains(&expected), "{mounts:?}");
    }
}

#[test]
fn nothing_on_the_data_partition_has_rights() {
    let blueprint = blueprint(
        r#"
root: {}
disk: {data: {mount: /var}}
services:
  - name: a
    image: a
    binds: ["/var:/var", "/var/lib/a:/a:ro", "/var/dev:/b:dev,nosuid", "/various:/c", "/:/d"]
    mounts:
      - {type: tmpfs, source: tmpfs, destination: /e}
      - {type: bind, source: /var/x, destination: /f, options: [bind, suid]}
"#,
    );
    let mounts = make(&blueprint, "a", None, &no_image_config(), "").config["mounts"].clone();
    let options = |destination: &str| {
        let mount = mounts.as_array().unwrap().iter().find(|mount| mount["destination"] == destination);
        mount.unwrap().get("options").cloned().unwrap_or_default()
    };
    assert_eq!(options("/var"), json!(["rw", "rbind", "rshared", "nodev", "nosuid"]));
    assert_eq!(options("/a"), json!(["ro", "rbind", "nodev", "nosuid"]));
    assert_eq!(options("/b"), json!(["dev", "nosuid", "rbind"]));
    assert_eq!(options("/f"), json!(["bind", "suid", "nodev"]));
    for other in ["/c", "/d"] {
        assert_eq!(options(other), json!(["rw", "rbind", "rshared"]), "{other}");
    }
    assert_eq!(options("/e"), Json::Null);
}

#[test]
fn users_are_named_after_containers() {
    let blueprint = blueprint(
        r#"
onboot: [{name: setup, image: a}, {name: twice, image: a}]
onshutdown: [{name: twice, image: a}]
services:
  - {name: a, image: a, uid: a, gid: twice, additionalGids: [setup, 7, root]}
"#,
    );
    let made = make(&blueprint, "a", None, &no_image_config(), "");
    assert_eq!(made.config["process"]["user"], json!({"uid": 103, "gid": 102, "additionalGids": [100, 7, 0]}));
    let label = label(&json!({"uid": "nobody"}));
    let image = &blueprint.services[0];
    let ids = IdMap::number(&blueprint);
    let stranger = crate::blueprint::Image { settings: Settings::default(), ..image.clone() };
    let oci = no_image_config();
    let inputs = BundleInputs {
        image: &stranger,
        label: Some(&label),
        oci: &oci,
        ids: &ids,
        security: Security::Linuxkit,
        arch: Arch::Arm64,
        bundle_path: "x",
        root_of_image: "x",
        data: None,
    };
    assert!(generate(&inputs).unwrap_err().diagnostics()[0].message.contains("`nobody`"));
}

#[test]
fn strict_hides_and_filters_unless_told_otherwise() {
    let blueprint = blueprint(
        r#"
security: strict
services:
  - {name: plain, image: a, capabilities: [CAP_SYS_TIME]}
  - {name: admin, image: a, capabilities: [CAP_SYS_ADMIN], maskedPaths: []}
  - {name: everything, image: a, capabilities: [all]}
  - {name: free, image: a, security: linuxkit}
"#,
    );
    let linux = |name: &str| make(&blueprint, name, None, &no_image_config(), "").config["linux"].clone();
    let plain = linux("plain");
    assert!(plain["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
    assert!(plain["readonlyPaths"].as_array().unwrap().contains(&json!("/proc/sys")));
    let seccomp = &plain["seccomp"];
    assert_eq!(seccomp["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(seccomp["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]));
    let allowed = seccomp["syscalls"][0]["names"].as_array().unwrap();
    for (name, there) in
        [("openat", true), ("settimeofday", true), ("mount", false), ("clone", false), ("io_uring_setup", false)]
    {
        assert_eq!(allowed.contains(&json!(name)), there, "{name}");
    }
    let clone = seccomp["syscalls"].as_array().unwrap().iter().find(|rule| rule["names"] == json!(["clone"])).unwrap();
    let masked = json!([{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
    assert_eq!(clone["args"], masked);

    let admin = linux("admin");
    assert_eq!(admin.get("maskedPaths"), None);
    assert!(admin["readonlyPaths"].as_array().is_some());
    assert!(admin["seccomp"]["syscalls"][0]["names"].as_array().unwrap().contains(&json!("mount")));
    for name in ["everything", "free"] {
        let linux = linux(name);
        assert_eq!((linux.get("seccomp"), linux.get("maskedPaths")), (None, None), "{name}");
    }
}
