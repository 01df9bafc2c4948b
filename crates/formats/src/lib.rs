//! Translates documents of users into the model.
//!
//! [`parse_with`] takes a source (a YAML stream, a JSON document, a list of documents) and returns
//! documents of the model, or all diagnostics of the source: each [`Diagnostic`] has a line, a
//! column, the path of keys, the cause and the fix. Accepted documents are valid by themselves.
//! Diagnostics that depend on the cluster (a dependency that does not exist) are found later by
//! `State::apply`, and [`Located::diagnostic`] gives them a position too.
//!
//! Pure: no IO and no clock. Work is bounded by the length of the source, also for hostile input.
//! Content that is not understood is never ignored.
//!
//! `native` reads native documents; an adapter reads the documents of its foreign system and
//! implements [`Dialect`]. Below them, `read` parses a source into trees with positions, and
//! [`decode`] converts trees into values.

pub mod decode;
pub mod diagnostic;
mod dialect;
mod document;
pub mod json;
mod native;
mod read;
pub mod tree;

pub use diagnostic::Diagnostic;
pub use dialect::Dialect;
pub use document::{Located, Parsed, parse, parse_with};
pub use native::{schema, to_yaml};
