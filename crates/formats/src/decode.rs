//! Decodes trees into types with serde, and reports every fault with its position.
//!
//! Serde stops at the first error. Here a value that fails is marked as refused in the tree, and
//! the tree is decoded again without it until there is no new fault. The types need not cooperate,
//! and one run reports all faults of a document. A failure that only follows from a refused value
//! is not reported.
//!
//! In YAML the expected type decides the meaning of a plain scalar: where a string is expected,
//! `1.10` is the string `1.10`. In JSON a string must have quotes.
//!
//! Unknown keys are rejected here, by the names that `deserialize_struct` passes. The types
//! themselves ignore unknown keys, because daemons and the store read the same types and must
//! accept newer objects. A type with `#[serde(flatten)]` passes no names, so a document must not
//! use it.
//!
//! A fault is a [`Trouble`], which is passed to a [`Listen`]: [`Faults`] is the one for Muster's
//! own messages.

pub(crate) mod failure;
mod reader;

use serde::de::DeserializeOwned;

pub use self::failure::{Failure, Trouble};
use self::reader::Reader;
use crate::fault::Faults;
use crate::tree::{Node, Position, Step, Value, dotted};

/// The maximum number of nodes decoded to find all faults of a document. For a very large document
/// only the first faults are reported.
const WORK_MAX: usize = 2_000_000;

/// Receives the faults of a document.
pub trait Listen {
    /// Reports `trouble` at `path`, whose position is `at`. For a missing key, `path` and `at` are
    /// those of the mapping that lacks it.
    fn hear(&mut self, at: Position, path: &[Step], trouble: &Trouble);

    /// Whether further faults are of no use, so that decoding stops.
    fn is_full(&self) -> bool {
        false
    }
}

impl Listen for Faults<'_> {
    fn hear(&mut self, at: Position, path: &[Step], trouble: &Trouble) {
        self.add(at, dotted(path), trouble.to_string());
    }

    fn is_full(&self) -> bool {
        Faults::is_full(self)
    }
}

/// Decodes a document. Its faults are passed to `listener`, and the values at fault are marked as
/// refused in the tree.
pub fn decode<T: DeserializeOwned>(
    node: &mut Node,
    is_json: bool,
    listener: &mut dyn Listen,
) -> Option<T> {
    let mut is_sound = true;
    let mut passes_left = (WORK_MAX / node.size()).max(1);
    // Known keys for which an unknown key was probably a typing error: they are not missing.
    let mut meant: Vec<Vec<Step>> = Vec::new();
    loop {
        let failure = match T::deserialize(Reader { node, is_json }) {
            Ok(value) => return is_sound.then_some(value),
            Err(failure) => *failure.0,
        };
        let mut path: Vec<Step> = failure.path.into_iter().rev().collect();
        let Some(failed) = node.find_mut(&path) else {
            listener.hear(node.at, &path, &failure.trouble);
            return None;
        };
        if !failure.trouble.follows_from_refusals(failed) {
            let at = match failure.key_at {
                Some(at) => at,
                None if failed.is_collection() => node.locate(&dotted(&path)).0,
                None => failed.at,
            };
            let key_of = |path: &[Step], key: &str| [path, &[Step::Key(key.into())]].concat();
            let was_meant = match &failure.trouble {
                Trouble::Missing(field) => meant.contains(&key_of(&path, field)),
                _ => false,
            };
            if !was_meant {
                listener.hear(at, &path, &failure.trouble);
            }
            is_sound = false;
            if let Trouble::Unknown { nearest: Some(nearest), .. } = &failure.trouble {
                meant.push(key_of(&path[..path.len().saturating_sub(1)], nearest));
            }
        }
        passes_left -= 1;
        if passes_left == 0 || listener.is_full() {
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
