//! The node index: a summary of each node, for plans.
//!
//! Every plan reads all nodes, even when nothing is to be done. The index is a contiguous copy of
//! the fields that it reads, whereas the nodes themselves are scattered over the heap. It is
//! derived from the nodes and has their order.

use std::sync::Arc;

use crate::id::NodeId;
use crate::node::NodeSummary;
use crate::state::State;

impl State {
    /// The summaries of the nodes, by name.
    pub fn node_index(&self) -> &[NodeSummary] {
        &self.node_index
    }

    /// Updates the summary of one node.
    pub(crate) fn refresh(&mut self, id: &NodeId) {
        let now = self.nodes.get(id).map(|node| NodeSummary::from(&node.node));
        match (self.node_index.binary_search_by(|node| node.id.cmp(id)), now) {
            (Ok(at), Some(node)) if self.node_index[at] == node => {}
            (Ok(at), Some(node)) => Arc::make_mut(&mut self.node_index)[at] = node,
            (Ok(at), None) => drop(Arc::make_mut(&mut self.node_index).remove(at)),
            (Err(at), Some(node)) => Arc::make_mut(&mut self.node_index).insert(at, node),
            (Err(_), None) => {}
        }
    }

    /// Builds the index from the nodes.
    pub(crate) fn build_node_index(&self) -> Vec<NodeSummary> {
        self.nodes.values().map(|node| NodeSummary::from(&node.node)).collect()
    }
}
