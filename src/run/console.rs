//! Reads the guest's console for how the guest ended.
//!
//! The guest's PID 1 prints `moby: exit status N` on a line of its own before it ends the machine; the kernel says
//! `Kernel panic - not syncing: ...`. The console is the only channel that every machine has, needs no driver, and
//! can be read by people too. Anybody who writes on the console can write such a line: the verdict is the guest's
//! own word, never more.

/// Longest line that is looked at; the rest of a longer one is passed over.
const LINE_LIMIT: usize = 1024;

/// What a line of the console told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `moby: exit status N`.
    Exit(u8),
    /// The kernel gave up.
    Panic,
    /// The firmware did not start an image: Secure Boot. (Another one may follow.)
    Refused,
}

/// Takes the console's bytes as they come and keeps the last verdict.
#[derive(Debug, Default)]
pub struct Console {
    line: Vec<u8>,
    verdict: Option<Verdict>,
    /// Whether the firmware refused something since it last started anything.
    refused: bool,
}

impl Console {
    /// Takes more bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.verdict = judge(&self.line).or(self.verdict);
                self.firmware();
                self.line.clear();
            } else if self.line.len() < LINE_LIMIT {
                self.line.push(byte);
            }
        }
    }

    /// What EDK II's firmware says about starting images, escape sequences around it.
    fn firmware(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        let says = |text: &str| line.contains(text);
        let failed = says("BdsDxe: failed to load ") || says("BdsDxe: failed to start ");
        if failed && (says(": Access Denied") || says(": Security Violation")) {
            self.refused = true;
            self.verdict = Some(Verdict::Refused);
        } else if says("BdsDxe: No bootable option") && self.refused {
            self.verdict = Some(Verdict::Refused);
        } else if says("BdsDxe: loading ") || says("BdsDxe: starting ") {
            self.refused &= says("BdsDxe: loading ");
            self.verdict = self.verdict.filter(|verdict| *verdict != Verdict::Refused);
        }
    }

    /// The last verdict so far. A status after a panic cannot be: the later line counts.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }
}

fn judge(line: &[u8]) -> Option<Verdict> {
    let line = std::str::from_utf8(line).ok()?.trim_matches(['\r', '\0', ' ']);
    if let Some(number) = line.strip_prefix("moby: exit status ") {
        return number.parse().ok().map(Verdict::Exit);
    }
    // `[    1.234567] ` or, with caller information, `[    1.234567][    T1] `.
    let mut rest = line;
    while let Some((_, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        rest = after.trim_start();
    }
    rest.starts_with("Kernel panic - not syncing").then_some(Verdict::Panic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(chunks: &[&str]) -> Option<Verdict> {
        let mut console = Console::default();
        for chunk in chunks {
            console.feed(chunk.as_bytes());
        }
        console.verdict()
    }

    #[test]
    fn the_line_in_pieces_and_with_carriage_return() {
        assert_eq!(
            verdict(&["boot\r\nmoby: exit st", "atus 7\r", "\n[ 3.1] reboot: Power down\r\n"]),
            Some(Verdict::Exit(7))
        );
        assert_eq!(verdict(&["moby: exit status 0\nmoby: exit status 42\n"]), Some(Verdict::Exit(42)));
    }

    #[test]
    fn only_whole_lines_count() {
        for text in [
            "moby: exit status 7",
            "x moby: exit status 7\n",
            "moby: exit status 7 of something\n",
            "moby: exit status 256\n",
            "moby: exit status -1\n",
            "redis: Kernel panic - not syncing\n",
        ] {
            assert_eq!(verdict(&[text]), None, "{text}");
        }
        let long = format!("moby: exit status 7{}\n", " ".repeat(4096));
        assert_eq!(verdict(&[&long]), Some(Verdict::Exit(7)));
    }

    #[test]
    fn refusals() {
        let refused =
            "\x1b[2JBdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0): Access Denied\r\n";
        assert_eq!(verdict(&[refused]), Some(Verdict::Refused));
        let loading = "BdsDxe: loading Boot0002 \"UEFI PXEv4\" from PciRoot(0x0)\n";
        assert_eq!(verdict(&[refused, loading]), None);
        assert_eq!(
            verdict(&[refused, loading, "BdsDxe: No bootable option or device was found.\n"]),
            Some(Verdict::Refused)
        );
        // OVMF's shell starts, and ends itself under Secure Boot.
        let shell =
            "BdsDxe: starting Boot0002 \"EFI Internal Shell\"\nBdsDxe: failed to start Boot0002: Security Violation\n";
        assert_eq!(verdict(&[refused, loading, shell]), Some(Verdict::Refused));
        let starting = "BdsDxe: starting Boot0002 \"x\" from y\n";
        assert_eq!(verdict(&[refused, loading, starting, "BdsDxe: No bootable option\n"]), None);
        assert_eq!(verdict(&["BdsDxe: failed to load Boot0001 from x: Not Found\nBdsDxe: No bootable option\n"]), None);
    }

    #[test]
    fn panics() {
        for text in [
            "Kernel panic - not syncing: x\n",
            "[    1.2] Kernel panic - not syncing: x\r\n",
            "[ 1.2][ T1] Kernel panic - not syncing\n",
        ] {
            assert_eq!(verdict(&[text]), Some(Verdict::Panic), "{text}");
        }
    }
}
