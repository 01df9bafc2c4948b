//! What has happened, in words: the newest lines, for whoever wants to know how a law was broken.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::queue::Moment;

/// So many lines are kept.
const KEPT: usize = 400;

/// The newest lines of a history, and a fingerprint of all of it.
#[derive(Debug, Default)]
pub(crate) struct History {
    lines: VecDeque<(Moment, String)>,
    fingerprint: DefaultHasher,
    tell: Option<fn(&str)>,
}

impl History {
    /// A history that is told as it happens, or not.
    pub(crate) fn new(tell: Option<fn(&str)>) -> History {
        History { tell, ..History::default() }
    }

    /// Something happens.
    pub(crate) fn note(&mut self, at: Moment, line: impl fmt::Display) {
        let line = line.to_string();
        (at, &line).hash(&mut self.fingerprint);
        if let Some(tell) = self.tell {
            tell(&dated(&(at, line.clone())));
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back((at, line));
    }

    /// Equal for two histories only if they are.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint.finish()
    }

    /// The newest lines with their times in seconds.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().map(dated).collect()
    }
}

/// A line with its time in seconds.
fn dated((at, line): &(Moment, String)) -> String {
    format!("{:>9.3}  {line}", *at as f64 / 1000.0)
}
