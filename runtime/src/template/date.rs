//! `strftime_now(format)`, which templates use to tell the model the date.

use minijinja::{Error, ErrorKind};
use std::fmt::Write;

use crate::date::Utc;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The template function: the present time in UTC by Python's format codes.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    strftime(format, Utc::now())
}

/// A time, formatted.
fn strftime(format: &str, time: Utc) -> Result<String, Error> {
    let Utc { year, month, day, day_of_year, weekday, hour, minute, second } = time;
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[weekday as usize]);
    let hour12 = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        let plain = code == Some('-');
        if plain {
            code = chars.next();
        }
        let mut number = |value: u64, width: usize| {
            let width = if plain { 0 } else { width };
            let _ = write!(out, "{value:0width$}");
        };
        match code {
            Some('Y') => number(year, 4),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('j') => number(day_of_year, 3),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('B') => out.push_str(month_name),
            Some('b') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => {
                let _ = write!(out, "{year:04}-{month:02}-{day:02}");
            }
            Some('T') => {
                let _ = write!(out, "{hour:02}:{minute:02}:{second:02}");
            }
            Some('Z') => out.push_str("UTC"),
            Some('%') => out.push('%'),
            other => {
                let code = other.map_or("nothing".to_owned(), |c| c.escape_debug().to_string());
                let reason = format!("strftime_now: % is followed by {code}, which is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_the_calendar() {
        let at = |s| strftime("%Y-%m-%d %H:%M:%S %A %j", Utc::at(s)).unwrap();
        assert_eq!(at(0), "1970-01-01 00:00:00 Thursday 001");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00 Tuesday 060");
        assert_eq!(at(1_735_689_599), "2024-12-31 23:59:59 Tuesday 366");
        assert_eq!(at(4_102_444_800), "2100-01-01 00:00:00 Friday 001");
        assert_eq!(strftime("%d %b %y, %-d/%-m %I %p %%", Utc::at(1_735_689_599)).unwrap(), "31 Dec 24, 31/12 11 PM %");
        assert!(strftime("%Q", Utc::at(0)).unwrap_err().to_string().contains("followed by Q"));
        assert!(strftime("%", Utc::at(0)).is_err());
    }
}
