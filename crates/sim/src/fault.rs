//! The kinds of faults. `inject` makes them happen.

use std::fmt;

use model::{NodeId, Piece};

use crate::network::Location;
use crate::process::Process;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed between two instructions.
    Kill,
    /// A process is suspended.
    Suspend,
    /// A machine loses power for a while.
    Power,
    /// A machine returns without its disk.
    Wipe,
    /// The server's disk is full, or a flush fails.
    Disk,
    /// Nothing passes between two places, in one or both directions.
    Partition,
    /// Messages are slow, lost, or duplicated.
    Network,
    /// A clock is set.
    Clock,
    /// An instance crashes or hangs.
    Instance,
    /// A Docker daemon does not respond.
    Docker,
    /// A server is started on the wrong store.
    Store,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::Kill,
        Fault::Suspend,
        Fault::Power,
        Fault::Wipe,
        Fault::Disk,
        Fault::Partition,
        Fault::Network,
        Fault::Clock,
        Fault::Instance,
        Fault::Docker,
        Fault::Store,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Kill => "kill",
            Fault::Suspend => "suspend",
            Fault::Power => "power",
            Fault::Wipe => "wipe",
            Fault::Disk => "disk",
            Fault::Partition => "partition",
            Fault::Network => "network",
            Fault::Clock => "clock",
            Fault::Instance => "instance",
            Fault::Docker => "docker",
            Fault::Store => "store",
        })
    }
}

/// The end of a temporary fault.
#[derive(Debug, Clone)]
pub(crate) enum FaultEnd {
    Suspended(Process),
    /// The power of a node, or of the server's machine.
    Power(Option<NodeId>),
    Disk,
    Cut(Location, Location),
    Network,
    Hang(NodeId, Piece),
    Docker(NodeId),
    Store,
}

/// A node that does not recover after the fault phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// The machine has no power.
    Power,
    /// The agent does not run; its instances do.
    Agent,
    /// Nothing passes between the node and the server.
    Partition,
}

impl Outage {
    /// All of them.
    pub const ALL: [Outage; 3] = [Outage::Power, Outage::Agent, Outage::Partition];
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outage::Power => "power",
            Outage::Agent => "agent",
            Outage::Partition => "partition",
        })
    }
}
