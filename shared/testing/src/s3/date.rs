//! Dates as HTTP and S3's XML write them, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

struct Utc {
    year: u64,
    month: u64,
    day: u64,
    weekday: &'static str,
    clock: String,
}

fn utc(time: SystemTime) -> Utc {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS[super::index(days % 7)];
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let clock = format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    Utc { year, month, day: days + 1, weekday, clock }
}

/// `Thu, 01 Jan 1970 00:00:00 GMT`
pub(super) fn http(time: SystemTime) -> String {
    let Utc { year, month, day, weekday, clock } = utc(time);
    format!("{weekday}, {day:02} {} {year} {clock} GMT", MONTHS[super::index(month - 1)])
}

/// `1970-01-01T00:00:00.000Z`
pub(super) fn iso(time: SystemTime) -> String {
    let Utc { year, month, day, clock, .. } = utc(time);
    format!("{year}-{month:02}-{day:02}T{clock}.000Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
        ] {
            assert_eq!(http(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
        assert_eq!(iso(UNIX_EPOCH + Duration::from_secs(951_782_401)), "2000-02-29T00:00:01.000Z");
    }
}
