//! Dialects: recognition and translation of foreign documents, and positions in them.

use std::fmt::Debug;

use model::Document;

use crate::diagnostic::Diagnostics;
use crate::tree::{Node, Position};

/// The documents of a foreign system. Implementations are pure and hold no state.
pub trait Dialect: Debug + Sync {
    /// The kinds of documents and the keys that identify them, for messages, such as "an app `id`".
    fn kinds(&self) -> &'static str;

    /// Whether a document that is not a native one belongs to the system.
    fn reads(&self, tree: &Node) -> bool;

    /// Translates a document. Returns `None` only after it has added a diagnostic.
    fn read(
        &self,
        tree: &Node,
        is_json: bool,
        diagnostics: &mut Diagnostics<'_>,
    ) -> Option<Document>;

    /// The position of the model's `key`, and the name of that key in the document. An empty name
    /// stands for the whole document.
    fn locate(&self, tree: &Node, key: &str) -> (Position, String);
}
