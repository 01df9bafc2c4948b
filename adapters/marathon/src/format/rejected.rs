//! Marathon's format for errors in request bodies.

use model::Problem;
use serde_json::{Value, json};

use formats::decode::{DecodeError, DiagnosticSink};
use formats::diagnostic::hint;
use formats::tree::{Position, Step};

/// The error response for a request body that is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// The HTTP status of the response.
    pub status: u16,
    /// The summary of the error.
    pub message: String,
    /// The details, if there are any.
    pub details: Details,
}

/// The details of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Details {
    /// No details.
    None,
    /// The message of the JSON parser.
    Text(String),
    /// Errors by path, such as `/upgradeStrategy/minimumHealthCapacity`.
    Paths(Vec<(String, String)>),
}

/// A location as `/a(0)/b`, which is Marathon's format for locations in a body.
fn path(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("({index})")),
            Step::Key(key) => {
                path.push('/');
                path.push_str(key);
            }
        }
    }
    if path.is_empty() { "/".into() } else { path }
}

/// Splits a key such as `a.0.b` into steps.
fn steps(key: &str) -> Vec<Step> {
    let step = |step: &str| match step.parse() {
        Ok(index) => Step::Index(index),
        Err(_) => Step::Key(step.into()),
    };
    key.split('.').filter(|step| !step.is_empty()).map(step).collect()
}

/// Collects the errors of a body.
#[derive(Default)]
pub(super) struct Listener {
    /// The location of the decoded part in the body.
    within: Vec<Step>,
    /// Values of wrong types. If there are any, the response contains only these.
    mistyped: Vec<(String, String)>,
    /// Values of the right types that are out of range or malformed.
    invalid: Vec<(String, String)>,
}

impl Listener {
    /// Creates a listener for a part of a larger body, at the location `within`.
    pub(super) fn within(steps: &[Step]) -> Listener {
        Listener { within: steps.to_vec(), ..Listener::default() }
    }

    fn path(&self, steps: &[Step]) -> String {
        path(&[&self.within, steps].concat())
    }

    /// Builds the response from the collected errors and further `problems`.
    pub(super) fn rejected(mut self, problems: Vec<Problem>) -> Rejected {
        for Problem { key, message } in problems {
            self.invalid.push((self.path(&steps(&key)), message));
        }
        match self.mistyped.is_empty() {
            true => Rejected::invalid(self.invalid),
            false => Rejected::mistyped(self.mistyped),
        }
    }
}

impl DiagnosticSink for Listener {
    /// Uses the messages of play-json, which Marathon uses and clients know.
    fn report(&mut self, _at: Position, steps: &[Step], cause: &DecodeError) {
        let at = self.path(steps);
        let what = match cause {
            DecodeError::Missing(key) => {
                let at = self.path(&[steps, &[Step::Key((*key).into())]].concat());
                return self.mistyped.push((at, "error.path.missing".into()));
            }
            DecodeError::Unknown { nearest, .. } => {
                format!("unknown field{}", hint(nearest.as_deref()))
            }
            DecodeError::Type { expected, is_number, .. } => {
                expected_words(expected, *is_number).into()
            }
            DecodeError::Variant(_) => "error.unknown.enum.literal".into(),
            DecodeError::Other(message) => return self.invalid.push((at, message.clone())),
        };
        self.mistyped.push((at, what));
    }
}

/// Translates a description of the expected type from Serde's messages to those of play-json.
fn expected_words(expected: &str, is_number: bool) -> &'static str {
    match expected {
        "a string" => "error.expected.jsstring",
        "a boolean" => "error.expected.jsboolean",
        "u16" | "u32" if is_number => "error.expected.int",
        "u16" | "u32" | "f64" => "error.expected.jsnumber",
        "a map" => "error.expected.jsobject",
        words if words.starts_with("struct ") => "error.expected.jsobject",
        "a sequence" | "an empty array" => "error.expected.jsarray",
        _ => "error.unknown.enum.literal",
    }
}

impl Rejected {
    /// The body is not valid JSON.
    pub(super) fn unreadable(error: &serde_json::Error) -> Rejected {
        let details = Details::Text(error.to_string());
        Rejected { status: 400, message: "Invalid JSON".into(), details }
    }

    fn mistyped(wrong: Vec<(String, String)>) -> Rejected {
        let details = Details::Paths(wrong);
        Rejected { status: 422, message: "Invalid JSON".into(), details }
    }

    fn invalid(wrong: Vec<(String, String)>) -> Rejected {
        let details = Details::Paths(wrong);
        Rejected { status: 422, message: "Object is not valid".into(), details }
    }

    /// A value has a wrong type.
    pub(super) fn type_at(steps: &[Step], what: &str) -> Rejected {
        Rejected::mistyped(vec![(path(steps), what.into())])
    }

    /// A value is invalid.
    pub(super) fn value_at(steps: &[Step], what: impl Into<String>) -> Rejected {
        Rejected::invalid(vec![(path(steps), what.into())])
    }

    /// An error that has a message but no location in the body.
    pub(super) fn with_message(message: impl Into<String>) -> Rejected {
        Rejected { status: 422, message: message.into(), details: Details::None }
    }

    /// The body of the response, as JSON.
    pub fn body(&self) -> Value {
        match &self.details {
            Details::None => json!({ "message": self.message }),
            Details::Text(text) => json!({ "message": self.message, "details": text }),
            Details::Paths(paths) => {
                let mut details: Vec<(&str, Vec<&str>)> = Vec::new();
                for (path, what) in paths {
                    match details.iter_mut().find(|(known, _)| known == path) {
                        Some((_, errors)) => errors.push(what),
                        None => details.push((path, vec![what])),
                    }
                }
                let detail = |(path, errors)| json!({ "path": path, "errors": errors });
                let details: Vec<Value> = details.into_iter().map(detail).collect();
                json!({ "message": self.message, "details": details })
            }
        }
    }
}
