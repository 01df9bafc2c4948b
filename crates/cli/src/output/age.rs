//! Time in words: one number and one unit, as short as it stays useful.

use std::time::{SystemTime, UNIX_EPOCH};

use model::{Millis, Timestamp};

/// The present.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A duration as `45s`, `3m`, `5h`, `12d`. A unit is used from two of it on, so that the rounding
/// of `90s` does not lose half a minute.
pub(crate) fn span(span: Millis) -> String {
    let seconds = span.0 / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The duration since `then`.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> String {
    span(now.since(then))
}

/// An ongoing duration, to a tenth of a second while that matters: `2.4s`.
pub(crate) fn exact(length: Millis) -> String {
    match length.0 {
        0..60_000 => format!("{:.1}s", length.0 as f64 / 1000.0),
        _ => span(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_with_one_number_and_unit() {
        let check = |seconds, text: &str| assert_eq!(span(Millis::secs(seconds)), text);
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(3 * 60 + 59, "3m");
        check(7_199, "119m");
        check(7_200, "2h");
        check(47 * 3_600, "47h");
        check(48 * 3_600, "2d");
        check(400 * 86_400, "400d");
        assert_eq!(exact(Millis(2_449)), "2.4s");
        assert_eq!(exact(Millis::secs(150)), "2m");
    }

    #[test]
    fn a_clock_that_is_behind_shows_an_age_of_zero() {
        assert_eq!(since(Timestamp(5_000), Timestamp(1_000)), "0s");
    }
}
