//! The power button, which is also how a hypervisor asks a machine to shut down.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// linux/input-event-codes.h.
const EVENT_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// An input device with a power key.
#[derive(Debug)]
pub struct PowerButton {
    device: File,
}

impl PowerButton {
    /// Every input device that has the key.
    pub fn find() -> Vec<PowerButton> {
        let entries = fs::read_dir("/sys/class/input").into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| {
                let keys = fs::read_to_string(entry.path().join("device/capabilities/key")).unwrap_or_default();
                has_key(&keys, KEY_POWER)
            })
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("event"))
            .collect();
        names.sort();
        let open = |name: &String| {
            let path = format!("/dev/input/{name}");
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()
        };
        names.iter().filter_map(open).map(|device| PowerButton { device }).collect()
    }

    /// The descriptor to wait for.
    pub fn device(&self) -> &File {
        &self.device
    }

    /// Whether the key went down; `None` when the device is gone.
    pub fn pressed(&mut self) -> Option<bool> {
        // struct input_event on 64-bit machines: 16 bytes of time, type, code, value.
        let mut events = [0_u8; 24 * 16];
        match self.device.read(&mut events) {
            Ok(0) => None,
            Ok(length) => Some(events.get(..length).unwrap_or_default().chunks_exact(24).any(is_press)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(false),
            Err(_) => None,
        }
    }
}

fn is_press(event: &[u8]) -> bool {
    match event.get(16..24).and_then(|bytes| bytes.first_chunk::<8>()) {
        Some(&[k0, k1, c0, c1, v0, v1, v2, v3]) => {
            u16::from_ne_bytes([k0, k1]) == EVENT_KEY
                && u16::from_ne_bytes([c0, c1]) == KEY_POWER
                && i32::from_ne_bytes([v0, v1, v2, v3]) == 1
        }
        None => false,
    }
}

/// Whether a bit is set in sysfs's form: 64-bit words in hexadecimal, the highest first.
fn has_key(words: &str, key: u16) -> bool {
    let word = words.split_ascii_whitespace().rev().nth(usize::from(key / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok()).is_some_and(|bits| bits >> (key % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        // Bit 116 is bit 52 of the second word from the right.
        assert!(has_key("10000000000000 0\n", KEY_POWER));
        assert!(!has_key("1", KEY_POWER));
        assert!(!has_key("", KEY_POWER));
        assert!(!has_key("zz 0", KEY_POWER));
    }

    #[test]
    fn presses() {
        let mut event = [0_u8; 24];
        event[16] = 1;
        event[18] = 116;
        assert!(!is_press(&event), "a release");
        event[20] = 1;
        assert!(is_press(&event));
        assert!(!is_press(&event[..20]));
    }
}
