//! Decodes trees into types with serde, and reports every diagnostic with its position.
//!
//! Serde stops at the first error. Here a value that fails is marked as refused in the tree, and
//! the tree is decoded again without it until there is no new diagnostic. The types need not
//! cooperate, and one run reports all diagnostics of a document. A failure that only follows from a
//! refused value is not reported.
//!
//! In YAML the expected type decides the meaning of a plain scalar: where a string is expected,
//! `1.10` is the string `1.10`. In JSON a string must have quotes.
//!
//! Unknown keys are rejected here, by the names that `deserialize_struct` passes. The types
//! themselves ignore unknown keys, because daemons and the store read the same types and must
//! accept newer objects. A type with `#[serde(flatten)]` passes no names, so a document must not
//! use it.
//!
//! Each error is a [`DecodeError`] and is passed to a [`DiagnosticSink`]: [`Diagnostics`] is the
//! one for Muster's own messages.

pub(crate) mod failure;
mod reader;

use serde::de::DeserializeOwned;

pub use self::failure::{DecodeError, Failure};
use self::reader::Reader;
use crate::diagnostic::Diagnostics;
use crate::tree::{Node, Position, Step, Value, dotted};

/// The maximum number of nodes decoded to find all diagnostics of a document. For a very large
/// document only the first diagnostics are reported.
const WORK_MAX: usize = 2_000_000;

/// Receives the diagnostics of a document.
pub trait DiagnosticSink {
    /// Reports `error` at `path`, whose position is `at`. For a missing key, `path` and `at` are
    /// those of the mapping that lacks it.
    fn report(&mut self, at: Position, path: &[Step], error: &DecodeError);

    /// Whether further diagnostics are of no use, so that decoding stops.
    fn is_full(&self) -> bool {
        false
    }
}

impl DiagnosticSink for Diagnostics<'_> {
    fn report(&mut self, at: Position, path: &[Step], error: &DecodeError) {
        self.add(at, dotted(path), error.to_string());
    }

    fn is_full(&self) -> bool {
        Diagnostics::is_full(self)
    }
}

/// Decodes a document. Its diagnostics are passed to `sink`, and the values at fault are marked as
/// refused in the tree.
pub fn decode<T: DeserializeOwned>(
    node: &mut Node,
    is_json: bool,
    sink: &mut dyn DiagnosticSink,
) -> Option<T> {
    let mut is_valid = true;
    let mut passes_left = (WORK_MAX / node.size()).max(1);
    // Known keys for which an unknown key was probably a typing error: they are not missing.
    let mut intended: Vec<Vec<Step>> = Vec::new();
    loop {
        let failure = match T::deserialize(Reader { node, is_json }) {
            Ok(value) => return is_valid.then_some(value),
            Err(failure) => *failure.0,
        };
        let mut path: Vec<Step> = failure.path.into_iter().rev().collect();
        let Some(failed) = node.find_mut(&path) else {
            sink.report(node.at, &path, &failure.error);
            return None;
        };
        if !failure.error.follows_from_rejections(failed) {
            let at = match failure.key_at {
                Some(at) => at,
                None if failed.is_collection() => node.locate(&dotted(&path)).0,
                None => failed.at,
            };
            let key_of = |path: &[Step], key: &str| [path, &[Step::Key(key.into())]].concat();
            let was_intended = match &failure.error {
                DecodeError::Missing(field) => intended.contains(&key_of(&path, field)),
                _ => false,
            };
            if !was_intended {
                sink.report(at, &path, &failure.error);
            }
            is_valid = false;
            if let DecodeError::Unknown { nearest: Some(nearest), .. } = &failure.error {
                intended.push(key_of(&path[..path.len().saturating_sub(1)], nearest));
            }
        }
        passes_left -= 1;
        if passes_left == 0 || sink.is_full() {
            return None;
        }
        // A node that is already refused fails again where its type accepts no substitute: the
        // collection around it cannot be decoded either.
        loop {
            if path.is_empty() {
                return None;
            }
            let failed = node.find_mut(&path)?;
            if !matches!(failed.value, Value::Refused) {
                failed.value = Value::Refused;
                break;
            }
            path.pop();
        }
    }
}
