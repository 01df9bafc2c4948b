//! The history of a simulation as lines of text, for a person who investigates a violation.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::queue::Moment;

/// Maximum number of lines that are kept.
const LINES_MAX: usize = 400;

/// The newest lines of a history, and a fingerprint of all of it.
#[derive(Debug, Default)]
pub(crate) struct History {
    lines: VecDeque<(Moment, String)>,
    fingerprint: DefaultHasher,
    print: Option<fn(&str)>,
}

impl History {
    /// A history that passes each line to `print` as it is added, if given.
    pub(crate) fn new(print: Option<fn(&str)>) -> History {
        History { print, ..History::default() }
    }

    /// Adds a line.
    pub(crate) fn note(&mut self, at: Moment, line: impl fmt::Display) {
        let line = line.to_string();
        (at, &line).hash(&mut self.fingerprint);
        if let Some(print) = self.print {
            print(&dated(&(at, line.clone())));
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((at, line));
    }

    /// A hash of every line that was added.
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
