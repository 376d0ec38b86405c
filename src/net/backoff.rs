//! How long to wait before asking again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often something is tried. With the delays below the last try begins 3 s after the first fails, or 15 s after
/// a server asked for fewer requests: long enough for a restart behind a load balancer, short enough to wait for.
pub(super) const ATTEMPTS: u32 = 5;

/// No server makes us wait longer than this, whatever it says.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The wait after the `failures`-th failure in a row (1 is the first): 0.2 s doubling, 1 s doubling when the server
/// said that requests come too fast, or what the server said. Without jitter: a build is one client, and runs of it
/// should be alike.
pub(super) fn delay(failures: u32, too_many: bool, asked: Option<Duration>) -> Duration {
    if let Some(asked) = asked {
        return asked.min(LONGEST_WAIT);
    }
    let first = Duration::from_millis(if too_many { 1000 } else { 200 });
    first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_WAIT)
}

/// Reads a `Retry-After` header: seconds or a date (RFC 9110, section 10.2.3). Anything else is `None`.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    Some(Duration::from_secs(u64::try_from(http_date(value)? - now).unwrap_or(0)))
}

/// Seconds since the epoch of an HTTP date in the form that servers must send: `Sun, 06 Nov 1994 08:49:37 GMT`
/// (RFC 9110, section 5.6.7). The two obsolete forms are not read.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = fields[..] else { return None };
    let number = |text: &str, limit: i64| text.parse::<u16>().ok().map(i64::from).filter(|n| *n <= limit);
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let (day, year) = (number(day, 31)?, number(year, 9999)?);
    let mut clock = time.split(':');
    let (hour, minute, second) = (number(clock.next()?, 23)?, number(clock.next()?, 59)?, number(clock.next()?, 60)?);
    // Days since the epoch of a date in the proleptic Gregorian calendar, with years beginning in March.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_servers_are_obeyed_within_reason() {
        let waits: Vec<u64> = (1..5).map(|n| delay(n, false, None).as_millis() as u64).collect();
        assert_eq!(waits, [200, 400, 800, 1600]);
        assert_eq!(delay(4, true, None), Duration::from_secs(8));
        assert_eq!(delay(1, true, Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(delay(1, true, Some(Duration::from_secs(86_400))), LONGEST_WAIT);
        assert_eq!(delay(u32::MAX, true, None), LONGEST_WAIT);
    }

    #[test]
    fn retry_after_takes_seconds_and_dates() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after(" 3 ", now), Some(Duration::from_secs(3)));
        for wrong in
            ["", "-1", "soon", "99999999999999999999", "Sun, 06 Nov 1994", "x, a b c d GMT", "Sun, 06 Nov 1994 8:4 GMT"]
        {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_stops_the_parser(text in "\\PC{0,40}", date in "[A-Z][a-z]{2}, [0-9]{1,6} (Jan|Feb|Dec) [0-9]{1,6} [0-9:]{0,12} GMT") {
            retry_after(&text, UNIX_EPOCH);
            retry_after(&date, SystemTime::now());
        }
    }
}
