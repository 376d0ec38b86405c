//! What depends on the environment: credential helpers on the PATH, machines without certificates, proxies. The
//! environment of a running test cannot be changed safely, so these tests start themselves again.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use moby::Arch;
use moby::net::NetOptions;

use crate::fixtures;
use crate::server::{Reply, Server};
use crate::{Place, assert_whole, net, options, pull, text};

const CHILD: &str = "MOBY_TEST_CHILD";

/// Runs the test `name` of this file again with variables set; there, `is_child` is true.
fn run_child(name: &str, variables: &[(&str, &str)]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("environment::{name}"), "--nocapture"])
        .envs(variables.iter().copied())
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
fn a_credential_helper_gives_the_password() {
    if !is_child() {
        let folder = tempfile::tempdir().unwrap();
        let helper = folder.path().join("docker-credential-test");
        std::fs::write(
            &helper,
            "#!/bin/sh\nread host\n[ \"$1\" = get ] || exit 1\necho '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n",
        )
        .unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        std::fs::write(folder.path().join("config.json"), r#"{"credsStore": "test"}"#).unwrap();
        let config = folder.path().to_str().unwrap();
        return run_child("a_credential_helper_gives_the_password", &[("PATH", &path), ("DOCKER_CONFIG", config)]);
    }
    let server = Server::start(fixtures::all(), |asked, reply| match asked.header("authorization") {
        "Basic bWU6c2VjcmV0" => reply,
        _ => Reply::new(401, b"").with("WWW-Authenticate", "Basic realm=\"it\""),
    });
    let place = Place::new();
    let options = NetOptions { docker_config: None, ..options() };
    let manifest = pull(options, &place.store, &server.host(), "library/app:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
}

#[test]
fn a_machine_without_certificates_can_use_plain_http() {
    if !is_child() {
        let none = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
        return run_child("a_machine_without_certificates_can_use_plain_http", &none);
    }
    let server = Server::honest(fixtures::all());
    let place = Place::new();
    let manifest = pull(options(), &place.store, &server.host(), "library/app:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
    let net = net(options());
    let error = moby::store::registry::Registry::new(&net)
        .push(&place.store, &crate::name(&server.host(), "library/app:1"), &manifest)
        .unwrap_err();
    assert!(text(&error).contains("ca-certificates"), "{}", text(&error));
}

#[test]
fn a_proxy_is_used_but_not_for_this_machine() {
    if !is_child() {
        let proxy = Server::start(fixtures::Images::default(), |_, _| Reply::new(200, b"from the proxy"));
        return run_child("a_proxy_is_used_but_not_for_this_machine", &[("http_proxy", &proxy.url())]);
    }
    let net = net(options());
    assert_eq!(net.get_bytes("http://name.invalid/x", 100).unwrap(), b"from the proxy");
    let server = Server::start(fixtures::Images::default(), |_, _| Reply::new(200, b"direct"));
    assert_eq!(net.get_bytes(&format!("{}/x", server.url()), 100).unwrap(), b"direct");
}

#[test]
fn plain_http_elsewhere_only_where_it_is_allowed() {
    const REGISTRY: &str = "registry.invalid:5000";
    if !is_child() {
        // The proxy answers for the registry that cannot be reached, but only to plain http.
        let proxy = Server::honest(fixtures::all());
        return run_child("plain_http_elsewhere_only_where_it_is_allowed", &[("http_proxy", &proxy.url())]);
    }
    for insecure in [REGISTRY, "registry.invalid"] {
        let place = Place::new();
        let options = NetOptions { insecure_hosts: vec![insecure.to_string()], ..options() };
        let manifest = pull(options, &place.store, REGISTRY, "library/app:1", Arch::Amd64).unwrap();
        assert_whole(&place.store, &manifest);
    }
    let options = NetOptions { insecure_hosts: vec!["other.invalid".to_string()], ..options() };
    let error = pull(options, &Place::new().store, REGISTRY, "library/app:1", Arch::Amd64).unwrap_err();
    assert!(error.message().contains("https://registry.invalid:5000/"), "{error}");
}
