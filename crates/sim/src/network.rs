//! What is between the processes: delays, losses, partitions one way or both.

use std::collections::BTreeSet;

use model::NodeId;

/// Where a process sits. Users sit beside the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The machine of the server.
    Server,
    /// A machine that runs instances, or a gateway, or both.
    Node(NodeId),
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Directions in which nothing passes.
    cuts: BTreeSet<(Place, Place)>,
    /// What everything takes longer now, at most.
    pub(crate) slow_ms: u64,
    /// One message in so many is lost; 0: none.
    pub(crate) loss: u64,
    /// One message in so many comes twice; 0: none.
    pub(crate) echo: u64,
}

impl Network {
    /// Nothing passes from one place to another any more.
    pub(crate) fn cut(&mut self, from: Place, to: Place) {
        self.cuts.insert((from, to));
    }

    /// It passes again.
    pub(crate) fn mend(&mut self, from: &Place, to: &Place) {
        self.cuts.remove(&(from.clone(), to.clone()));
    }

    /// Everything is as it should be.
    pub(crate) fn mend_all(&mut self) {
        *self = Network::default();
    }

    pub(crate) fn is_cut(&self, from: &Place, to: &Place) -> bool {
        self.cuts.contains(&(from.clone(), to.clone()))
    }

    /// How long the next message takes.
    pub(crate) fn delay(&self, rng: &mut fastrand::Rng) -> u64 {
        rng.u64(0..3) + if self.slow_ms > 0 { rng.u64(0..=self.slow_ms) } else { 0 }
    }

    /// Whether the next message is lost.
    pub(crate) fn loses(&self, rng: &mut fastrand::Rng) -> bool {
        self.loss > 0 && rng.u64(0..self.loss) == 0
    }

    /// Whether the next message comes twice.
    pub(crate) fn echoes(&self, rng: &mut fastrand::Rng) -> bool {
        self.echo > 0 && rng.u64(0..self.echo) == 0
    }
}
