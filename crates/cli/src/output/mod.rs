//! The terminal: what is shown, and how. Verbs decide what to say, this module how it looks.
//!
//! `screen` writes, `table` and `sheet` align, `rows` says which columns things have, `age` puts
//! time into words, `progress` shows rollouts live, `error` shows what went wrong, and
//! `excerpt` where in a document.

pub(crate) mod age;
pub(crate) mod error;
mod excerpt;
pub(crate) mod progress;
pub(crate) mod rows;
pub(crate) mod screen;
pub(crate) mod sheet;
pub(crate) mod table;

pub(crate) use error::Failure;
pub(crate) use screen::Screen;
