//! What the book's pages of keys say beside the tables.

/// The texts of a page.
pub(super) struct Texts {
    pub title: &'static str,
    pub introduction: &'static str,
    /// The definition that the page begins with.
    pub top: &'static str,
    /// Which keys LinuxKit has, by definition; an empty list for all of them. What is in no list is new.
    pub linuxkit: &'static [(&'static str, &'static [&'static str])],
    /// Keys whose meaning differs: definition, key, how.
    pub differs: &'static [(&'static str, &'static str, &'static str)],
    /// Whole documents that show the keys of a definition.
    pub examples: &'static [(&'static str, &'static str)],
    /// Definitions that another page describes, with the link.
    pub elsewhere: &'static [(&'static str, &'static str)],
}

pub(super) const BLUEPRINT_TEXTS: Texts = Texts {
    title: "Keys of blueprints",
    introduction: "Every key that a blueprint may have; [Blueprints](blueprint.md) explains them. Other keys are mistakes. This page is \
written by `moby schema --markdown blueprint` from the tables that the reader goes by, as the JSON Schema for editors \
is (`moby schema blueprint`). What is text of a form is given as a regular expression. The last column says what \
LinuxKit makes of the key.",
    top: "blueprint",
    linuxkit: &[
        ("blueprint", &["kernel", "init", "onboot", "onshutdown", "services", "files", "volumes", "trust"]),
        ("trust", &["image", "org"]),
        ("kernel", &["image", "cmdline", "binary", "tar", "ucode"]),
        (
            "container",
            &[
                "name", "image", "capabilities", "capabilities.add", "ambient", "mounts", "binds", "binds.add", "devices",
                "tmpfs", "command", "env", "cwd", "net", "pid", "ipc", "uts", "userns", "hostname", "readonly",
                "maskedPaths", "readonlyPaths", "uid", "gid", "additionalGids", "noNewPrivileges", "oomScoreAdj",
                "rootfsPropagation", "cgroupsPath", "resources", "sysctl", "rlimits", "uidMappings", "gidMappings",
                "annotations", "runtime",
            ],
        ),
        (
            "file",
            &["path", "directory", "symlink", "contents", "source", "metadata", "optional", "mode", "uid", "gid"],
        ),
        ("volume", &["name", "image", "readonly", "format", "platforms"]),
        ("runtime", &["cgroups", "mounts", "mkdir", "interfaces", "bindNS", "namespace"]),
        ("mount", &[]),
        ("device", &[]),
        ("id-mapping", &[]),
        ("resources", &[]),
        ("device-rule", &[]),
        ("memory", &[]),
        ("cpu", &[]),
        ("pids", &[]),
        ("blockio", &[]),
        ("device-weight", &[]),
        ("device-throttle", &[]),
        ("huge-page-limit", &[]),
        ("network", &[]),
        ("interface-priority", &[]),
        ("interface", &[]),
        ("bindNS", &[]),
    ],
    differs: &[
        ("blueprint", "trust", "without effect there too"),
        ("kernel", "ucode", "the same; an image of its own is new, and a missing file is an error"),
        ("container", "name", "the same; a `/` in it is refused"),
        ("container", "capabilities.add", "the same, without doubles"),
        ("container", "mounts", "the same; a volume's name works"),
        ("device", "mode", "the same; without quotes it is octal too"),
        ("file", "path", "the same; `..` in it is refused"),
        ("file", "mode", "the same; without quotes it is octal too"),
        ("volume", "readonly", "the same; read-only when it runs, too"),
        ("id-mapping", "containerID", "checked and dropped"),
        ("id-mapping", "hostID", "checked and dropped"),
        ("memory", "kernelTCP", "checked and dropped"),
        ("memory", "disableOOMKiller", "checked and dropped"),
        ("cpu", "realtimeRuntime", "checked and dropped"),
        ("cpu", "realtimePeriod", "checked and dropped"),
        ("blockio", "leafWeight", "checked and dropped"),
        ("blockio", "weightDevice", "checked and dropped"),
        ("blockio", "throttleReadBpsDevice", "checked and dropped"),
        ("blockio", "throttleWriteBpsDevice", "checked and dropped"),
        ("blockio", "throttleReadIOPSDevice", "checked and dropped"),
        ("blockio", "throttleWriteIOPSDevice", "checked and dropped"),
        ("device-weight", "leafWeight", "checked and dropped"),
        ("resources", "hugepageLimits", "checked and dropped"),
        ("network", "classID", "checked and dropped"),
        ("huge-page-limit", "pageSize", "checked and dropped"),
    ],
    examples: &[
        (
            "blueprint",
            "kernel:
  image: \"@pkg:../kernels/6.1-cloud\"
  cmdline: console=ttyS0
init:
  - \"@pkg:../components/init\"
  - \"@pkg:../components/crun\"
onboot:
  - name: sysctl
    image: \"@pkg:../components/sysctl\"
onshutdown:
  - name: bye
    image: busybox:1.36
    command: [/bin/echo, so long]
services:
  - name: web
    image: nginx:1.27
    binds: [\"content:/usr/share/nginx/html:ro\"]
volumes:
  - name: content
    image: example/content:v7
    readonly: true
files:
  - path: etc/motd
    contents: hello
trust:
  org: [example]
security: strict
",
        ),
        ("trust", "trust:\n  image: [nginx:1.27]\n  org: [example]\n"),
        (
            "kernel",
            "kernel:
  image: linuxkit/kernel:6.6.71
  cmdline: console=tty0 console=ttyS0
  binary: kernel
  tar: kernel.tar
  ucode: intel-ucode.cpio
",
        ),
        (
            "container",
            "services:
  - name: web
    image: nginx:1.27
    command: [nginx, -g, daemon off;]
    env: [TZ=UTC]
    cwd: /srv
    capabilities: [CAP_NET_BIND_SERVICE, CAP_CHOWN, CAP_SETUID, CAP_SETGID]
    ambient: [CAP_NET_BIND_SERVICE]
    binds: [\"/etc/resolv.conf:/etc/resolv.conf:ro\", \"/var/log:/var/log\"]
    tmpfs: [\"/tmp:size=16m\"]
    net: /run/netns/web
    ipc: new
    uts: new
    pid: new
    userns: host
    hostname: web
    readonly: true
    maskedPaths: [/proc/kcore]
    readonlyPaths: [/proc/sys]
    uid: web
    gid: 101
    additionalGids: [20]
    noNewPrivileges: true
    oomScoreAdj: -500
    rootfsPropagation: shared
    cgroupsPath: /web
    sysctl: {net.core.somaxconn: \"1024\"}
    rlimits: [\"nofile,1024,unlimited\"]
    annotations: {org.example.owner: someone}
    resources: {pids: {limit: 100}}
    runtime: {mkdir: [/var/lib/web]}
    security: strict
  - name: getty
    image: linuxkit/getty:v1.1
    binds.add: [\"/var/tmp:/var/tmp\"]
    capabilities.add: [CAP_SYS_TIME]
    mounts:
      - {type: cgroup, options: [rw]}
    devices:
      - {path: /dev/console, type: c, major: 5, minor: 1, mode: \"0666\"}
  - name: apart
    image: busybox:1.36
    userns: new
    uidMappings: [{containerID: 0, hostID: 100000, size: 65536}]
    gidMappings: [{containerID: 0, hostID: 100000, size: 65536}]
",
        ),
        (
            "file",
            "files:
  - path: etc/motd
    contents: |
      Welcome.
    mode: \"0644\"
  - path: root/.ssh/authorized_keys
    source: ~/.ssh/id_ed25519.pub
    optional: true
    mode: \"0600\"
    uid: root
    gid: 0
  - path: var/lib/web
    directory: true
  - path: etc/localtime
    symlink: /usr/share/zoneinfo/UTC
  - path: etc/blueprint.yml
    metadata: yaml
",
        ),
        (
            "volume",
            "volumes:
  - name: scratch
  - name: content
    image: example/content:v7
    readonly: true
  - name: images
    image: alpine:3.20
    format: oci
    platforms: [linux/amd64, linux/arm64]
",
        ),
        (
            "mount",
            "onboot:
  - name: tools
    image: busybox:1.36
    mounts:
      - {type: cgroup, options: [rw, nosuid, noexec, nodev]}
      - {type: bind, source: /lib/modules, destination: /lib/modules, options: [ro, rbind]}
      - {type: tmpfs, source: tmpfs, destination: /work, options: [size=64m]}
",
        ),
        (
            "device",
            "services:
  - name: tools
    image: busybox:1.36
    devices:
      - {path: /dev/rtc0, type: c, major: 252, minor: 0, mode: \"0600\"}
      - {path: all, type: b}
",
        ),
        (
            "resources",
            "services:
  - name: bounded
    image: busybox:1.36
    resources:
      devices: [{allow: false, access: rwm}, {allow: true, type: c, major: 1, minor: 3, access: rw}]
      memory: {limit: 67108864, reservation: 33554432, swap: 67108864, swappiness: 0}
      cpu: {shares: 512, quota: 50000, period: 100000, cpus: \"0-1\"}
      pids: {limit: 100}
      blockio:
        weight: 100
        throttleReadBpsDevice: [{major: 254, minor: 0, rate: 10485760}]
      hugepageLimits: [{pageSize: 2MB, limit: 4194304}]
      network: {classID: 1048577, priorities: [{name: eth0, priority: 5}]}
",
        ),
        ("root", "root:\n  type: erofs\n  verity: true\n  compression: none\n  signature: optional\n  onfailure: reboot\n"),
        (
            "disk",
            "root: {type: erofs}
disk:
  slots: 2
  slot-size: 512M
  data:
    size: rest
    label: data
    mount: /var
    filesystem: ext4
    encrypt: tpm2
",
        ),
        (
            "runtime",
            "onboot:
  - name: wg0
    image: linuxkit/ip:v1.1
    net: new
    runtime:
      cgroups: [vpn]
      mkdir: [/var/lib/vpn]
      mounts:
        - {type: overlay, source: overlay, destination: etc-copy, options: [lowerdir=/etc, upperdir=/run/u, workdir=/run/w]}
      interfaces:
        - {name: wg0, add: wireguard, createInRoot: true}
        - {name: veth0, add: veth, peer: veth1}
      bindNS: {net: /run/netns/wg0}
      namespace: vpn
",
        ),
    ],
    elsewhere: &[],
};

pub(super) const COMPONENT_TEXTS: Texts = Texts {
    title: "Keys of recipes",
    introduction: "Every key that a component's `build.yml` may have; [Components](components.md) explains them. Other keys are \
mistakes. This page is written by `moby schema --markdown component` from the tables that the reader goes by, as the \
JSON Schema for editors is (`moby schema component`). The last column says what LinuxKit makes of the key.",
    top: "recipe",
    linuxkit: &[(
        "recipe",
        &[
            "image",
            "org",
            "tag",
            "arches",
            "config",
            "dockerfile",
            "extra-sources",
            "buildArgs",
            "network",
            "disable-cache",
            "gitrepo",
        ],
    )],
    differs: &[
        ("recipe", "org", "the same; there it is `linuxkit` if left out"),
        ("recipe", "tag", "the same, with `{{.Hash}}` only"),
        ("recipe", "arches", "the same; there also riscv64 if left out"),
        ("recipe", "network", "the same; there none if left out"),
    ],
    examples: &[
        (
            "recipe",
            "image: redis
org: example
tag: \"7.0-%h\"
arches: [amd64, arm64]
suite: bookworm
packages: [redis-server, ca-certificates]
ca-certificates: true
keep: [/usr/bin/redis-server, /etc/ssl]
users:
  - {name: redis, uid: 999, home: /var/lib/redis}
files:
  - {path: /etc/redis.conf, contents: \"bind 127.0.0.1\"}
  - {path: /var/lib/redis, directory: true, uid: 999, gid: 999}
symlinks:
  - {path: /redis, target: usr/bin/redis-server}
entrypoint: [/usr/bin/redis-server]
command: [/etc/redis.conf]
env: [TZ=UTC]
workdir: /var/lib/redis
user: \"999:999\"
config:
  uid: 999
  gid: 999
  readonly: true
",
        ),
        (
            "recipe",
            "# A package of LinuxKit, beside its Dockerfile
image: sshd
org: linuxkit
arches: [amd64, arm64]
dockerfile: Dockerfile
extra-sources: [\"../common:common\"]
buildArgs: [VERSION=1.2]
network: true
disable-cache: true
gitrepo: https://git.example.com/packages
config:
  capabilities: [all]
",
        ),
        (
            "cargo",
            "image: my-agent\ncargo:\n  path: .\n  package: my-agent\n  binary: my-agent\n  install: /usr/bin/my-agent\n",
        ),
        ("kernel-of-a-recipe", "image: kernel-6.1-cloud\nkernel:\n  package: linux-image-cloud-$ARCH\n"),
        (
            "kernel-of-a-recipe",
            "image: kernel-tiny\nsuite: trixie\nkernel:\n  source: linux-source-6.12\n  config: [common.config, $ARCH.config]\n",
        ),
    ],
    elsewhere: &[("the-label", "[the keys of a container](blueprint-keys.md#container) but `name` and `image`")],
};
