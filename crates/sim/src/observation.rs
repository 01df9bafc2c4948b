//! The observations that the shells record for the invariants. Shells never judge: each step
//! appends observations, and `invariants` reads them after the step with the entire cluster in
//! view.

use std::sync::Arc;

use model::{Change, NodeId, Piece, Refusal, RequestKey, RouteTable, State, Timestamp};
use server::control::Snapshot;

use crate::queue::Moment;

/// A fact that an invariant may depend on.
pub(crate) enum Observation {
    /// A server loaded this state from its disk.
    Loaded(State),
    /// A batch is about to be stored. Times are the server's.
    Decided {
        before: Box<Snapshot>,
        after: State,
        now: Timestamp,
        at: Moment,
    },
    /// The server published assignments with this generation.
    Assignments(u64),
    /// The server published a route table while `state` was durable.
    Routes {
        table: Arc<RouteTable>,
        state: State,
    },
    /// The server published a durable state. `stored` is what its disk contains, if it was read.
    Published {
        state: State,
        stored: Option<State>,
    },
    /// The server answered a user's request.
    Answered {
        key: RequestKey,
        outcome: Result<Vec<Change>, Refusal>,
    },
    /// The server published an event while its batch was durable, or not yet.
    EventPublished {
        number: u64,
        is_durable: bool,
    },
    /// The fault phase has ended.
    Healed {
        at: Moment,
    },
    AgentStarted(NodeId),
    /// The core of an agent handled an event.
    AgentStepped(NodeId),
    /// A driver starts a run.
    RunStarted(NodeId, Piece),
    /// A driver stops a run that was alive.
    RunStopped(NodeId, Piece),
    /// A gateway finished a request.
    RequestServed,
    /// A shell saw an invariant violated by itself.
    Violated {
        invariant: &'static str,
        detail: String,
    },
}
