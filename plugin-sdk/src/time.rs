//! Kubernetes' timestamps (RFC 3339, UTC, whole seconds) to and from seconds since the Unix epoch.
//! A date crate would weigh more than the rest of a small action.

const DAY: i64 = 86_400;

/// `2026-01-31T08:00:00Z` in seconds since the Unix epoch; fractions of a second are dropped.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let clock = clock.split('.').next()?;
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (
        clock.next()?.ok()?,
        clock.next()?.ok()?,
        clock.next()?.ok()?,
    );
    if !(0..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar; the year is counted from March, so that the leap
/// day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let months_since_march = (month + 9) % 12;
    let day_of_year = (153 * months_since_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

/// The inverse of [`parse`], for the fake cluster. Good for years of four digits.
#[cfg(not(target_family = "wasm"))]
pub fn format(seconds: i64) -> String {
    let (day_number, clock) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let estimate = 1970 + day_number.div_euclid(366);
    let year = (estimate..=9999)
        .find(|year| days(year + 1, 1, 1) > day_number)
        .unwrap_or(estimate);
    let month = (1..=12)
        .rev()
        .find(|month| days(year, *month, 1) <= day_number)
        .unwrap_or(1);
    let day = day_number - days(year, month, 1) + 1;
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_seconds_and_is_written_back_the_same() {
        let table = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2024-03-01T00:00:00Z", 1_709_251_200),
            ("2026-12-31T12:00:01Z", 1_798_718_401),
        ];
        for (text, seconds) in table {
            assert_eq!(parse(text), Some(seconds), "{text}");
            assert_eq!(format(seconds), text);
        }
    }

    #[test]
    fn what_is_no_timestamp_reads_as_none() {
        for text in [
            "",
            "yesterday",
            "2024-13-01T00:00:00Z",
            "2024-01-01",
            "2024-01-01T00:00:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
