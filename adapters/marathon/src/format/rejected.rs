//! Why a body was not taken, as Marathon says it.

use model::Problem;
use serde_json::{Value, json};

use formats::decode::{Listen, Trouble};
use formats::fault::hint;
use formats::tree::{Position, Step};

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

/// Steps as `/a(0)/b`, the way Marathon writes places in a body.
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

/// The steps of a key such as `a.0.b`.
fn steps(key: &str) -> Vec<Step> {
    let step = |step: &str| match step.parse() {
        Ok(index) => Step::Index(index),
        Err(_) => Step::Key(step.into()),
    };
    key.split('.').filter(|step| !step.is_empty()).map(step).collect()
}

/// Hears what is wrong with a body.
#[derive(Default)]
pub(super) struct Listener {
    /// Where the body is a part of a larger one.
    within: Vec<Step>,
    /// Values of wrong types: a reader of JSON gives up on them.
    mistyped: Vec<(String, String)>,
    /// Values of the right types that cannot be.
    invalid: Vec<(String, String)>,
}

impl Listener {
    /// Hears of a part of a larger body.
    pub(super) fn within(steps: &[Step]) -> Listener {
        Listener { within: steps.to_vec(), ..Listener::default() }
    }

    fn path(&self, steps: &[Step]) -> String {
        path(&[&self.within, steps].concat())
    }

    /// Why the body is not taken, with what was found besides.
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

impl Listen for Listener {
    /// The words are those of the reader of JSON that Marathon uses.
    fn hear(&mut self, _at: Position, steps: &[Step], trouble: &Trouble) {
        let at = self.path(steps);
        let what = match trouble {
            Trouble::Missing(key) => {
                let at = self.path(&[steps, &[Step::Key((*key).into())]].concat());
                return self.mistyped.push((at, "error.path.missing".into()));
            }
            Trouble::Unknown { nearest, .. } => {
                format!("unknown field{}", hint(nearest.as_deref()))
            }
            Trouble::Type { expected, is_number, .. } => {
                expected_words(expected, *is_number).into()
            }
            Trouble::Variant(_) => "error.unknown.enum.literal".into(),
            Trouble::Other(message) => return self.invalid.push((at, message.clone())),
        };
        self.mistyped.push((at, what));
    }
}

/// Serde's words for what it expected in those of Marathon.
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
    /// A body that is no JSON.
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

    /// A value of a wrong type.
    pub(super) fn type_at(steps: &[Step], what: &str) -> Rejected {
        Rejected::mistyped(vec![(path(steps), what.into())])
    }

    /// A value that cannot be.
    pub(super) fn value_at(steps: &[Step], what: impl Into<String>) -> Rejected {
        Rejected::invalid(vec![(path(steps), what.into())])
    }

    /// What cannot be asked for like this.
    pub(super) fn refused(message: impl Into<String>) -> Rejected {
        Rejected { status: 422, message: message.into(), details: Details::None }
    }

    /// What is answered.
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
