//! What outputs for BIOS share: the configuration of syslinux and isolinux.

use crate::Arch;
use crate::error::{Error, Result};

/// Bytes of a kernel command line on x86 (COMMAND_LINE_SIZE in Linux's arch/x86/include/asm/setup.h) without the zero
/// at its end.
const COMMAND_LINE_LIMIT: usize = 2047;

/// The configuration of syslinux and isolinux: one kernel, no menu, no waiting.
pub fn configuration(kernel: &str, initrd: &str, command_line: &str) -> Result<String> {
    // The loader adds words of its own.
    let limit = COMMAND_LINE_LIMIT - format!("BOOT_IMAGE={kernel}  initrd={initrd}").len();
    if command_line.len() > limit {
        return Err(Error::usage(format!(
            "the kernel command line has {} bytes; Linux on {} takes {limit} beside those of the loader",
            command_line.len(),
            Arch::Amd64
        )));
    }
    if command_line.contains(|letter: char| letter.is_control()) {
        return Err(Error::usage("the kernel command line has a line break or another control character"));
    }
    let mut text = String::new();
    if let Some((port, speed)) = serial(command_line) {
        // First of all, as syslinux's manual wants it.
        text.push_str(&format!("SERIAL {port} {speed}\n"));
    }
    text.push_str("DEFAULT linux\nPROMPT 0\nTIMEOUT 0\n");
    text.push_str(&format!("LABEL linux\n  LINUX {kernel}\n  INITRD {initrd}\n"));
    if !command_line.trim().is_empty() {
        text.push_str(&format!("  APPEND {}\n", command_line.trim()));
    }
    Ok(text)
}

/// The serial port that Linux takes for its console, and its speed. Of several the last one counts, as for /dev/console.
fn serial(command_line: &str) -> Option<(u8, u32)> {
    let of_word = |word: &str| {
        let console = word.strip_prefix("console=ttyS")?;
        let (port, settings) = console.split_once(',').unwrap_or((console, ""));
        let port: u8 = port.parse().ok()?;
        let digits = settings.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(settings.len());
        // Linux takes 9600 where nothing is said; then whatever was set before is better than another change.
        let speed = settings.get(..digits)?.parse().unwrap_or(115_200);
        // BIOS knows four.
        (port < 4).then_some((port, speed))
    };
    command_line.split_whitespace().rev().find_map(of_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_speaks_where_the_kernel_does() {
        assert_eq!(serial("console=ttyS0 console=ttyAMA0"), Some((0, 115_200)));
        assert_eq!(serial("console=ttyS1,9600n8 quiet"), Some((1, 9600)));
        assert_eq!(serial("console=ttyS0 console=ttyS2,38400"), Some((2, 38_400)));
        assert_eq!(serial("console=tty0 earlycon=ttyS0"), None);
        assert_eq!(serial("console=ttyS99 console=ttyS console=ttySx,1"), None);
    }

    #[test]
    fn configurations() {
        let text = configuration("/kernel", "/initrd.img", "console=ttyS0 quiet").unwrap();
        assert_eq!(
            text,
            "SERIAL 0 115200\nDEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n  LINUX /kernel\n  INITRD /initrd.img\n  \
             APPEND console=ttyS0 quiet\n"
        );
        assert!(configuration("/k", "/i", "").unwrap().ends_with("INITRD /i\n"));
        assert!(configuration("/k", "/i", "a\nDEFAULT b").is_err());
        assert!(configuration("/k", "/i", &"x".repeat(2048)).is_err());
    }
}
