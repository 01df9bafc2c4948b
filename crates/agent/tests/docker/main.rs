//! The Docker driver against real daemons: the one of the machine, and private ones that are killed
//! and suspended.
//!
//! If no daemon responds, these tests print a note and pass, unless `MUSTER_NEED_DOCKER` is set.
//! The private daemons need root.

// The name by which the other crates import it.
extern crate muster_agent as agent;

#[cfg(test)]
mod begin;
#[cfg(test)]
mod end;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod read;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod unavailable;
