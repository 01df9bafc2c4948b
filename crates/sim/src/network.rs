//! The network between the processes: latency, loss, duplicates, and partitions in one or both
//! directions.

use std::collections::BTreeSet;

use model::NodeId;

/// The location of a process. Users share the server's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Location {
    /// The machine of the server.
    Server,
    /// A node, which runs an agent, a gateway, or both.
    Node(NodeId),
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    /// Directions in which nothing passes until the cut ends. A message that is sent into one may
    /// be retransmitted and arrive late.
    cuts: BTreeSet<(Location, Location)>,
    /// Nodes without a connection to the server that never get one again: their messages are lost.
    severed: BTreeSet<NodeId>,
    /// The longest latency while no fault slows it.
    latency_ms: u64,
    pub(crate) quality: Quality,
}

/// A temporary degradation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quality {
    /// The longest additional latency.
    pub(crate) slow_ms: u64,
    /// One message in this many is lost; 0: none.
    pub(crate) loss: u64,
    /// One message in this many is duplicated; 0: none.
    pub(crate) duplicates: u64,
}

impl Network {
    pub(crate) fn new(latency_ms: u64) -> Network {
        let (cuts, severed, quality) = Default::default();
        Network { cuts, severed, latency_ms, quality }
    }

    /// Drops everything in one direction.
    pub(crate) fn cut(&mut self, from: Location, to: Location) {
        self.cuts.insert((from, to));
    }

    /// Ends the cut in one direction.
    pub(crate) fn restore(&mut self, from: &Location, to: &Location) {
        self.cuts.remove(&(from.clone(), to.clone()));
    }

    /// Cuts a node off from the server for good.
    pub(crate) fn sever(&mut self, node: NodeId) {
        self.severed.insert(node);
    }

    /// Ends every cut and degradation.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.quality = Quality::default();
    }

    pub(crate) fn is_cut(&self, from: &Location, to: &Location) -> bool {
        self.is_severed(from, to) || self.cuts.contains(&(from.clone(), to.clone()))
    }

    /// Whether the direction is cut for good.
    pub(crate) fn is_severed(&self, from: &Location, to: &Location) -> bool {
        match (from, to) {
            (Location::Node(node), Location::Server) | (Location::Server, Location::Node(node)) => {
                self.severed.contains(node)
            }
            _ => false,
        }
    }

    /// Draws the latency of the next message.
    pub(crate) fn latency(&self, rng: &mut fastrand::Rng) -> u64 {
        rng.u64(0..=self.latency_ms) + rng.u64(0..=self.quality.slow_ms)
    }

    /// Draws whether the next message is lost.
    pub(crate) fn loses(&self, rng: &mut fastrand::Rng) -> bool {
        self.quality.loss > 0 && rng.u64(0..self.quality.loss) == 0
    }

    /// Draws whether the next message is duplicated.
    pub(crate) fn duplicates(&self, rng: &mut fastrand::Rng) -> bool {
        self.quality.duplicates > 0 && rng.u64(0..self.quality.duplicates) == 0
    }
}
