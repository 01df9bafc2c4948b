//! The Docker driver against real daemons: the one of the machine, and private ones that are
//! killed and stopped.
//!
//! Where no daemon answers, these tests say so and pass, unless `MUSTER_NEED_DOCKER` is set. The
//! private daemons need root.

// The name by which everyone else knows it.
extern crate muster_agent as agent;

#[cfg(test)]
mod away;
#[cfg(test)]
mod begin;
#[cfg(test)]
mod end;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod read;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod speed;
