//! Quantities in their human-readable form, stored as integers so that arithmetic is exact and
//! ordered.
//!
//! Each type parses, and displays as, one canonical string: `0.25` cores, `32MiB`, `30s`, `25%`,
//! `2026-11-21T10:00:00.000Z`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a quantity is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct Error {
    /// The rejected string.
    pub text: String,
    /// The expected form, with examples.
    pub expected: &'static str,
}

fn refuse<T>(text: impl ToString, expected: &'static str) -> Result<T, Error> {
    Err(Error { text: text.to_string(), expected })
}

/// Splits `12.5MiB` into 12.5 and `MiB`.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

/// `number * factor` rounded to an integer, if it is a number, not negative and fits.
fn scale(number: f64, factor: f64, max: u64) -> Option<u64> {
    let value = (number * factor).round();
    (0.0..=max as f64).contains(&value).then_some(value as u64)
}

/// A scalar of a document: a number or a string.
enum Scalar {
    Number(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.into()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// The schema of a value that is written as a whole number or as a string.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum NumberOrText {
    Number(u32),
    Text(String),
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty), schema $schema:literal, number: $number:expr) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema,
        )]
        #[schemars(with = $schema)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let from_number: fn(f64) -> Result<$name, Error> = $number;
                match Scalar::deserialize(deserializer)? {
                    Scalar::Number(number) => from_number(number).map_err(de::Error::custom),
                    Scalar::Text(text) => text.parse().map_err(de::Error::custom),
                }
            }
        }
    };
}

macro_rules! serialize_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

const CPU: &str = "a number of cores: 0.25, 2 (at least 0.001)";

quantity! {
    /// A number of cores, exact to a thousandth: `0.25`, `2`.
    Cpu(u32), schema "f64", number: |cores| Cpu::cores(cores).map_or_else(|| refuse(cores, CPU), Ok)
}

impl Cpu {
    /// A number of cores, if it fits and does not round to 0.
    fn cores(cores: f64) -> Option<Self> {
        let millicores = scale(cores, 1000.0, u32::MAX.into())?;
        (cores == 0.0 || millicores > 0).then_some(Cpu(millicores as u32))
    }
}

impl FromStr for Cpu {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let cores = split(text).filter(|(_, unit)| unit.is_empty()).map(|(cores, _)| cores);
        cores.and_then(Cpu::cores).map_or_else(|| refuse(text, CPU), Ok)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}", f64::from(self.0) / 1000.0))
    }
}

impl Serialize for Cpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % 1000 {
            0 => serializer.serialize_u32(self.0 / 1000),
            _ => serializer.serialize_f64(f64::from(self.0) / 1000.0),
        }
    }
}

const BYTES: &str = "a size with its unit: 512KiB, 32MiB, 1.5GiB (or KB, MB, GB in thousands)";

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

quantity! {
    /// A size with its unit, exact to a byte: `512KiB`, `1.5GiB`. `KiB`, `MiB`, `GiB` and `TiB` count in
    /// 1024s; `KB`, `MB`, `GB` and `TB` in 1000s.
    Bytes(u64), schema "String", number: |number| refuse(number, BYTES)
}

impl Bytes {
    /// A size given in mebibytes.
    pub const fn mib(count: u64) -> Self {
        Bytes(count << 20)
    }
}

impl FromStr for Bytes {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let (number, unit) = split(text).ok_or(Error { text: text.into(), expected: BYTES })?;
        let factor = BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        match factor.and_then(|(_, factor)| scale(number, *factor as f64, 1 << 53)) {
            Some(bytes) => Ok(Bytes(bytes)),
            None => refuse(text, BYTES),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = BYTE_UNITS.iter().filter(|(_, factor)| self.0.is_multiple_of(*factor));
        let (unit, factor) = exact.max_by_key(|(_, factor)| factor).unwrap_or(&("B", 1));
        f.pad(&match self.0 {
            0 => "0B".to_string(),
            bytes => format!("{}{unit}", bytes / factor),
        })
    }
}

const MILLIS: &str = "a duration with its unit: 500ms, 30s, 5m, 1h30m";

quantity! {
    /// A duration with its unit, exact to a millisecond: `500ms`, `30s`, `1h30m`.
    Millis(u64), schema "String", number: |number| match number {
        0.0 => Ok(Millis(0)),
        _ => refuse(number, MILLIS),
    }
}

const MILLIS_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The largest duration: above it, an `f64` cannot distinguish all milliseconds.
const MILLIS_MAX: u64 = 1 << 53;

impl Millis {
    /// A duration given in seconds.
    pub const fn secs(count: u64) -> Self {
        Millis(count * 1000)
    }
}

impl FromStr for Millis {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut total = 0u64;
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Millis(0));
        }
        let bad = || Error { text: text.into(), expected: MILLIS };
        loop {
            let (number, tail) = split(rest).ok_or_else(bad)?;
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let unit = MILLIS_UNITS.iter().find(|(name, _)| *name == &tail[..end]);
            let part = unit.and_then(|(_, factor)| scale(number, *factor as f64, MILLIS_MAX));
            // Formatted with the largest units, the whole duration must be parseable as one part.
            let sum = part.map(|part| total + part).filter(|sum| *sum <= MILLIS_MAX);
            total = sum.ok_or_else(bad)?;
            rest = &tail[end..];
            if rest.is_empty() {
                return Ok(Millis(total));
            }
        }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut rest = self.0;
        for (unit, factor) in MILLIS_UNITS {
            if rest / factor > 0 {
                text.push_str(&format!("{}{unit}", rest / factor));
                rest %= factor;
            }
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

const SHARE: &str = "a share such as 25% or a count such as 1";

/// A part of a number of instances: a share, or a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "NumberOrText")]
pub enum Share {
    /// In millionths of the whole.
    Millionths(u32),
    /// A number of instances.
    Count(u32),
}

impl Share {
    /// All of it.
    pub const ALL: Share = Share::Millionths(1_000_000);

    /// The share of `whole`, in instances, rounded up; never more than `whole`.
    pub fn ceil_of(self, whole: u32) -> u32 {
        match self {
            Share::Millionths(part) => {
                (u64::from(whole) * u64::from(part)).div_ceil(1_000_000) as u32
            }
            Share::Count(count) => count.min(whole),
        }
    }

    /// `whole` plus the share of `whole`, rounded down.
    pub fn added_to(self, whole: u32) -> u32 {
        match self {
            Share::Millionths(part) => {
                whole.saturating_add((u64::from(whole) * u64::from(part) / 1_000_000) as u32)
            }
            Share::Count(count) => whole.saturating_add(count),
        }
    }
}

impl FromStr for Share {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match split(text) {
            Some((number, "%")) if number <= 100.0 => {
                Ok(Share::Millionths((number * 10_000.0).round() as u32))
            }
            Some((number, "")) if number.fract() == 0.0 && number <= f64::from(u32::MAX) => {
                Ok(Share::Count(number as u32))
            }
            _ => refuse(text, SHARE),
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Scalar::deserialize(deserializer)? {
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Share::Millionths(part) => format!("{}%", f64::from(*part) / 10_000.0),
            Share::Count(count) => count.to_string(),
        })
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z. Written in RFC 3339 with three decimals, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(with = "String")]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The last time that can be formatted, 9999-12-30T22:00:00.000Z.
    pub const MAX: Timestamp = Timestamp(253_402_207_200_000);

    /// This time plus `span`, limited to [`Self::MAX`]: the result is stored and must be readable
    /// again.
    pub fn after(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0).min(Timestamp::MAX.0))
    }

    /// The duration since `earlier`; zero if `earlier` is in the future.
    pub fn since(self, earlier: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl FromStr for Timestamp {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        const EXPECTED: &str = "a time such as 2026-11-21T10:00:00.000Z";
        match text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond) {
            Ok(millis) if (0..=Timestamp::MAX.0 as i64).contains(&millis) => {
                Ok(Timestamp(millis as u64))
            }
            _ => refuse(text, EXPECTED),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0 as i64) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

serialize_as_text!(Bytes, Millis, Share, Timestamp);
