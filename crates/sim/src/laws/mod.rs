//! What must hold. Most of it is looked at whenever it may have changed; [`rest`] once nothing
//! breaks any more.
//!
//! `written`: what was acknowledged. `change`: what one batch may do. `traffic`: what gateways are
//! told, and when an instance may be stopped. `forward`: what only ever goes forward.

mod change;
mod forward;
mod rest;
mod traffic;
mod written;

use std::collections::{BTreeMap, BTreeSet};

use model::{InstanceId, NodeId, Phase};

use crate::queue::Moment;
use crate::world::World;

/// A law that was broken.
#[derive(Debug, Clone)]
pub(crate) struct Breach {
    pub(crate) law: &'static str,
    pub(crate) how: String,
    pub(crate) at: Moment,
}

/// What is remembered to judge by.
#[derive(Debug, Default)]
pub(crate) struct Laws {
    pub(crate) breach: Option<Breach>,
    /// Everything is as it should be, and has been looked at.
    pub(crate) at_rest: bool,
    /// When it became calm.
    pub(crate) calm_at: Moment,
    /// Requests that were served.
    pub(crate) requests: u64,
    /// Instances that were ready at some time, as their machine knows.
    pub(crate) ever_ready: BTreeSet<InstanceId>,
    /// The last numbers of what only rises.
    pub(crate) generation: u64,
    pub(crate) table: u64,
    pub(crate) event: u64,
    pub(crate) phases: BTreeMap<(NodeId, InstanceId), (u32, Phase)>,
    pub(crate) epoch: u64,
}

impl World {
    /// A law is broken: the first time counts.
    pub(crate) fn breach(&mut self, law: &'static str, how: String) {
        let at = self.now();
        self.history.note(at, format_args!("BROKEN {law}: {how}"));
        self.laws.breach.get_or_insert(Breach { law, how, at });
    }
}
