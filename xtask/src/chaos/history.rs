//! The history of a run, with times since its start: printed after a violation.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The lines of a run. Shared by all its threads.
pub(super) struct History {
    began: Instant,
    lines: Mutex<Vec<(Duration, String)>>,
}

impl History {
    /// An empty one.
    pub(super) fn begin() -> History {
        History { began: Instant::now(), lines: Mutex::default() }
    }

    /// Adds a line.
    pub(super) fn note(&self, line: impl fmt::Display) {
        let at = self.began.elapsed();
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((at, line.to_string()));
    }

    /// A point in time, relative to the start of the history.
    pub(super) fn time_of(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    /// All lines.
    pub(super) fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|(at, line)| shown(*at, line) + "\n").collect()
    }
}

fn shown(at: Duration, line: &impl fmt::Display) -> String {
    format!("{:>8.3}  {line}", at.as_secs_f64())
}
