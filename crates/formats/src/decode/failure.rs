//! Why a value cannot be decoded: serde's errors as diagnostics with a kind, in the terms of
//! documents.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

use crate::diagnostic::{hint, nearest};
use crate::tree::{Node, Plain, Position, Step, Value, plain};

/// Former names of keys and their successors. The types accept both, because stores contain both; a
/// document must use the successor.
pub(crate) const RENAMED: [(&str, &str); 3] =
    [("max_over", "max_surge"), ("settle", "min_ready"), ("surplus", "scale_down")];

/// The successor of a key, if the type with `fields` accepts the key only as a former name.
pub(super) fn successor(key: &str, fields: &[&str]) -> Option<&'static str> {
    let (_, new) = RENAMED.iter().find(|(old, _)| *old == key)?;
    fields.contains(new).then_some(*new)
}

/// Why a value cannot be decoded, and its path below the decoded node.
#[derive(Debug)]
pub struct Failure(pub(super) Box<FailureParts>);

#[derive(Debug)]
pub(super) struct FailureParts {
    pub(super) error: DecodeError,
    /// From the innermost step outwards.
    pub(super) path: Vec<Step>,
    /// The position of the key, if the key is at fault and not its value.
    pub(super) key_at: Option<Position>,
}

/// The kinds of errors of a value.
#[derive(Debug)]
pub enum DecodeError {
    /// A required key is missing.
    Missing(&'static str),
    /// An unknown key, which is the last step of the path.
    Unknown {
        /// The message for users.
        message: String,
        /// The known key that was probably intended.
        nearest: Option<String>,
    },
    /// Another type than the expected one, or a number of another kind.
    Type {
        /// The expected type, as serde describes it.
        expected: String,
        /// Whether a number was found.
        is_number: bool,
        /// The message for users.
        message: String,
    },
    /// A string that is none of the allowed ones.
    Variant(String),
    /// The expected type with an invalid value.
    Other(String),
}

impl Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Missing(field) => write!(f, "the key `{field}` is missing"),
            DecodeError::Unknown { message, .. }
            | DecodeError::Type { message, .. }
            | DecodeError::Variant(message)
            | DecodeError::Other(message) => f.write_str(message),
        }
    }
}

impl DecodeError {
    /// Whether a node fails only because a part of it was refused and reported before.
    pub(super) fn follows_from_rejections(&self, node: &Node) -> bool {
        let refused = |node: &Node| matches!(node.value, Value::Refused);
        match (self, &node.value) {
            (DecodeError::Unknown { .. }, _) => false,
            (DecodeError::Missing(field), _) => node.get(field).is_some_and(refused),
            (_, Value::List(items)) => items.iter().any(refused),
            (_, Value::Map(entries)) => entries.iter().any(|e| refused(&e.node)),
            _ => refused(node),
        }
    }
}

impl Failure {
    fn new(error: DecodeError) -> Self {
        Failure(Box::new(FailureParts { error, path: Vec::new(), key_at: None }))
    }

    pub(super) fn other(message: impl Into<String>) -> Self {
        Self::new(DecodeError::Other(message.into()))
    }

    pub(super) fn renamed(old: &str, new: &str) -> Self {
        let message = format!("`{old}` is now called `{new}`");
        Self::new(DecodeError::Unknown { message, nearest: Some(new.into()) })
    }

    pub(super) fn inside(mut self, step: Step) -> Self {
        self.0.path.push(step);
        self
    }

    pub(super) fn at_key(mut self, key: &str, at: Position) -> Self {
        self.0.key_at = Some(at);
        self.inside(Step::Key(key.into()))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.error.fmt(f)
    }
}

impl std::error::Error for Failure {}

pub(super) fn listed(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".into(),
    }
}

impl de::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        Self::other(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let advice = match (&found, expected.as_str()) {
            (
                Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_),
                "a string",
            )
            | (Unexpected::Bool(_), "a string") => ": put it in quotes".into(),
            (Unexpected::Str(text), "u8" | "u16" | "u32" | "u64" | "f64")
                if !matches!(plain(text), Plain::Text(_)) =>
            {
                ": leave the quotes out".into()
            }
            (Unexpected::Float(number), "u8" | "u16" | "u32" | "u64")
                if number.fract() == 0.0 && (0.0..1e15).contains(number) =>
            {
                format!(": write it as {number}")
            }
            _ => String::new(),
        };
        let is_number = matches!(found, Unexpected::Float(_));
        let message = format!(
            "expected {}, found {}{advice}",
            describe_expected(&expected),
            describe_found(found)
        );
        Self::new(DecodeError::Type { expected, is_number, message })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        Self::other(format!(
            "expected {}, found {}",
            describe_expected(&expected),
            describe_found(found)
        ))
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Self::other(format!("expected {expected}, found {len}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let nearest = nearest(variant, expected.iter().copied());
        let message = format!("`{variant}` is not {}{}", listed(expected), hint(nearest));
        Self::new(DecodeError::Variant(message))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let names = expected.iter().copied().filter(|name| successor(name, expected).is_none());
        let nearest = nearest(field, names.clone());
        let message = match nearest {
            Some(_) => format!("unknown key `{field}`{}", hint(nearest)),
            None => {
                let names = listed(&names.collect::<Vec<_>>());
                format!("unknown key `{field}`: expected {names}")
            }
        };
        Self::new(DecodeError::Unknown { message, nearest: nearest.map(String::from) })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(DecodeError::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::other(format!("the key `{field}` is given twice"))
    }
}

/// Serde's description of an expected type, in the terms of documents.
fn describe_expected(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" | "u64" => "a whole number, 0 or more".into(),
        "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a mapping".into(),
        words if words.starts_with("struct ") => "a mapping".into(),
        words => words.into(),
    }
}

pub(super) fn describe_found(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        // With a decimal point also where the fraction is zero, as it was written.
        Unexpected::Float(number) => format!("{number:?}"),
        Unexpected::Str(text) => format!("the string `{}`", shortened(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a mapping".into(),
        other => other.to_string(),
    }
}

/// The start of a string, long enough to recognize it.
fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(60).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}
