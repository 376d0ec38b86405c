//! Sizes and ages, read and shown.

use std::time::Duration;

/// A number of bytes: `500M`, `10G`, with binary units.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40), ("", 0)];
    let text = text.strip_suffix("iB").or(text.strip_suffix('B')).unwrap_or(text);
    let parsed = units.iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(1 << shift)
    });
    parsed.ok_or_else(|| "a size is expected, such as 500M or 10G".to_string())
}

/// A time span: `90m`, `12h`, `30d`, `2w`.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds).map(Duration::from_secs)
    });
    parsed.ok_or_else(|| "a time span is expected, such as 12h or 30d".to_string())
}

/// `1.5 GiB`, with three digits at most.
pub(super) fn shown_bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit])
}

/// `3 days`: the largest unit that fits.
pub(super) fn shown_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (count, unit) = match seconds {
        0..3600 => return "an hour".to_string(),
        3600..172_800 => (seconds.div_ceil(3600), "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_shown() {
        for (text, value) in
            [("0", 0), ("12", 12), ("1K", 1024), ("2MiB", 2 << 20), ("10G", 10 << 30), ("3TB", 3 << 40)]
        {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "99999999999T", "1X"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(age("30d"), Ok(Duration::from_secs(2_592_000)));
        assert!(age("30").is_err() && age("d").is_err() && age("99999999999999999w").is_err());
        for (value, text) in
            [(0, "0 B"), (999, "999 B"), (1536, "1.5 KiB"), (104_857_600, "100 MiB"), (10 << 30, "10.0 GiB")]
        {
            assert_eq!(shown_bytes(value), text);
        }
        assert_eq!(shown_age(Duration::from_secs(60)), "an hour");
        assert_eq!(shown_age(Duration::from_secs(86_400)), "24 hours");
        assert_eq!(shown_age(Duration::from_secs(1_000_000)), "11 days");
    }
}
