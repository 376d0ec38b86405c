//! Facts about addresses.

use std::net::IpAddr;

use super::Url;

/// A URL as messages show it: without user, password, query and fragment, since any of them may be a secret.
pub(crate) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}{}", url.scheme(), url.path()),
        None => format!("{}://{host}{}", url.scheme(), url.path()),
    }
}

/// Whether a host (with or without a port) is this machine: `localhost`, names under it, 127.0.0.0/8 and ::1.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None if host.matches(':').count() == 1 => host.split(':').next().unwrap_or_default(),
        None => host,
    };
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let url = Url::parse("https://me:secret@example.org:8443/a/b?token=secret#secret").unwrap();
        assert_eq!(shown(&url), "https://example.org:8443/a/b");
    }

    #[test]
    fn loopback_is_told_from_look_alikes() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]:5000", "::1", "a.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.org", "127.0.0.1.example.org", "128.0.0.1", "example.org:5000", "", "[::2]:1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
