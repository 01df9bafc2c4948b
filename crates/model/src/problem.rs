//! One violation of the rules for documents, at its position in the document.

use serde::{Deserialize, Serialize};

/// One violation in a document: its position, its cause and a fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The path of keys to the value, such as `health.0.probe.http.port`.
    pub key: String,
    /// The cause and the fix.
    pub message: String,
}

impl Problem {
    /// A violation at `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}
