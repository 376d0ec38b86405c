//! /etc/moby/disk.json: what the builder wrote, which has every key and no escapes in its texts.

use crate::slots::failure::{Failure, Result};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of the partition: behind those of the slots.
    pub number: u32,
    /// Bytes; nothing for all that is free.
    pub size: Option<u64>,
    /// Its name and that of the file system.
    pub label: String,
    /// Where the machine has it.
    pub mount: String,
}

impl Wanted {
    /// Reads the file.
    pub fn parse(text: &str) -> Result<Wanted> {
        let wrong = |key: &str| Failure::new(format!("no `{key}`, or not as the builder writes it"));
        let (slots, data) = text.split_once("\"data\"").ok_or_else(|| wrong("data"))?;
        let slots = slots.split_once("\"slots\"").ok_or_else(|| wrong("slots"))?.1;
        let number = match slots.trim_matches([':', ',', ' ', '\n', '\r', '\t']) {
            "1" => 4,
            "2" => 6,
            _ => return Err(wrong("slots")),
        };
        let value = |key: &str| {
            let (_, rest) = data.split_once(&format!("\"{key}\""))?;
            let (before, rest) = rest.split_once('"')?;
            let (value, _) = rest.split_once('"')?;
            (before.trim() == ":" && !value.contains('\\')).then(|| value.to_owned())
        };
        let get = |key: &str| value(key).ok_or_else(|| wrong(key));
        let size = match get("size")?.as_str() {
            "rest" => None,
            other => Some(bytes(other).ok_or_else(|| wrong("size"))?),
        };
        if get("filesystem")? != "ext4" {
            return Err(Failure::new("this program makes ext4 only"));
        }
        if get("encrypt")? != "none" {
            return Err(Failure::new("this program cannot encrypt"));
        }
        let (label, mount) = (get("label")?, get("mount")?);
        if label.is_empty() || label.len() > 16 || label == crate::slots::reset::RESET {
            return Err(wrong("label"));
        }
        Ok(Wanted { number, size, label, mount })
    }
}

fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix('G') {
        Some(digits) => (digits, 30),
        None => (text.strip_suffix('M')?, 20),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_builder_writes() {
        let text = "{\n  \"slots\": 2,\n  \"data\": {\n    \"size\": \"rest\",\n    \"label\": \"data\",\n    \"mount\": \"/var\",\n    \
                    \"filesystem\": \"ext4\",\n    \"encrypt\": \"none\"\n  }\n}\n";
        let wanted = Wanted { number: 6, size: None, label: "data".to_owned(), mount: "/var".to_owned() };
        assert_eq!(Wanted::parse(text).unwrap(), wanted);
        let other = text.replace("\"slots\": 2", "\"slots\": 1").replace("rest", "2G");
        assert_eq!(Wanted::parse(&other).unwrap(), Wanted { number: 4, size: Some(2 << 30), ..wanted });
        for (from, to) in [("rest", "x"), ("none", "tpm2"), ("ext4", "xfs"), ("label", "lable"), ("2,", "3,")] {
            assert!(Wanted::parse(&text.replace(from, to)).is_err(), "{from}");
        }
        assert!(Wanted::parse("{\"slots\": 2}").is_err());
    }
}
