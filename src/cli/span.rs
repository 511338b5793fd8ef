//! Spans of time as people write them (`250ms`, `1h30m`) and read them (`3 s`, `2 min`).

use std::time::Duration;

// From the largest to the smallest; `ms` stands before `m` so that the longer name is tried first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a span: one or more of a whole or decimal number with its unit (`ms`, `s`, `m`, `h`, `d`), as in `250ms`,
/// `1.5s` or `1h30m`. A bare number is refused, except `0`.
///
/// # Errors
/// A sentence that says what is wrong, for clap.
pub fn parse(text: &str) -> Result<Duration, String> {
    let fail = || format!("{text:?} is not a span of time such as 250ms, 5s, 2m, 1h30m or 1d");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(fail());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let (number, tail) = rest.split_at(digits);
        let name_len = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (name, after) = tail.split_at(name_len);
        let (_, millis) = UNITS.into_iter().find(|(unit, _)| *unit == name).ok_or_else(fail)?;
        let amount: f64 = number.parse().map_err(|_| fail())?;
        let part = Duration::try_from_secs_f64(amount * (millis as f64) / 1_000.0).map_err(|_| fail())?;
        total = total.checked_add(part).ok_or_else(fail)?;
        rest = after;
    }
    Ok(total)
}

/// A span for people, one unit, rounded down beyond a minute: `340 ms`, `3 s`, `2 min`, `5 h`, `9 d`.
pub fn human(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0 => format!("{} ms", span.as_millis()),
        1..=9 if span.subsec_millis() >= 50 => format!("{:.1} s", span.as_secs_f64()),
        1..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_units() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "5 s", "1x", "1..5s", "99999999999999999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_shown_in_one_unit() {
        for (millis, text) in [
            (0, "0 ms"),
            (340, "340 ms"),
            (3_000, "3 s"),
            (3_400, "3.4 s"),
            (59_900, "59 s"),
            (119_000, "119 s"),
            (120_000, "2 min"),
            (7_199_000, "119 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
        ] {
            assert_eq!(human(Duration::from_millis(millis)), text);
        }
    }
}
