//! Builds the blueprints and boots them, on both architectures.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::machine::{BOOT, Machine, ask, available, command, free_port, moby};

fn ready(arch: &str) -> bool {
    available(if arch == "arm64" { "qemu-system-aarch64" } else { "qemu-system-x86_64" })
}

fn build(arch: &str, blueprint: &str, dir: &Path) {
    let dir = dir.to_str().expect("a UTF-8 path");
    moby(["build", "--arch", arch, "--dir", dir, blueprint]).succeeded();
}

fn start(arch: &str, name: &str, dir: &Path, more: &[&str]) -> Machine {
    let dir = dir.to_str().expect("a UTF-8 path");
    let timeout = (BOOT * 3).as_secs().to_string();
    let mut arguments = vec!["--arch", arch, "--dir", dir, "--timeout", &timeout];
    arguments.extend(more);
    arguments.push(name);
    Machine::start(arguments)
}

fn minimal(arch: &str) {
    if !ready(arch) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    build(arch, "blueprints/minimal.yml", dir.path());
    let mut machine = start(arch, "minimal", dir.path(), &[]);
    machine.expect("minimal: booted", BOOT);
}

#[test]
fn minimal_boots_on_amd64() {
    minimal("amd64");
}

#[test]
fn minimal_boots_on_arm64() {
    minimal("arm64");
}

fn redis(arch: &str) {
    if !ready(arch) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    build(arch, "blueprints/redis.yml", dir.path());
    let port = free_port();
    let mut machine = start(arch, "redis", dir.path(), &["--publish", &format!("127.0.0.1:{port}:6379")]);
    machine.expect("Ready to accept connections", BOOT);
    let answer = ask(port, b"PING\r\n", BOOT, |answer| answer.starts_with("+PONG"));
    assert_eq!(answer, "+PONG\r\n");
    if available("redis-cli") {
        let output = Command::new("redis-cli").args(["-p", &port.to_string(), "PING"]).output().expect("redis-cli");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "PONG", "{}", machine.console());
    }
}

#[test]
fn redis_answers_on_amd64() {
    redis("amd64");
}

#[test]
fn redis_answers_on_arm64() {
    redis("arm64");
}

fn nginx(arch: &str) {
    if !ready(arch) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    build(arch, "blueprints/nginx.yml", dir.path());
    let port = free_port();
    let machine = start(arch, "nginx", dir.path(), &["--publish", &format!("127.0.0.1:{port}:80")]);
    let request = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n";
    ask(port, request, BOOT, |answer| answer.starts_with("HTTP/1.1 200"));
    if available("curl") {
        let url = format!("http://127.0.0.1:{port}/");
        let output = Command::new("curl").args(["-fsS", "--max-time", "60", &url]).output().expect("curl");
        let page = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && page.contains("It works"), "{page}\n{}", machine.console());
    }
}

#[test]
fn nginx_serves_on_amd64() {
    nginx("amd64");
}

#[test]
fn nginx_serves_on_arm64() {
    nginx("arm64");
}

/// An onboot container that fails, and a machine that ends because of it: its status is that of `moby run`.
#[test]
fn the_guests_exit_status_is_that_of_moby_run() {
    if !ready("amd64") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    build("amd64", "tests/boot/exit-status.yml", dir.path());
    let mut machine = start("amd64", "exit-status", dir.path(), &[]);
    assert_eq!(machine.wait(BOOT), 7, "{}", machine.console());
}

/// The components that the other tests do not boot: runc, dhcpcd, certificates, poweroff.
fn components(arch: &str) {
    if !ready(arch) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    build(arch, "tests/boot/components.yml", dir.path());
    let mut machine = start(arch, "components", dir.path(), &[]);
    for text in [
        "onboot 000-sysctl: exit status 0",
        "onboot 001-dhcpcd: exit status 0",
        "look: -----BEGIN CERTIFICATE-----",
        "look: 1",
        "inet 10.0.2.",
        "nameserver 10.0.2.3",
        "onboot 002-look: exit status 0",
        "service poweroff: started",
    ] {
        machine.expect(text, BOOT);
    }
    assert_eq!(machine.wait(BOOT), 0, "{}", machine.console());
}

#[test]
fn components_work_on_amd64() {
    components("amd64");
}

#[test]
fn components_work_on_arm64() {
    components("arm64");
}

/// `kill -9` of `moby run` must not leave QEMU behind.
#[test]
fn qemu_ends_with_moby_run() {
    if !ready("amd64") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    build("amd64", "blueprints/minimal.yml", dir.path());
    let mut machine = start("amd64", "minimal", dir.path(), &[]);
    machine.expect("minimal: booted", BOOT);
    let children = format!("/proc/{0}/task/{0}/children", machine.id());
    let children = std::fs::read_to_string(children).expect("the children of moby run");
    let qemu = format!("/proc/{}/exe", children.split_whitespace().next().expect("a child"));
    let program = std::fs::read_link(&qemu).expect("QEMU's program");
    assert!(program.to_string_lossy().contains("qemu-system"), "{}", program.display());
    drop(machine);
    for _ in 0..100 {
        if std::fs::read_link(&qemu).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("QEMU outlived moby run");
}

/// A change while the machine runs: a mistake leaves it running, a good one starts it again with the new root.
#[test]
fn watching_builds_and_boots_again() {
    if !ready("amd64") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let blueprint = dir.path().join("watched.yml");
    let minimal = std::fs::read_to_string("blueprints/minimal.yml").expect("the blueprint");
    std::fs::write(&blueprint, &minimal).expect("writing");
    let mut watch = command(["build", "--watch", "--run", "--arch", "amd64", "--dir"]);
    watch.arg(dir.path().join("out")).arg(&blueprint).args(["--", "--timeout", "600"]);
    let mut machine = Machine::start_command(watch);
    machine.expect("minimal: booted", BOOT);
    std::fs::write(&blueprint, "kernal: x\n").expect("writing");
    std::thread::sleep(Duration::from_secs(2));
    std::fs::write(&blueprint, minimal.replace("minimal: booted", "minimal: and again")).expect("writing");
    machine.expect("minimal: and again", BOOT);
}
