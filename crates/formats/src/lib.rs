//! Documents that people write, translated into the model.
//!
//! [`parse`] takes a source (a YAML stream, a JSON document, a list of documents) and gives back
//! documents of the model, or everything that is wrong with it: each [`Fault`] has a line, a
//! column, the path of keys and what would be right. What it accepts is checked in full as far
//! as one document can be checked by itself; what only the whole cluster can tell (a dependency
//! that does not exist) is found later by `State::apply`, and [`Located::fault`] then points at
//! the line all the same.
//!
//! Pure: no IO, no clock, and work bounded by the length of the source however hostile it is.
//! Nothing that is not understood is passed over in silence.
//!
//! One module for each kind of document (`native`, `marathon`); beneath them `read` makes trees
//! with positions of texts and `decode` makes values of trees.

mod decode;
mod document;
mod fault;
mod json;
pub mod marathon;
mod native;
mod read;
mod tree;

pub use document::{Located, Parsed, parse};
pub use fault::Fault;
pub use native::{schema, to_yaml};
