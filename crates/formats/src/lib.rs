//! Documents that people write, translated into the model.
//!
//! [`parse_with`] takes a source (a YAML stream, a JSON document, a list of documents) and gives back
//! documents of the model, or everything that is wrong with it: each [`Fault`] has a line, a
//! column, the path of keys and what would be right. What it accepts is checked in full as far
//! as one document can be checked by itself; what only the whole cluster can tell (a dependency
//! that does not exist) is found later by `State::apply`, and [`Located::fault`] then points at
//! the line all the same.
//!
//! Pure: no IO, no clock, and work bounded by the length of the source however hostile it is.
//! Nothing that is not understood is passed over in silence.
//!
//! Native documents are read by `native`; a foreign system's documents by its adapter, which
//! implements [`Dialect`]. Beneath them `read` parses a source into trees with positions and
//! [`decode`] makes values of trees.

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
