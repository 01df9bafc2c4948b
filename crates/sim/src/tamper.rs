//! Ways to break a rule on purpose, at the edge of a core: so that it is known that the laws see
//! it. Each stands for a mistake that could be made in the code behind that edge.

use std::fmt;

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    /// The store says that a write is durable before it is.
    NoFlush,
    /// One instance more than the budget allows is taken for allowed.
    Ceiling,
    /// One healthy instance less than the budget demands is taken for enough.
    Floor,
    /// More is placed on a node than it has.
    Capacity,
    /// What an instance says of its readiness is not listened to.
    Readiness,
    /// Requests under way are not counted when an instance is to be stopped.
    Busy,
    /// A gateway takes an old table for a new one.
    StaleTable,
}

impl Tamper {
    /// All of them.
    pub const ALL: [Tamper; 7] = [
        Tamper::NoFlush,
        Tamper::Ceiling,
        Tamper::Floor,
        Tamper::Capacity,
        Tamper::Readiness,
        Tamper::Busy,
        Tamper::StaleTable,
    ];
}

impl fmt::Display for Tamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tamper::NoFlush => "no-flush",
            Tamper::Ceiling => "ceiling",
            Tamper::Floor => "floor",
            Tamper::Capacity => "capacity",
            Tamper::Readiness => "readiness",
            Tamper::Busy => "busy",
            Tamper::StaleTable => "stale-table",
        })
    }
}
