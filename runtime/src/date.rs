//! Dates in UTC, without a calendar of the system.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in UTC, in the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// The year, 1970 or later.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    /// 1 to 366.
    pub day_of_year: u64,
    /// 0 to 6, from Sunday.
    pub weekday: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59.
    pub second: u64,
}

impl Utc {
    /// The present by the system's clock.
    pub fn now() -> Utc {
        Utc::at(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
    }

    /// `seconds` after 1970-01-01 00:00.
    pub fn at(seconds: u64) -> Utc {
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day, day_of_year) = civil(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        // 1970 began on a Thursday.
        Utc { year, month, day, day_of_year, weekday: (days % 7 + 4) % 7, hour, minute, second }
    }

    /// Year, month and day with something between: `2026-11-25`.
    pub fn date(&self, between: &str) -> String {
        format!("{:04}{between}{:02}{between}{:02}", self.year, self.month, self.day)
    }

    /// Hour, minute and second with something between: `18:30:00`.
    pub fn time(&self, between: &str) -> String {
        format!("{:02}{between}{:02}{between}{:02}", self.hour, self.minute, self.second)
    }
}

/// Year, month (1–12), day (1–31) and day of the year (1–366) of a day counted from 1970-01-01, in the Gregorian
/// calendar.
fn civil(mut days: u64) -> (u64, u64, u64, u64) {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    // Whole cycles of 400 years first, so that the loop below is short for any clock.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let day_of_year = days + 1;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1, day_of_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_match_the_calendar() {
        let leap = Utc::at(951_782_400);
        assert_eq!((leap.date("-").as_str(), leap.time(":").as_str(), leap.weekday), ("2000-02-29", "00:00:00", 2));
        assert_eq!(Utc::at(1_735_689_599).date("") + &Utc::at(1_735_689_599).time(""), "20241231235959");
    }
}
