//! Bugs that are injected on purpose at the edge of a core, to show that an invariant detects them.
//! Each stands for a mistake that could be made in the code behind that edge.

use std::fmt;

/// A bug that can be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedBug {
    /// The store acknowledges a write before it is durable.
    NoFlush,
    /// The budget allows one instance more than the user asked for.
    Ceiling,
    /// The budget demands one healthy instance less than the user asked for.
    Floor,
    /// Agents register more CPU than their node has.
    Capacity,
    /// Agents report every instance as healthy and ready.
    Readiness,
    /// Gateways omit requests in flight from their reports.
    Busy,
    /// The store ignores deletions.
    LostDelete,
    /// The server ignores the dependencies of services.
    Dependencies,
    /// The server takes a report of any agent for a heartbeat of all agents.
    GhostHeartbeat,
    /// The server executes a repeated request again.
    Repetition,
    /// Gateways keep the listeners of an old table under the generation of a new one.
    StaleTable,
    /// The server removes services without regard to those that depend on them.
    RemovalOrder,
    /// The server stops the oldest surplus instances instead of the youngest, and the reverse.
    ScaleDown,
    /// A server that starts takes every stored node for one that reports.
    Unreported,
    /// The server publishes the events of a batch before the batch is durable.
    EarlyEvents,
    /// Agents start all resources of a stack at the same time.
    StackOrder,
    /// Agents stop all resources of a stack when one of them exits.
    StackRestart,
    /// Drivers report that a run is resumed, and that its probes pass, but never resume it.
    EarlyResume,
    /// Drivers report the end of a run as soon as they must stop it.
    EarlyEnd,
    /// A server that starts blocks the revisions of all services of a failed deployment.
    SharedBlame,
    /// The server undoes a change by the previous revision, whether or not that one failed.
    BlindUndo,
    /// The server ignores the deadlines of rollouts.
    Deadline,
    /// Daemons and servers do not compare what they know of their cluster.
    AnyServer,
    /// Agents stop an instance that their server does not mention.
    Absence,
}

impl InjectedBug {
    /// All of them.
    pub const ALL: [InjectedBug; 24] = [
        InjectedBug::NoFlush,
        InjectedBug::Ceiling,
        InjectedBug::Floor,
        InjectedBug::Capacity,
        InjectedBug::Readiness,
        InjectedBug::Busy,
        InjectedBug::LostDelete,
        InjectedBug::Dependencies,
        InjectedBug::GhostHeartbeat,
        InjectedBug::Repetition,
        InjectedBug::StaleTable,
        InjectedBug::RemovalOrder,
        InjectedBug::ScaleDown,
        InjectedBug::Unreported,
        InjectedBug::EarlyEvents,
        InjectedBug::StackOrder,
        InjectedBug::StackRestart,
        InjectedBug::EarlyEnd,
        InjectedBug::SharedBlame,
        InjectedBug::BlindUndo,
        InjectedBug::Deadline,
        InjectedBug::AnyServer,
        InjectedBug::Absence,
        InjectedBug::EarlyResume,
    ];
}

impl fmt::Display for InjectedBug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InjectedBug::NoFlush => "no-flush",
            InjectedBug::Ceiling => "ceiling",
            InjectedBug::Floor => "floor",
            InjectedBug::Capacity => "capacity",
            InjectedBug::Readiness => "readiness",
            InjectedBug::Busy => "busy",
            InjectedBug::LostDelete => "lost-delete",
            InjectedBug::Dependencies => "dependencies",
            InjectedBug::GhostHeartbeat => "ghost-heartbeat",
            InjectedBug::Repetition => "repetition",
            InjectedBug::StaleTable => "stale-table",
            InjectedBug::RemovalOrder => "removal-order",
            InjectedBug::ScaleDown => "scale-down",
            InjectedBug::Unreported => "unreported",
            InjectedBug::EarlyEvents => "early-events",
            InjectedBug::StackOrder => "stack-order",
            InjectedBug::StackRestart => "stack-restart",
            InjectedBug::EarlyEnd => "early-end",
            InjectedBug::SharedBlame => "shared-blame",
            InjectedBug::BlindUndo => "blind-undo",
            InjectedBug::Deadline => "deadline",
            InjectedBug::AnyServer => "any-server",
            InjectedBug::Absence => "absence",
            InjectedBug::EarlyResume => "early-resume",
        })
    }
}
