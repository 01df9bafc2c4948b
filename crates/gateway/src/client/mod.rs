//! The side of the clients: the state of a connection, and how hyper serves it.

pub(crate) mod body;
pub(crate) mod discard;
pub(crate) mod output;
pub(crate) mod serve;
mod socket;
pub(crate) mod state;
