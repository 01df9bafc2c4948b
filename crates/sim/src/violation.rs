//! A violated invariant.

/// An invariant, by its name, and how it was violated.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) detail: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, detail: String) -> Violation {
        Violation { invariant, detail }
    }
}
