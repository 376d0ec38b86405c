//! Debian version numbers and their order (deb-version(7)).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A version `[EPOCH:]UPSTREAM[-REVISION]`. Two versions may be written differently and be equal (`1.0` and `1.00`,
/// `1` and `0:1-0`), so equality follows the order and not the spelling.
#[derive(Clone)]
pub struct Version(Box<str>);

impl Version {
    /// Checks and takes a version. What dpkg itself refuses is refused: an empty upstream part, an epoch that is no
    /// number of 31 bits, an empty revision, characters outside of `A-Z a-z 0-9 . + - ~ :`.
    pub fn parse(text: &str) -> Result<Version, String> {
        let wrong = |what: &str| format!("\"{}\" is not a version: {what}", text.escape_debug());
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) => (Some(epoch), rest),
            None => (None, text),
        };
        if let Some(epoch) = epoch {
            let digits = !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit());
            if !digits || epoch.parse::<i32>().is_err() {
                return Err(wrong("the epoch before the colon is no number, or too large"));
            }
        }
        let (upstream, revision) = split_revision(rest);
        if upstream.is_empty() {
            return Err(wrong("nothing stands where the upstream version should"));
        }
        if revision == Some("") {
            return Err(wrong("the revision after the hyphen is empty"));
        }
        if !upstream.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:".contains(&b)) {
            return Err(wrong("the upstream version has a character other than letters, digits and . + - ~ :"));
        }
        if !revision.unwrap_or("").bytes().all(|b| b.is_ascii_alphanumeric() || b".+~".contains(&b)) {
            return Err(wrong("the revision has a character other than letters, digits and . + ~"));
        }
        Ok(Version(text.into()))
    }

    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Epoch without leading zeros, upstream version and revision (`0` if there is none).
    fn parts(&self) -> (&str, &str, &str) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("0", &self.0));
        let (upstream, revision) = split_revision(rest);
        (epoch, upstream, revision.unwrap_or("0"))
    }
}

/// The revision follows the last hyphen.
fn split_revision(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once('-') {
        Some((upstream, revision)) => (upstream, Some(revision)),
        None => (text, None),
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let (epoch, upstream, revision) = self.parts();
        let (other_epoch, other_upstream, other_revision) = other.parts();
        compare_part(epoch, other_epoch)
            .then_with(|| compare_part(upstream, other_upstream))
            .then_with(|| compare_part(revision, other_revision))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl Hash for Version {
    /// Equal versions hash alike: the hash is that of the sequence of non-digit and digit runs that the order sees.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (epoch, upstream, revision) = self.parts();
        for part in [epoch, upstream, revision] {
            let mut rest = part.as_bytes();
            while !rest.is_empty() {
                let (text, after) = split_run(rest, |b| !b.is_ascii_digit());
                let (digits, after) = split_run(after, |b| b.is_ascii_digit());
                let digits = trim_zeros(digits);
                // A last run of zeros compares equal to nothing at all.
                if !text.is_empty() || !digits.is_empty() {
                    (text, digits).hash(state);
                }
                rest = after;
            }
            0xffu8.hash(state);
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Compares upstream versions or revisions: runs of non-digits and runs of digits in turn (deb-version(7), "Sorting
/// algorithm").
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split_run(left, |b| !b.is_ascii_digit());
        let (right_text, right_rest) = split_run(right, |b| !b.is_ascii_digit());
        for at in 0..left_text.len().max(right_text.len()) {
            let order = weight(left_text.get(at)).cmp(&weight(right_text.get(at)));
            if order.is_ne() {
                return order;
            }
        }
        let (left_digits, left_rest) = split_run(left_rest, |b| b.is_ascii_digit());
        let (right_digits, right_rest) = split_run(right_rest, |b| b.is_ascii_digit());
        let (left_digits, right_digits) = (trim_zeros(left_digits), trim_zeros(right_digits));
        // Numbers of any length: a longer one is larger, and equally long ones compare as text.
        let order = left_digits.len().cmp(&right_digits.len()).then_with(|| left_digits.cmp(right_digits));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

/// `~` sorts before the end of a run, the end before letters, letters before everything else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

fn split_run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| !belongs(b)).unwrap_or(bytes.len());
    bytes.split_at(end)
}

fn trim_zeros(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|b| *b != b'0').unwrap_or(digits.len());
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_sort_as_dpkg_sorts_them() {
        // Each is smaller than the next.
        let ascending = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0a",
            "0+",
            "1.0~rc1-1",
            "1.0-1~bpo12+1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb12u1",
            "1.0-1.1",
            "1.0-2",
            "1.0-10",
            "1.0a-1",
            "1.0+dfsg-1",
            "1.0.1",
            "1.2",
            "1.10",
            "2-1-1",
            "2.7.4+reloaded2",
            "10",
            "99999999999999999999999",
            "100000000000000000000000",
            "1:0.1",
            "2:0",
        ];
        for (at, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(version(left).cmp(&version(right)), at.cmp(&other), "{left} against {right}");
            }
        }
    }

    #[test]
    fn spelling_does_not_matter() {
        use std::collections::hash_map::DefaultHasher;
        let hash = |version: &Version| {
            let mut hasher = DefaultHasher::new();
            version.hash(&mut hasher);
            hasher.finish()
        };
        for (left, right) in [("1.0", "1.00"), ("1", "0:1"), ("1", "1-0"), ("1.", "1.0"), ("007:1-01", "7:1-1")] {
            assert_eq!(version(left), version(right));
            assert_eq!(hash(&version(left)), hash(&version(right)), "{left} {right}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "-1", "1-", ":1", "a:1", "99999999999:1", "1 2", "1_2", "1:", "é"] {
            assert!(Version::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(texts in proptest::collection::vec("([0-9]{1,2}:)?[0-9][a-c0-2.+~:-]{0,6}", 3)) {
            let versions: Vec<Version> = texts.iter().filter_map(|text| Version::parse(text).ok()).collect();
            for a in &versions {
                prop_assert_eq!(a.cmp(a), Ordering::Equal);
                for b in &versions {
                    prop_assert_eq!(a.cmp(b), b.cmp(a).reverse());
                    for c in &versions {
                        if a <= b && b <= c {
                            prop_assert!(a <= c);
                        }
                    }
                }
            }
        }
    }
}
