//! A moment as Machinery writes it: nanoseconds and the zone of whoever wrote it.

use std::fmt;

use crate::clock::WallTime;

/// A moment with its offset from UTC. Its JSON is RFC 3339 as Go prints it (`wire`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z; Go's zero time, year 1, is -62,135,596,800.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
    /// Minutes east of UTC, for printing only.
    pub offset_minutes: i16,
}

impl Timestamp {
    /// Go's zero time, which stands for "not known".
    pub const ZERO: Self = Self { seconds: -62_135_596_800, nanos: 0, offset_minutes: 0 };

    /// `wall` in UTC.
    pub fn from_wall(wall: WallTime) -> Self {
        Self {
            seconds: i64::try_from(wall.0 / 1_000_000_000).unwrap_or(i64::MAX),
            nanos: (wall.0 % 1_000_000_000) as u32,
            offset_minutes: 0,
        }
    }

    /// As wall time: 1970 for anything before it, the end of wall time for anything after that.
    pub fn to_wall(self) -> WallTime {
        let Ok(seconds) = u64::try_from(self.seconds) else { return WallTime(0) };
        WallTime(seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(self.nanos)))
    }

    /// The moment `nanos` after `seconds` since 1970, in UTC. `None` if `nanos` is a second or more, or if the year is not
    /// one of four digits, 0 to 9999, which is all that RFC 3339 can say.
    pub fn from_unix(seconds: i64, nanos: u32) -> Option<Self> {
        ((YEAR_0..=YEAR_9999_END).contains(&seconds) && nanos < NANOS).then_some(Self {
            seconds,
            nanos,
            offset_minutes: 0,
        })
    }

    /// Reads RFC 3339 as Go does: `T` and `Z` in upper case, a colon in the offset, digits of the fraction beyond the
    /// ninth ignored. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() < 20 || b[4] != b'-' || b[7] != b'-' || b[10] != b'T' || b[13] != b':' || b[16] != b':' {
            return None;
        }
        let (year, month, day) = (digits(&b[0..4])?, digits(&b[5..7])?, digits(&b[8..10])?);
        let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
            return None;
        }
        // A leap second, 60, is refused, as Go does.
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (nanos, zone) = fraction(&b[19..])?;
        let offset_minutes = offset(zone)?;
        let local = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Some(Self { seconds: local - i64::from(offset_minutes) * 60, nanos, offset_minutes })
    }
}

const NANOS: u32 = 1_000_000_000;
const DAY: i64 = 86_400;
// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const YEAR_0: i64 = -62_167_219_200;
const YEAR_9999_END: i64 = 253_402_300_799;

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
}

// The nanoseconds, and what follows them.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    // Go takes the comma of ISO 8601 too.
    let (b'.' | b',', rest) = text.split_first()? else { return Some((0, text)) };
    let count = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let nanos = (0..9).fold(0, |n, i| n * 10 + if i < count { u32::from(rest[i] - b'0') } else { 0 });
    Some((nanos, &rest[count..]))
}

// Minutes east of UTC.
fn offset(zone: &[u8]) -> Option<i16> {
    let (sign, hours, minutes) = match zone {
        b"Z" => return Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => (*sign, digits(&[*h1, *h2])?, digits(&[*m1, *m2])?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let east = i16::try_from(hours * 60 + minutes).ok()?;
    Some(if sign == b'-' { -east } else { east })
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Days since 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the leap day is the
// last of its year; an era is 400 of them, 146,097 days. 719,468 days lie between 0000-03-01 and 1970-01-01.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let year = year.rem_euclid(400);
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

// The inverse: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// RFC 3339 with nanoseconds as Go prints it: no trailing zeros in the fraction, no fraction if it is zero, `Z` for UTC.
/// A moment whose year has no four digits, which no constructor here makes, is printed as the nearest that has.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let east = i64::from(self.offset_minutes);
        let local = self.seconds.saturating_add(east * 60).clamp(YEAR_0, YEAR_9999_END);
        let (year, month, day) = civil_from_days(local.div_euclid(DAY));
        let second = local.rem_euclid(DAY);
        write!(f, "{year:04}-{month:02}-{day:02}T")?;
        write!(f, "{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)?;
        let nanos = self.nanos.min(NANOS - 1);
        if nanos != 0 {
            let (mut digits, mut width) = (nanos, 9);
            while digits % 10 == 0 {
                digits /= 10;
                width -= 1;
            }
            write!(f, ".{digits:0width$}")?;
        }
        match east {
            0 => f.write_str("Z"),
            east => {
                write!(f, "{}{:02}:{:02}", if east < 0 { '-' } else { '+' }, (east.abs() / 60).min(23), east.abs() % 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_as_go_prints_them_and_read_back() {
        for (text, seconds, nanos, offset_minutes) in [
            ("1970-01-01T00:00:00Z", 0, 0, 0),
            ("0001-01-01T00:00:00Z", Timestamp::ZERO.seconds, 0, 0),
            ("0000-01-01T00:00:00Z", YEAR_0, 0, 0),
            ("9999-12-31T23:59:59.999999999Z", YEAR_9999_END, 999_999_999, 0),
            ("2100-01-02T03:04:05.678901234Z", 4_102_542_245, 678_901_234, 0),
            ("2100-01-02T05:34:05.678901234+02:30", 4_102_542_245, 678_901_234, 150),
            ("2100-01-01T22:04:05.12-05:00", 4_102_542_245, 120_000_000, -300),
            ("2024-02-29T12:00:00.000000001Z", 1_709_208_000, 1, 0),
            ("1969-12-31T23:59:59.5Z", -1, 500_000_000, 0),
        ] {
            let moment = Timestamp { seconds, nanos, offset_minutes };
            assert_eq!(Timestamp::parse(text), Some(moment), "{text}");
            assert_eq!(moment.to_string(), text);
        }
    }

    #[test]
    fn reading_is_as_lenient_as_go_and_no_more() {
        let parse = |text: &str| Timestamp::parse(text).map(|moment| moment.to_string());
        let nine = Some("2100-01-02T03:04:05.123456789Z".to_owned());
        assert_eq!(parse("2100-01-02T03:04:05.1234567891Z"), nine);
        assert_eq!(parse("2100-01-02T03:04:05+00:00"), Some("2100-01-02T03:04:05Z".to_owned()));
        for bad in [
            "",
            "2100-01-02 03:04:05Z",
            "2100-01-02T03:04:05",
            "2100-01-02T03:04:05+0200",
            "2100-01-02T03:04:05.Z",
            "2100-01-02T03:04:05z",
            "2100-13-02T03:04:05Z",
            "2100-02-29T03:04:05Z",
            "2100-01-02T24:04:05Z",
            "2100-01-02T03:04:60Z",
            "2100-01-02T03:04:05+24:00",
            "2100-01-02T03:04:05Z ",
            "-100-01-02T03:04:05Z",
            "2100-01-02T03:04:0é",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_day_of_800_years_survives_the_calendar_both_ways() {
        let first = days_from_civil(1600, 1, 1);
        for days in first..first + 292_194 {
            let (year, month, day) = civil_from_days(days);
            assert!((1..=days_in(year, month)).contains(&day));
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn moments_beyond_four_digits_of_year_are_refused_and_never_misprinted() {
        assert_eq!(Timestamp::from_unix(YEAR_9999_END + 1, 0), None);
        assert_eq!(Timestamp::from_unix(0, NANOS), None);
        let wild = Timestamp { seconds: i64::MAX, nanos: u32::MAX, offset_minutes: i16::MAX };
        assert!(Timestamp::parse(&wild.to_string()).is_some());
    }
}
