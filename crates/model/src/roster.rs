//! The nodes in short: what every plan asks of all of them.
//!
//! Plans look at each node, also while nothing is to be done; they read this list instead of the
//! nodes themselves, which lie all over the memory. It is derived from the nodes, and in their
//! order.

use std::sync::Arc;

use crate::id::NodeId;
use crate::node::{Availability, Node};
use crate::state::State;

/// A node in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// Whether an agent has ever called from it.
    pub agent: bool,
    /// Whether a gateway runs on it.
    pub gateway: bool,
    /// Whether it is being drained.
    pub draining: bool,
}

impl From<&Node> for Member {
    fn from(node: &Node) -> Self {
        Member {
            id: node.id.clone(),
            agent: node.capacity.is_some(),
            gateway: node.gateway,
            draining: node.availability == Availability::Draining,
        }
    }
}

impl State {
    /// The nodes in short, by name.
    pub fn roster(&self) -> &[Member] {
        &self.roster
    }

    /// Notes what has become of one node.
    pub(crate) fn enroll(&mut self, id: &NodeId) {
        let now = self.nodes.get(id).map(|node| Member::from(&node.node));
        match (self.roster.binary_search_by(|member| member.id.cmp(id)), now) {
            (Ok(at), Some(member)) if self.roster[at] == member => {}
            (Ok(at), Some(member)) => Arc::make_mut(&mut self.roster)[at] = member,
            (Ok(at), None) => drop(Arc::make_mut(&mut self.roster).remove(at)),
            (Err(at), Some(member)) => Arc::make_mut(&mut self.roster).insert(at, member),
            (Err(_), None) => {}
        }
    }

    /// The roster as it should be.
    pub(crate) fn called_up(&self) -> Vec<Member> {
        self.nodes.values().map(|node| Member::from(&node.node)).collect()
    }
}
