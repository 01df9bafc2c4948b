//! Quantities: parsing, formatting and arithmetic.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use muster_model::unit::{Bytes, Cpu, Error, Millis, Share, Timestamp};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Parses a string: either it is rejected, or it displays in its canonical form.
fn reads<T>(text: &str, canonical: Option<&str>)
where
    T: FromStr<Err = Error> + Display + Debug + PartialEq,
{
    let read = text.parse::<T>();
    let written = read.as_ref().ok().map(T::to_string);
    assert_eq!(written.as_deref(), canonical, "{text}");
    if let Some(canonical) = canonical {
        assert_eq!(canonical.parse(), read, "{text} reads back");
    }
}

#[test]
fn cores_are_read_with_a_precision_of_one_thousandth() {
    reads::<Cpu>("0.25", Some("0.25"));
    reads::<Cpu>("2", Some("2"));
    reads::<Cpu>(" 2 ", Some("2"));
    reads::<Cpu>("1.0006", Some("1.001"));
    reads::<Cpu>("0", Some("0"));
    reads::<Cpu>("0.001", Some("0.001"));
    reads::<Cpu>("4294967.295", Some("4294967.295"));
    for invalid in ["", ".", "250m", "-1", "2 cores", "4294968", "1.2.3"] {
        reads::<Cpu>(invalid, None);
    }
}

#[test]
fn a_positive_amount_of_cores_is_not_rounded_to_zero() {
    reads::<Cpu>("0.0001", None);
    assert!(serde_json::from_str::<Cpu>("0.0001").is_err());
    assert!(serde_json::from_str::<Cpu>("-0.0001").is_err());
}

#[test]
fn sizes_have_a_unit_and_are_written_in_the_largest_that_is_exact() {
    for unit in ["B", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"] {
        let text = format!("3{unit}");
        reads::<Bytes>(&text, Some(&text));
        reads::<Bytes>(&text.to_lowercase(), Some(&text));
    }
    let bytes = |text: &str| text.parse::<Bytes>().unwrap().0;
    assert_eq!(bytes("1TiB"), 1024 * bytes("1GiB"));
    assert_eq!(bytes("1GiB"), 1024 * bytes("1MiB"));
    assert_eq!(bytes("1MiB"), 1024 * bytes("1KiB"));
    assert_eq!(bytes("1KiB"), 1024 * bytes("1B"));
    assert_eq!(Bytes::mib(3), Bytes(bytes("3MiB")));
    reads::<Bytes>("1.5GiB", Some("1536MiB"));
    reads::<Bytes>("0.5 KiB", Some("512B"));
    reads::<Bytes>("0KiB", Some("0B"));
    reads::<Bytes>("8192TiB", Some("8192TiB"));
    for invalid in ["", "32", "MiB", "-1MiB", "32Mi", "8193TiB"] {
        reads::<Bytes>(invalid, None);
    }
}

#[test]
fn durations_are_written_in_all_the_units_they_need() {
    for text in ["1d", "1h", "1m", "1s", "1ms", "2d3h4m5s6ms", "1h30m", "0s"] {
        reads::<Millis>(text, Some(text));
    }
    assert_eq!("1d1h1m1s1ms".parse(), Ok(Millis(86_400_000 + 3_600_000 + 60_000 + 1_000 + 1)));
    assert_eq!(Millis::secs(90), "90s".parse().unwrap());
    reads::<Millis>("90s", Some("1m30s"));
    reads::<Millis>("1.5s", Some("1s500ms"));
    reads::<Millis>(" 24h ", Some("1d"));
    reads::<Millis>("0", Some("0s"));
    for invalid in ["", "30", "s", "5 parsecs", "1h30", "-5s"] {
        reads::<Millis>(invalid, None);
    }
}

/// Above the maximum, numbers with a fraction cannot distinguish all milliseconds.
#[test]
fn a_duration_above_the_maximum_is_rejected_in_one_or_several_parts() {
    reads::<Millis>("9007199254740992ms", Some("104249991d8h59m992ms"));
    for invalid in ["9007199254740993s", "9007199254740992ms1ms", "104249991d104249991d"] {
        reads::<Millis>(invalid, None);
    }
}

#[test]
fn a_share_is_a_percentage_or_a_count() {
    reads::<Share>("25%", Some("25%"));
    reads::<Share>("33.3%", Some("33.3%"));
    reads::<Share>("100%", Some("100%"));
    reads::<Share>("3", Some("3"));
    reads::<Share>("4294967295", Some("4294967295"));
    for invalid in ["", "%", "101%", "1.5", "4294967296", "-1", "half"] {
        reads::<Share>(invalid, None);
    }
}

#[test]
fn times_are_written_in_milliseconds_from_1970_to_9999() {
    reads::<Timestamp>("2026-11-21T10:00:00.5Z", Some("2026-11-21T10:00:00.500Z"));
    reads::<Timestamp>("2026-11-21T12:00:00+02:00", Some("2026-11-21T10:00:00.000Z"));
    reads::<Timestamp>("1970-01-01T00:00:00Z", Some("1970-01-01T00:00:00.000Z"));
    reads::<Timestamp>("9999-12-30T22:00:00Z", Some("9999-12-30T22:00:00.000Z"));
    for invalid in ["", "tomorrow", "1969-12-31T23:59:59Z", "9999-12-30T22:00:00.5Z"] {
        reads::<Timestamp>(invalid, None);
    }
}

/// The stored form of the value that a document has.
fn stored<T: Serialize + DeserializeOwned>(document: &str) -> Result<String, String> {
    let value: T = serde_json::from_str(document).map_err(|error| error.to_string())?;
    Ok(serde_json::to_string(&value).unwrap())
}

#[test]
fn quantities_are_numbers_with_an_implied_unit_and_strings_otherwise() {
    for whole in ["0", "2", "0.25", "1.5"] {
        assert_eq!(stored::<Cpu>(whole), Ok(whole.into()));
        assert_eq!(stored::<Cpu>(&format!("\"{whole}\"")), Ok(whole.into()));
    }
    assert_eq!(stored::<Cpu>("2.0").as_deref(), Ok("2"));
    assert_eq!(stored::<Bytes>(r#""32MiB""#).as_deref(), Ok(r#""32MiB""#));
    assert_eq!(stored::<Millis>(r#""90s""#).as_deref(), Ok(r#""1m30s""#));
    assert_eq!(stored::<Millis>("0").as_deref(), Ok(r#""0s""#));
    assert_eq!(stored::<Share>("3").as_deref(), Ok(r#""3""#));
    assert_eq!(stored::<Share>(r#""25%""#).as_deref(), Ok(r#""25%""#));
    let time = r#""2026-11-21T10:00:00.000Z""#;
    assert_eq!(stored::<Timestamp>(time).as_deref(), Ok(time));
    assert!(stored::<Bytes>("32").is_err(), "32 of what?");
    assert!(stored::<Millis>("30").is_err(), "30 of what?");
    assert!(stored::<Share>("0.5").is_err() && stored::<Share>("-1").is_err());
    assert!(stored::<Timestamp>("1795255200").is_err());
    let refused = stored::<Cpu>("[2]").unwrap_err();
    assert!(refused.contains("a number or a string"), "{refused}");
}

#[test]
fn the_largest_timestamp_reads_back() {
    assert_eq!(Timestamp(1).after(Millis(2)), Timestamp(3));
    for span in [u64::MAX, 1 << 53, Timestamp::MAX.0] {
        let far = Timestamp(1).after(Millis(span));
        assert_eq!(far, Timestamp::MAX);
        assert_eq!(far.to_string().parse(), Ok(far));
    }
}

#[test]
fn the_time_since_a_future_timestamp_is_zero() {
    assert_eq!(Timestamp(5).since(Timestamp(2)), Millis(3));
    assert_eq!(Timestamp(2).since(Timestamp(5)), Millis(0));
}

#[test]
fn shares_round_up() {
    let quarter: Share = "25%".parse().unwrap();
    assert_eq!((quarter.ceil_of(4), quarter.added_to(4)), (1, 5));
    let tenth: Share = "10%".parse().unwrap();
    assert_eq!((tenth.ceil_of(10), tenth.added_to(4)), (1, 4));
    assert_eq!((Share::Count(3).ceil_of(2), Share::Count(3).added_to(2)), (2, 5));
}

proptest! {
    /// The minimum is rounded up, the maximum is rounded down.
    #[test]
    fn a_share_is_rounded_to_the_conservative_side(whole in 0u32..100_000, percent in 0u32..=100) {
        let share: Share = format!("{percent}%").parse().unwrap();
        let (stay, over) = (share.ceil_of(whole), share.added_to(whole) - whole);
        let hundredths = whole * percent;
        prop_assert!(stay * 100 >= hundredths && stay * 100 < hundredths + 100);
        prop_assert!(over * 100 <= hundredths && over * 100 + 100 > hundredths);
    }

    #[test]
    fn written_quantities_read_back(number in 0u64..1 << 53, count in any::<u32>()) {
        prop_assert_eq!(Bytes(number).to_string().parse(), Ok(Bytes(number)));
        prop_assert_eq!(Millis(number).to_string().parse(), Ok(Millis(number)));
        prop_assert_eq!(Cpu(count).to_string().parse(), Ok(Cpu(count)));
        prop_assert_eq!(Share::Count(count).to_string().parse(), Ok(Share::Count(count)));
        let part = Share::Millionths(count % 1_000_001);
        prop_assert_eq!(part.to_string().parse(), Ok(part));
        let time = Timestamp(number % (Timestamp::MAX.0 + 1));
        prop_assert_eq!(time.to_string().parse(), Ok(time));
    }
}
