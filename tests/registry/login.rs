//! Passwords and tokens: who gets them and who does not.

use std::path::Path;

use moby::Arch;
use moby::error::Exit;
use moby::net::NetOptions;

use crate::fixtures::{self, Images};
use crate::server::{Asked, Reply, Server};
use crate::{Place, assert_whole, options, pull, text};

/// `me:secret` in base64.
const BASIC: &str = "Basic bWU6c2VjcmV0";

fn with_password(folder: &Path, host: &str) -> NetOptions {
    let config = serde_json::json!({"auths": {host: {"auth": BASIC.trim_start_matches("Basic ")}}});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    NetOptions { docker_config: Some(folder.to_path_buf()), ..options() }
}

fn refusal(challenge: impl ToString) -> Reply {
    Reply::new(401, br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#).with("WWW-Authenticate", challenge)
}

/// A registry with a token service of its own. A token is good for `uses` requests.
fn token_registry(images: Images, needs_password: bool, uses: usize) -> Server {
    let issued = std::sync::Mutex::new(Vec::<usize>::new());
    Server::start(images, move |asked: &Asked, reply| {
        let mut issued = issued.lock().unwrap();
        if asked.path == "/token" {
            if needs_password && asked.header("authorization") != BASIC {
                return refusal("Basic realm=\"x\"");
            }
            assert!(asked.query.contains("service=it") && asked.query.contains("repository%3Alibrary%2Fapp%3Apull"));
            issued.push(uses);
            return Reply::new(200, format!(r#"{{"access_token":"{}"}}"#, issued.len() - 1).as_bytes());
        }
        let token = asked.header("authorization").strip_prefix("Bearer ").and_then(|text| text.parse::<usize>().ok());
        match token.and_then(|number| issued.get_mut(number)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                reply
            }
            _ => {
                let host = asked.header("host");
                refusal(format!("Bearer realm=\"http://{host}/token\",service=\"it\",scope=\"whatever\""))
            }
        }
    })
}

#[test]
fn tokens_are_fetched_with_and_without_a_password_and_renewed() {
    for (needs_password, uses) in [(false, 1000), (true, 1000), (true, 3)] {
        let server = token_registry(fixtures::all(), needs_password, uses);
        let place = Place::new();
        let options = with_password(place.path(), &server.host());
        let manifest = pull(options, &place.store, &server.host(), "library/app:1", Arch::Amd64).unwrap();
        assert_whole(&place.store, &manifest);
        let fetched = server.log().iter().filter(|asked| asked.path == "/token").count();
        assert!(if uses == 3 { fetched > 1 } else { fetched == 1 }, "{fetched} tokens for {uses} uses each");
    }
}

#[test]
fn a_missing_password_is_explained() {
    let server = token_registry(fixtures::all(), true, 1000);
    let error = pull(options(), &Place::new().store, &server.host(), "library/app:1", Arch::Amd64).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(text(&error).contains(&format!("docker login {}", server.host())), "{}", text(&error));
}

#[test]
fn a_password_does_not_follow_a_redirect_to_another_host() {
    let images = fixtures::all();
    let elsewhere = Server::honest(images.clone());
    let target = elsewhere.url();
    let server = Server::start(images, move |asked, reply| {
        if asked.header("authorization") != BASIC {
            return refusal("Basic realm=\"it\"");
        }
        if asked.is_blob() { Reply::new(307, b"").with("Location", format!("{target}{}", asked.path)) } else { reply }
    });
    let place = Place::new();
    let options = with_password(place.path(), &server.host());
    let manifest = pull(options, &place.store, &server.host(), "library/app:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
    let asked = elsewhere.log();
    assert!(asked.len() >= 6);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_empty()), "{asked:?}");
}

#[test]
fn unusable_passwords_are_explained_and_not_shown() {
    let server = Server::start(fixtures::all(), |_, _| refusal("Basic realm=\"it\""));
    let host = server.host();
    for (config, part) in [
        (serde_json::json!({"auths": {&host: {"identitytoken": "secret"}}}).to_string(), "identity token"),
        (serde_json::json!({"auths": {&host: {"auth": "secret"}}}).to_string(), "docker login"),
        (serde_json::json!({"auths": {&host: {"auth": "bWU6c2VjcmV0"}}}).to_string(), "docker login"),
        (serde_json::json!({"credHelpers": {&host: "does-not-exist"}}).to_string(), "helper cannot be run"),
        ("secret".to_string(), "JSON"),
    ] {
        let place = Place::new();
        std::fs::write(place.path().join("config.json"), config).unwrap();
        let options = NetOptions { docker_config: Some(place.path().to_path_buf()), ..options() };
        let error = pull(options, &place.store, &host, "library/app:1", Arch::Amd64).unwrap_err();
        assert!(text(&error).contains(part), "{part}: {}", text(&error));
        assert!(!text(&error).contains("secret") && !text(&error).contains("bWU6"), "{}", text(&error));
    }
}

#[test]
fn hostile_challenges_are_refused() {
    for challenge in [
        "Bearer",
        "Bearer realm=\"\"",
        "Bearer realm=\"file:///etc/passwd\"",
        "Bearer realm=\"http://127.0.0.1:1/\"",
        "Negotiate",
        "=,=,\"",
        "Bearer realm=\"http://[\"",
    ] {
        let server = Server::start(fixtures::all(), move |_, _| refusal(challenge));
        let place = Place::new();
        let options = with_password(place.path(), &server.host());
        let error = pull(options, &place.store, &server.host(), "library/app:1", Arch::Amd64).unwrap_err();
        assert_eq!(error.exit(), Exit::Network, "{challenge}: {error}");
    }
    // A token service that answers without an end, or with a token that is none.
    for body in ["{\"token\":\"a\\r\\nX: y\"}", "{}", "[", ""] {
        let server = Server::start(fixtures::all(), move |asked, _| match asked.path.as_str() {
            "/token" => Reply::new(200, body.as_bytes()),
            _ => refusal(format!("Bearer realm=\"http://{}/token\"", asked.header("host"))),
        });
        let error = pull(options(), &Place::new().store, &server.host(), "library/app:1", Arch::Amd64).unwrap_err();
        assert_eq!(error.exit(), Exit::Network, "{body}: {error}");
    }
}
