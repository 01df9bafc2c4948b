//! Scenarios: scripts that build a cluster and print its plans.
//!
//! A script is executed line by line. `> ` begins a command, `#` a comment; indented lines are the
//! output of the command before. [`replay`] executes the commands and writes the script with their
//! current output: a script that is unchanged is a test that passes, otherwise the difference shows
//! the change in behaviour. No command reads a clock or a disk: time advances by commands only.
//! `muster lab` executes the same scripts on an empty cluster or on a copy of a real one
//! ([`World::of`]).
//!
//! `help` lists the commands, `command` executes them, `script` reads and writes scripts, `world`
//! is the cluster, and `print` formats it.

mod command;
mod document;
mod error;
mod help;
mod print;
mod script;
mod world;

pub use command::{execute, files_of};
pub use error::Error;
pub use help::{COMMANDS, Known};
pub use script::{Line, replay};
pub use world::World;
