//! Diagnostics of a source, with their positions.

use std::error::Error;
use std::fmt;

use crate::tree::Position;

/// A diagnostic of a source: its position, its cause and a fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The name of the source, as the caller gave it.
    pub source: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The path of keys, such as `health.0.probe.http.port`; empty for the document itself.
    pub key: String,
    /// The cause and the fix.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.source, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl Error for Diagnostic {}

/// The diagnostics of one source, in the order in which they are found.
#[derive(Debug)]
pub struct Diagnostics<'a> {
    source: &'a str,
    list: Vec<Diagnostic>,
}

impl<'a> Diagnostics<'a> {
    /// The maximum number of diagnostics: more are of no use to a reader.
    const MAX: usize = 100;

    /// An empty list for the source of that name.
    pub fn new(source: &'a str) -> Self {
        Self { source, list: Vec::new() }
    }

    /// An empty list for the same source.
    pub fn empty_copy(&self) -> Self {
        Self::new(self.source)
    }

    /// Adds the diagnostics of `other`, up to the limit.
    pub fn append(&mut self, other: Self) {
        self.list.extend(other.list);
        self.list.truncate(Self::MAX);
    }

    /// Whether the limit is reached: further diagnostics are dropped.
    pub fn is_full(&self) -> bool {
        self.list.len() >= Self::MAX
    }

    /// Adds a diagnostic at a position, unless the list is full.
    pub fn add(&mut self, at: Position, key: impl Into<String>, message: impl Into<String>) {
        if !self.is_full() {
            let (key, message) = (key.into(), message.into());
            let source = self.source.into();
            self.list.push(Diagnostic { source, line: at.line, column: at.column, key, message });
        }
    }

    /// The number of diagnostics so far.
    #[expect(clippy::len_without_is_empty, reason = "callers compare with an earlier number")]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// All diagnostics, in the order of the source.
    pub fn into_list(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        self.list
    }
}

/// The known name that a word was probably meant to be, if one is similar.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&word, &name.to_ascii_lowercase());
    let near = known.into_iter().map(|name| (distance(name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + word.len().min(name.len()) / 4).then_some(name)
}

/// The message part `; did you mean `x`?`, or an empty string.
pub fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
