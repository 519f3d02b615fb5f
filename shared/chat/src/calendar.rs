//! Dates as templates print them: days since 1970 to a date, and Python's `strftime`.

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

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const SECONDS_A_DAY: i64 = 86_400;

struct Date {
    year: i64,
    /// From 1.
    month: i64,
    /// From 1.
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From Sunday, 0.
    weekday: usize,
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The proleptic Gregorian calendar, by eras of 400 years that begin with March, so that the day that leap years add is the last.
fn date(days_since_1970: i64) -> Date {
    let days = days_since_1970 + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let before_march = if is_leap(year) { 60 } else { 59 };
    let day_of_year = if month <= 2 { of_year - 305 } else { of_year + before_march + 1 };
    let weekday = usize::try_from((days_since_1970 + 4).rem_euclid(7)).unwrap_or(0);
    Date { year, month, day, day_of_year, weekday }
}

/// A time in UTC by Python's directives; `%-d` is `%d` without its zero.
///
/// # Errors
/// A directive that is not known.
pub(crate) fn strftime(seconds_since_1970: i64, format: &str) -> Result<String, String> {
    let date = date(seconds_since_1970.div_euclid(SECONDS_A_DAY));
    let of_day = seconds_since_1970.rem_euclid(SECONDS_A_DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut directive = letters.next();
        let padded = directive != Some('-');
        if !padded {
            directive = letters.next();
        }
        let number = |value: i64, width: usize| {
            if padded { format!("{value:0width$}") } else { value.to_string() }
        };
        let month = MONTHS[usize::try_from(date.month - 1).unwrap_or(0)];
        let printed = match directive {
            Some('Y') => date.year.to_string(),
            Some('y') => number(date.year.rem_euclid(100), 2),
            Some('m') => number(date.month, 2),
            Some('d') => number(date.day, 2),
            Some('e') => format!("{:2}", date.day),
            Some('j') => number(date.day_of_year, 3),
            Some('B') => month.to_owned(),
            Some('b' | 'h') => month[..3].to_owned(),
            Some('A') => DAYS[date.weekday].to_owned(),
            Some('a') => DAYS[date.weekday][..3].to_owned(),
            Some('w') => date.weekday.to_string(),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('f') => "000000".to_owned(),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('F') => format!("{}-{:02}-{:02}", date.year, date.month, date.day),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('z') => "+0000".to_owned(),
            Some('Z') => "UTC".to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                let other = other.map_or_else(String::new, String::from);
                return Err(format!("strftime_now does not know %{other}"));
            }
        };
        out.push_str(&printed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted a day at a time, by the lengths of months.
    #[test]
    fn dates_are_those_of_a_plain_count() {
        let (mut year, mut month, mut day, mut of_year, mut weekday) = (1970, 1, 1, 1, 4);
        for days in 0..100_000 {
            let found = date(days);
            let expected = (year, month, day, of_year, weekday);
            let found = (found.year, found.month, found.day, found.day_of_year, found.weekday);
            assert_eq!(found, expected, "{days}");
            let length = match month {
                2 => 28 + i64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (day, of_year, weekday) = (day + 1, of_year + 1, (weekday + 1) % 7);
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, of_year, year) = (1, 1, year + 1);
            }
        }
    }

    #[test]
    fn times_are_printed_as_python_does() {
        let time = 1_722_643_509;
        for (format, expected) in [
            ("%d %b %Y", "03 Aug 2024"),
            ("%Y-%m-%d %H:%M:%S", "2024-08-03 00:05:09"),
            (
                "%-d %B %y, %A (%a), %I %p, %j, 100 %%",
                "3 August 24, Saturday (Sat), 12 AM, 216, 100 %",
            ),
        ] {
            assert_eq!(strftime(time, format).as_deref(), Ok(expected));
        }
        assert_eq!(strftime(time, "%Q"), Err("strftime_now does not know %Q".to_owned()));
        assert_eq!(strftime(-1, "%F %T").as_deref(), Ok("1969-12-31 23:59:59"));
    }
}
