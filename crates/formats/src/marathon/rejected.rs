//! Why a body was not taken, as Marathon says it.

use serde_json::{Value, json};

use crate::fault::Fault;

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong in general.
    pub message: String,
    /// What is wrong where.
    pub details: Details,
}

/// What is wrong where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Details {
    /// Nothing more is to be said.
    None,
    /// What a reader of JSON says.
    Text(String),
    /// Paths such as `/upgradeStrategy/minimumHealthCapacity`, each with what is wrong there.
    Paths(Vec<(String, String)>),
}

/// `a.0.b` as `/a(0)/b`, the way Marathon's validation writes places.
fn path(key: &str) -> String {
    let mut path = String::new();
    for step in key.split('.') {
        match step.parse::<usize>() {
            Ok(index) => path.push_str(&format!("({index})")),
            Err(_) => {
                path.push('/');
                path.push_str(step);
            }
        }
    }
    path
}

impl Rejected {
    /// A body that is no JSON.
    pub(super) fn unreadable(error: &serde_json::Error) -> Rejected {
        let details = Details::Text(error.to_string());
        Rejected { status: 400, message: "Invalid JSON".into(), details }
    }

    /// Values of wrong types, and keys that nobody knows.
    pub(super) fn mistyped(wrong: Vec<(String, String)>) -> Rejected {
        let wrong = wrong.into_iter().map(|(key, what)| (path(&key), what)).collect();
        let details = Details::Paths(wrong);
        Rejected { status: 422, message: "Invalid JSON".into(), details }
    }

    /// Values that cannot be.
    pub(super) fn invalid(wrong: Vec<(String, String)>) -> Rejected {
        let wrong = wrong.into_iter().map(|(key, what)| (path(&key), what)).collect();
        let details = Details::Paths(wrong);
        Rejected { status: 422, message: "Object is not valid".into(), details }
    }

    /// What cannot be asked for like this.
    pub(super) fn refused(message: impl Into<String>) -> Rejected {
        Rejected { status: 422, message: message.into(), details: Details::None }
    }

    pub(super) fn faults(faults: Vec<Fault>) -> Rejected {
        Rejected::invalid(faults.into_iter().map(|fault| (fault.key, fault.message)).collect())
    }

    /// The same about a part of a larger body.
    pub(super) fn within(mut self, key: &str) -> Rejected {
        if let Details::Paths(paths) = &mut self.details {
            for (inner, _) in paths {
                *inner = path(key) + inner;
            }
        }
        self
    }

    /// What is answered.
    pub fn body(&self) -> Value {
        match &self.details {
            Details::None => json!({ "message": self.message }),
            Details::Text(text) => json!({ "message": self.message, "details": text }),
            Details::Paths(paths) => {
                let detail =
                    |(path, what): &(String, String)| json!({ "path": path, "errors": [what] });
                let details: Vec<Value> = paths.iter().map(detail).collect();
                json!({ "message": self.message, "details": details })
            }
        }
    }
}
