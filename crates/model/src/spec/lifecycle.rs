//! How an instance is started again after it exited, and how it is stopped.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::unit::Millis;

/// When an instance that ended is started again. The first restart waits `first`; each further
/// consecutive one waits `backoff`, then `factor` times more, up to `max`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Restart {
    /// Before the first restart.
    pub first: Millis,
    /// Before the second consecutive restart.
    pub backoff: Millis,
    /// By how much each further wait grows.
    pub factor: f64,
    /// The longest wait.
    pub max: Millis,
    /// A run of this length resets the count of failures.
    pub reset_after: Millis,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            first: Millis(0),
            backoff: Millis::secs(1),
            factor: 1.15,
            max: Millis::secs(300),
            reset_after: Millis::secs(30),
        }
    }
}

impl Restart {
    /// The wait before the next start after `failures` consecutive failures (from 1).
    pub fn delay(&self, failures: u32) -> Millis {
        match failures {
            0 | 1 => self.first,
            _ => {
                let exponent = i32::try_from(failures - 2).unwrap_or(i32::MAX);
                // Not infinite: a wait of 0 must remain 0 however often it grows.
                let growth = self.factor.powi(exponent).min(f64::MAX);
                let delay = self.backoff.0 as f64 * growth;
                Millis((delay.min(self.max.0 as f64)) as u64)
            }
        }
    }
}

/// How an instance is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Stop {
    /// The signal it is sent.
    pub signal: Signal,
    /// It is killed when it has not ended after this long.
    pub grace: Millis,
    /// The maximum time for gateways to finish its requests before it is stopped.
    pub drain: Millis,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::Term, grace: Millis::secs(10), drain: Millis::secs(30) }
    }
}

/// A signal that asks a process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Signal {
    /// SIGTERM.
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// SIGINT.
    #[serde(rename = "SIGINT")]
    Int,
    /// SIGQUIT.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// SIGHUP.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// SIGUSR1.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// SIGUSR2.
    #[serde(rename = "SIGUSR2")]
    Usr2,
}

/// How one resource is stopped: [`Stop`] without `drain`, which applies to the instance as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct StopSignal {
    /// The signal it is sent.
    pub signal: Signal,
    /// It is killed when it has not ended after this long.
    pub grace: Millis,
}

impl Default for StopSignal {
    fn default() -> Self {
        StopSignal::from(&Stop::default())
    }
}

impl From<&Stop> for StopSignal {
    fn from(stop: &Stop) -> Self {
        Self { signal: stop.signal, grace: stop.grace }
    }
}
