//! Translates documents of users into the model.
//!
//! [`parse_with`] takes a source (a YAML stream, a JSON document, a list of documents) and returns
//! documents of the model, or all faults of the source: each [`Fault`] has a line, a column, the
//! path of keys, the cause and the fix. Accepted documents are valid by themselves. Faults that
//! depend on the cluster (a dependency that does not exist) are found later by `State::apply`, and
//! [`Located::fault`] gives them a position too.
//!
//! Pure: no IO and no clock. Work is bounded by the length of the source, also for hostile input.
//! Content that is not understood is never ignored.
//!
//! `native` reads native documents; an adapter reads the documents of its foreign system and
//! implements [`Dialect`]. Below them, `read` parses a source into trees with positions, and
//! [`decode`] converts trees into values.

pub mod decode;
mod dialect;
mod document;
pub mod fault;
pub mod json;
mod native;
mod read;
pub mod tree;

pub use dialect::Dialect;
pub use document::{Located, Parsed, parse, parse_with};
pub use fault::Fault;
pub use native::{schema, to_yaml};
