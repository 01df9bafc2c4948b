//! The node agent: it receives assignments, runs them through drivers, and reports observations.
//!
//! [`core`] makes all decisions. It is synchronous, total, and free of IO, clock and randomness, so
//! that the simulator can run it. The shell ([`run`]) follows a server, performs the effects of the
//! core through [`drivers`], and returns their results as events. Instances outlive the agent: the
//! [`keeper`] is a small supervisor process (a shim) that owns plain processes when the agent ends.

pub mod core;
pub mod drivers;
mod environment;
mod options;
mod shell;

pub use drivers::process::{keeper, take_over_files};
pub use options::{DockerOptions, Options};
pub use shell::{DiskError, Error, run};
