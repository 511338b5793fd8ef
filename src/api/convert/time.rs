//! Durations and moments.

use std::time::Duration;

use crate::clock::WallTime;
use crate::error::Error;
use crate::task::Timestamp;

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the range of a protobuf timestamp, in seconds.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// A duration from 0 to `max`.
pub(in crate::api) fn duration(field: &str, d: &prost_types::Duration, max: Duration) -> Result<Duration, Error> {
    let signs_differ = (d.seconds > 0 && d.nanos < 0) || (d.seconds < 0 && d.nanos > 0);
    if d.nanos.unsigned_abs() >= NANOS_PER_SECOND.unsigned_abs() || signs_differ {
        let why = "nanos must be within -999999999 to 999999999 and of the same sign as seconds";
        return Err(Error::invalid(field, format!("{why}, is {}", d.nanos)));
    }
    if d.seconds < 0 || d.nanos < 0 {
        return Err(Error::invalid(field, "must not be negative"));
    }
    let read = Duration::new(d.seconds.unsigned_abs(), d.nanos.unsigned_abs());
    if read > max {
        let over = u64::from(read.subsec_nanos() > 0);
        let actual = read.as_secs().saturating_add(over);
        return Err(Error::LimitExceeded { field: field.to_owned(), limit: max.as_secs(), actual, unit: "s" });
    }
    Ok(read)
}

/// A duration that a worker reports: what is outside 0 to `max` is taken at the nearest bound, since refusing it would
/// leave an attempt without its end.
pub(in crate::api) fn nearest(d: &prost_types::Duration, max: Duration) -> Duration {
    let seconds = d.seconds.saturating_add(i64::from(d.nanos / NANOS_PER_SECOND));
    let nanos = d.nanos % NANOS_PER_SECOND;
    match u64::try_from(seconds) {
        Err(_) => Duration::ZERO,
        Ok(s) if nanos < 0 => Duration::from_secs(s).saturating_sub(Duration::from_nanos(nanos.unsigned_abs().into())),
        Ok(s) => Duration::new(s, nanos.unsigned_abs()).min(max),
    }
    .min(max)
}

/// As protobuf has it; the longest there is (10,000 years) for anything beyond.
pub(in crate::api) fn to_duration(d: Duration) -> prost_types::Duration {
    const SECONDS_MAX: u64 = 315_576_000_000;
    prost_types::Duration {
        seconds: d.as_secs().min(SECONDS_MAX) as i64,
        nanos: if d.as_secs() < SECONDS_MAX { d.subsec_nanos() as i32 } else { 0 },
    }
}

/// A moment from year 1 to year 9999.
pub(in crate::api) fn timestamp(field: &str, t: &prost_types::Timestamp) -> Result<Timestamp, Error> {
    if !(0..NANOS_PER_SECOND).contains(&t.nanos) {
        return Err(Error::invalid(field, format!("nanos must be within 0 to 999999999, is {}", t.nanos)));
    }
    if !SECONDS.contains(&t.seconds) {
        return Err(Error::invalid(field, "must be in the years 1 to 9999"));
    }
    Ok(Timestamp { seconds: t.seconds, nanos: t.nanos.unsigned_abs(), offset_minutes: 0 })
}

/// Unset for the zero time, which stands for "not known", and for what protobuf has no room for.
pub(in crate::api) fn to_timestamp(t: Timestamp) -> Option<prost_types::Timestamp> {
    let known = t != Timestamp::ZERO && SECONDS.contains(&t.seconds);
    known.then_some(prost_types::Timestamp { seconds: t.seconds, nanos: t.nanos as i32 })
}

/// Wall time as protobuf has it.
pub(in crate::api) fn wall(t: WallTime) -> Option<prost_types::Timestamp> {
    to_timestamp(Timestamp::from_wall(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(seconds: i64, nanos: i32) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos }
    }

    #[test]
    fn durations_are_refused_when_negative_malformed_or_over_the_limit() {
        let max = Duration::from_secs(60);
        assert_eq!(duration("d", &proto(60, 0), max).unwrap(), max);
        assert_eq!(duration("d", &proto(0, 1), max).unwrap(), Duration::from_nanos(1));
        for (s, n) in [(-1, 0), (0, -1), (i64::MIN, 0), (1, -1), (-1, 1), (0, i32::MIN), (0, 1_000_000_000)] {
            assert!(matches!(duration("d", &proto(s, n), max), Err(Error::Invalid { field, .. }) if field == "d"));
        }
        for (s, n, actual) in [(60, 1, 61), (61, 0, 61), (i64::MAX, 999_999_999, i64::MAX as u64 + 1)] {
            let expected = Error::LimitExceeded { field: "d".into(), limit: 60, actual, unit: "s" };
            assert_eq!(duration("d", &proto(s, n), max), Err(expected));
        }
    }

    #[test]
    fn what_a_worker_reports_is_taken_at_the_nearest_bound() {
        let max = Duration::from_secs(60);
        let cases = [
            ((-5, 0), Duration::ZERO),
            ((i64::MIN, i32::MIN), Duration::ZERO),
            ((i64::MAX, i32::MAX), max),
            ((0, -1), Duration::ZERO),
            ((1, -500_000_000), Duration::from_millis(500)),
            ((1, 500_000_000), Duration::from_millis(1500)),
            ((100, -1), max),
        ];
        for ((s, n), expected) in cases {
            assert_eq!(nearest(&proto(s, n), max), expected, "{s} {n}");
        }
    }

    #[test]
    fn moments_outside_the_years_1_to_9999_are_refused() {
        let at = |seconds, nanos| timestamp("eta", &prost_types::Timestamp { seconds, nanos });
        assert!(at(-62_135_596_800, 0).is_ok() && at(253_402_300_799, 999_999_999).is_ok());
        for (s, n) in [(-62_135_596_801, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            assert!(at(s, n).is_err(), "{s} {n}");
        }
        assert_eq!(to_timestamp(Timestamp::ZERO), None);
    }
}
