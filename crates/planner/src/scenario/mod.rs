//! Scenarios: a cluster that is made up line by line, and the plans that come of it.
//!
//! A script is read a line at a time. `> ` begins a command, `#` a comment; what is indented is
//! what the command before printed. [`replay`] carries out the commands and writes the script
//! again with what they print now, so that a script that has not changed is a test that passes,
//! and a script that has shows what changed. Nothing here reads a clock or a disk: time passes
//! when a line says so. The same scripts are played by `muster lab`, from an empty cluster or from
//! what a server knows of a real one ([`World::of`]).
//!
//! `help` lists the commands, `command` has what they do, `script` reads and writes scripts,
//! `world` is the cluster, `print` how it is shown.

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
