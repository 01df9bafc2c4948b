//! Which gateway of each node may act. A gateway keeps no id across its restarts, so a new one is
//! admitted as soon as the connection of the previous one has ended; while the previous one follows
//! the routes and reports, the new one is a second gateway by the same name, and refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{NodeId, SILENT_AFTER};

/// The gateways by node. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gateways(Arc<Mutex<BTreeMap<NodeId, Known>>>);

#[derive(Debug)]
struct Known {
    id: String,
    seen_at: Instant,
    /// The number of its connections that follow the routes.
    connections: usize,
}

impl Known {
    /// Whether the gateway acts. The connection of one whose machine has failed stays open for a
    /// while.
    fn is_alive(&self) -> bool {
        self.connections > 0 && self.seen_at.elapsed() < Duration::from_millis(SILENT_AFTER.0)
    }
}

/// A connection that follows the routes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Follows {
    gateways: Gateways,
    node: NodeId,
    id: String,
}

impl Gateways {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<NodeId, Known>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a gateway may act. One that registers takes the place of one that does not act any
    /// more.
    pub(crate) fn admit(&self, node: &NodeId, id: &str, registers: bool) -> bool {
        self.with(|gateways| {
            let new = || Known { id: id.into(), seen_at: Instant::now(), connections: 0 };
            let known = gateways.entry(node.clone()).or_insert_with(new);
            if known.id != id {
                if !registers || known.is_alive() {
                    return false;
                }
                *known = new();
            }
            known.seen_at = Instant::now();
            true
        })
    }

    /// The gateway of the node, which was admitted, follows the routes until the result is dropped.
    pub(crate) fn follow(&self, node: &NodeId) -> Follows {
        let id = self.with(|gateways| {
            let known = gateways.get_mut(node)?;
            known.connections += 1;
            Some(known.id.clone())
        });
        Follows { gateways: self.clone(), node: node.clone(), id: id.unwrap_or_default() }
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.gateways.with(|gateways| {
            if let Some(known) = gateways.get_mut(&self.node).filter(|known| known.id == self.id) {
                known.connections = known.connections.saturating_sub(1);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gateway_acts_once_the_connection_of_the_first_has_ended() {
        let gateways = Gateways::default();
        let node = "n1".parse().unwrap();
        assert!(gateways.admit(&node, "a", true));
        let follows = gateways.follow(&node);
        assert!(!gateways.admit(&node, "b", true) && !gateways.admit(&node, "b", false));
        assert!(gateways.admit(&"n2".parse().unwrap(), "b", true), "it is of another node");
        assert!(gateways.admit(&node, "a", false));
        drop(follows);
        assert!(!gateways.admit(&node, "b", false), "it must register first");
        assert!(gateways.admit(&node, "b", true));
        assert!(!gateways.admit(&node, "a", false), "it has been replaced");
        let _follows = gateways.follow(&node);
        assert!(!gateways.admit(&node, "a", true));
    }
}
