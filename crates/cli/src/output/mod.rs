//! The terminal. Verbs decide the content, this module its appearance.
//!
//! `screen` writes, `table` and `sheet` align, `rows` defines the columns of each kind of object,
//! `tone` the roles of text, `age` formats durations, `progress` shows rollouts live, `error` shows
//! failures, and `excerpt` the position of a diagnostic in a document.

pub(crate) mod age;
pub(crate) mod error;
mod excerpt;
pub(crate) mod progress;
pub(crate) mod rows;
pub(crate) mod screen;
pub(crate) mod sheet;
pub(crate) mod table;
pub(crate) mod tone;

pub(crate) use error::Failure;
pub(crate) use screen::Screen;
