//! Dates of formats that write them as year, month and day.

/// A moment in UTC (proleptic Gregorian calendar).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// Month, from 1.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Hour.
    pub hour: i64,
    /// Minute.
    pub minute: i64,
    /// Second; there are no leap seconds in the time of the epoch.
    pub second: i64,
}

/// Days from the epoch to 1900-01-01.
const DAYS_TO_1900: i64 = -25_567;
/// 1900-01-01 00:00:00.
const FIRST: i64 = DAYS_TO_1900 * 86_400;
/// 2155-12-31 23:59:59, the last that ISO 9660 records have.
const LAST: i64 = 5_869_583_999;

impl Civil {
    /// The moment of seconds since the epoch. Before 1900 and after 2155 it is the first and last of that span, which
    /// no format here exceeds.
    pub fn of(time: i64) -> Civil {
        let time = time.clamp(FIRST, LAST);
        let (mut days, seconds) = (time.div_euclid(86_400) - DAYS_TO_1900, time.rem_euclid(86_400));
        let mut year = 1900;
        let length = |year: i64| if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 };
        while days >= length(year) {
            days -= length(year);
            year += 1;
        }
        let mut month = 1;
        for length in [31, length(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        Civil { year, month, day: days + 1, hour: seconds / 3600, minute: seconds / 60 % 60, second: seconds % 60 }
    }
}

impl Civil {
    /// Seconds since the epoch. Months and days outside their ranges count on, as `mktime` does.
    pub fn time(&self) -> i64 {
        // Years that begin in March have their odd day at the end (H. Hinnant, "chrono-compatible low-level date
        // algorithms").
        let months = self.year * 12 + self.month - 3;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
        let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        let days = days + (153 * month + 2) / 5 + self.day - 1 - 719_468;
        ((days * 24 + self.hour) * 60 + self.minute) * 60 + self.second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for time in [0, -1, 951_782_400, 1_492_533_001, 4_107_542_400, FIRST, LAST, 1_709_251_199, 1_709_164_800] {
            assert_eq!(Civil::of(time).time(), time);
        }
    }

    #[test]
    fn moments() {
        let of = |time| {
            let Civil { year, month, day, hour, minute, second } = Civil::of(time);
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
        };
        assert_eq!(of(0), "1970-01-01 00:00:00");
        assert_eq!(of(-1), "1969-12-31 23:59:59");
        assert_eq!(of(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(of(1_492_533_001), "2017-04-18 16:30:01");
        assert_eq!(of(4_107_542_400), "2100-03-01 00:00:00");
        assert_eq!(of(i64::MIN), "1900-01-01 00:00:00");
        assert_eq!(of(i64::MAX), "2155-12-31 23:59:59");
    }
}
