//! The node agent: assignments in, resource drivers out, observations back.
//!
//! [`core`] decides and does nothing else: it is synchronous, total, and free of IO, clock and
//! randomness, so the simulator can drive it. The shell ([`run`]) follows a server, performs what
//! the core wants through [`drivers`], and brings back what comes of it. Instances outlive the
//! agent; [`keeper`] is the small process that stands between plain processes and its death.

pub mod core;
pub mod drivers;
mod environment;
mod options;
mod shell;

pub use drivers::process::{keeper, raise_file_limit};
pub use options::{DockerOptions, Options};
pub use shell::{DiskError, Error, run};
