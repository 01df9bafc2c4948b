//! The processes of a cluster, and the numbers that distinguish their incarnations and messages.

use model::NodeId;

/// The number of a request to the server.
pub(crate) type Rpc = u64;
/// The number of a stream from the server to a daemon.
pub(crate) type Conn = u64;
/// The number of a start of a process. An event that was scheduled for an earlier incarnation is
/// ignored.
pub(crate) type Incarnation = u64;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    Server,
    Agent(NodeId),
    Gateway(NodeId),
}
