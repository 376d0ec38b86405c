//! `rlimits`: `name,soft,hard`.

use std::fmt;

use super::decode::{Decoder, shorten};
use super::node::Node;
use super::source::Spanned;

/// The limits of Linux (getrlimit(2)), as they are written in config.json.
pub const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// A resource limit of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// One of [`RLIMITS`].
    pub name: &'static str,
    /// The limit in force; `u64::MAX` is unlimited.
    pub soft: u64,
    /// What it may be raised to; `u64::MAX` is unlimited.
    pub hard: u64,
    typed: String,
}

impl fmt::Display for Rlimit {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

impl Decoder<'_, '_> {
    /// `rlimits`.
    pub fn rlimits(&mut self, node: &Node, what: &str) -> Option<Vec<Spanned<Rlimit>>> {
        let entry = format!("an entry of {what}");
        self.list(node, what, |decoder, node| {
            let text = decoder.clean_text(node, &entry)?;
            let parts: Vec<&str> = text.split(',').collect();
            let [name, soft, hard] = parts[..] else {
                let diagnostic = text.place.mistake(format!("{what}: expected `name,soft,hard`"));
                decoder.push(diagnostic.help("for example `nofile,1024,unlimited`"));
                return None;
            };
            let (soft_at, hard_at) = (name.len() + 1, name.len() + soft.len() + 2);
            let upper = name.trim().to_ascii_uppercase();
            let full = if upper.starts_with("RLIMIT_") { upper } else { format!("RLIMIT_{upper}") };
            let known = RLIMITS.iter().find(|known| **known == full).copied();
            if known.is_none() {
                let bare = full.trim_start_matches("RLIMIT_").to_lowercase();
                let known = RLIMITS.map(|name| name.trim_start_matches("RLIMIT_").to_lowercase());
                let help = decoder.diagnostics.suggest(&bare, known.iter().map(String::as_str));
                let place = decoder.part(node, 0..name.len());
                let message = format!("{what}: unknown limit `{}`", shorten(name));
                decoder.push(place.mistake(message).help_if(help));
            }
            let soft = decoder.limit(node, soft, soft_at, what);
            let hard = decoder.limit(node, hard, hard_at, what);
            let (name, soft, hard) = (known?, soft?, hard?);
            if soft > hard {
                let place = text.place.clone();
                decoder.push(place.mistake(format!("{what}: the soft limit is above the hard limit")));
            }
            Some(text.map(|typed| Rlimit { name, soft, hard, typed }))
        })
    }

    fn limit(&mut self, node: &Node, text: &str, at: usize, what: &str) -> Option<u64> {
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("unlimited") {
            return Some(u64::MAX);
        }
        let number = trimmed.parse::<u64>().ok();
        if number.is_none() {
            let place = self.part(node, at..at + text.len());
            let message = format!("{what}: expected a number or `unlimited`, found `{}`", shorten(trimmed));
            self.push(place.mistake(message));
        }
        number
    }
}
