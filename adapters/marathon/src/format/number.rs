//! Numbers in Marathon's format: integral values are written without a fraction.

use model::Millis;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A floating-point number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Number(pub(super) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            true => serializer.serialize_i64(self.0 as i64),
            false => serializer.serialize_f64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Number)
    }
}

/// A time in seconds. Unlike Marathon, Muster accepts fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seconds(pub(super) Millis);

/// The maximum number of seconds: longer than any cluster runs, and safe from overflow in
/// milliseconds.
const MAX: u64 = 9_000_000_000_000;

impl Seconds {
    pub(super) const fn whole(count: u64) -> Self {
        Seconds(Millis::secs(count))
    }

    /// A time rounded up to whole seconds, since clients cannot parse fractions.
    pub(super) fn at_least(time: Millis) -> Self {
        Seconds::whole(time.0.div_ceil(1000).min(MAX))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Number(self.0.0 as f64 / 1000.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if (0.0..=MAX as f64).contains(&seconds) {
            Ok(Seconds(Millis((seconds * 1000.0).round() as u64)))
        } else {
            Err(D::Error::custom(format!("got {seconds}, expected 0 or more")))
        }
    }
}
