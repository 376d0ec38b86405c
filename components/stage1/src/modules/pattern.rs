//! Shell patterns of modules.alias: `*`, `?` and `[a-f]`.

/// Whether `text` matches `pattern` as a whole. Takes at most `pattern.len() * text.len()` steps, whatever they hold.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where to go back to: just after the last star, and the text position it has swallowed up to.
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        let step = match pattern.get(at_pattern) {
            Some(b'*') => {
                star = Some((at_pattern + 1, at_text));
                at_pattern += 1;
                continue;
            }
            Some(_) => text.get(at_text).and_then(|byte| one(pattern.get(at_pattern..).unwrap_or_default(), *byte)),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => {
                at_pattern += length;
                at_text += 1;
            }
            (None, Some((after, swallowed))) => {
                star = Some((after, swallowed + 1));
                at_pattern = after;
                at_text = swallowed + 1;
            }
            (None, None) => return false,
        }
    }
    pattern.get(at_pattern..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Matches one byte against the head of `pattern`; returns how many bytes of the pattern that took.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b']')?;
            let mut set = rest.get(..end)?;
            let mut found = false;
            while let Some((&first, tail)) = set.split_first() {
                if let [b'-', last, tail @ ..] = tail {
                    found |= (first..=*last).contains(&byte);
                    set = tail;
                } else {
                    found |= first == byte;
                    set = tail;
                }
            }
            found.then_some(end + 2)
        }
        [literal, ..] if *literal == byte => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn real_aliases() {
        assert!(matches("virtio:d00000001v*", "virtio:d00000001v00001AF4"));
        assert!(!matches("virtio:d00000002v*", "virtio:d00000001v00001AF4"));
        assert!(matches("pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"));
        assert!(matches(
            "cpu:type:x86,ven*fam*mod*:feature:*0099*",
            "cpu:type:x86,ven0000fam0006mod000D:feature:,0000,0099,00A0"
        ));
        assert!(matches("usb:v*p*d*dc*dsc*dp*ic0[1-3]isc[0a]ip*in*", "usb:v1p1d1dc1dsc1dp1ic02iscaip1in1"));
    }

    #[test]
    fn edges() {
        assert!(matches("", ""));
        assert!(matches("*", ""));
        assert!(matches("a*", "a"));
        assert!(!matches("", "a"));
        assert!(!matches("a?", "a"));
        assert!(!matches("[a", "a"));
        assert!(!matches("[]", "a"));
        assert!(matches("[a-]", "-"));
    }

    #[test]
    fn many_stars_end() {
        let pattern = "*a".repeat(200);
        assert!(!matches(&pattern, &"a".repeat(199)));
        assert!(matches(&pattern, &"a".repeat(400)));
    }
}
