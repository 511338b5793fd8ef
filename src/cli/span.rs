//! Spans of time as people write them, in the notation of the configuration, and read them (`3 s`, `2 min`).

use std::time::Duration;

use crate::config::Span;

/// Reads a span, as `250ms`, `5s` or `1h30m`; a bare number is seconds.
///
/// # Errors
/// A sentence that says what is wrong, for clap.
pub fn parse(text: &str) -> Result<Duration, String> {
    text.parse::<Span>().map(Duration::from)
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
