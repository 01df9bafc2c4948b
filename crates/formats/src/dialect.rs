//! Dialects: how documents of foreign systems are recognised, read, and pointed at.

use std::fmt::Debug;

use model::Document;

use crate::fault::Faults;
use crate::tree::{Node, Position};

/// The documents of a foreign system. Implementations are pure and hold no state.
pub trait Dialect: Debug + Sync {
    /// The kinds of documents and the keys that they are recognised by, for messages, such as
    /// "an app `id`".
    fn kinds(&self) -> &'static str;

    /// Whether a document that is not a native one belongs to the system.
    fn reads(&self, tree: &Node) -> bool;

    /// Translates a document. Returns `None` only after it has added a fault.
    fn read(&self, tree: &Node, is_json: bool, faults: &mut Faults<'_>) -> Option<Document>;

    /// The position of what the model calls `key`, and the document's own name for it. An empty
    /// name stands for the whole document.
    fn locate(&self, tree: &Node, key: &str) -> (Position, String);
}
