//! The constraints of each service with the counts of its instances, kept with the service.
//!
//! Every placement is checked against the constraints of its service twice: by the planner and when
//! it is applied. Counting all instances for each check would be quadratic in instances, so the
//! counts are kept. A placement at the target's template is added, an instance that leaves is
//! removed, and any larger change (another target, another node) counts the service again.
//!
//! Invariant: `Service::rules` equals [`State::count_rules`] of that service
//! (`Violation::RuleCounts`). Only wanted instances of the target's template count, and only on
//! nodes that are not being drained: replacements take the place of the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::constraint::Rule;
use crate::id::{NodeId, ReplicaId, RevisionNumber, ServiceId};
use crate::node::{Availability, Node};
use crate::service::Service;
use crate::state::State;

impl State {
    /// The constraints of a service with its instances counted, except those in `gone`.
    pub(crate) fn count_rules(&self, service: &Service, gone: &BTreeSet<ReplicaId>) -> Vec<Rule> {
        let constraints = &service.spec().constraints;
        let is_compiled = constraints.iter().eq(service.rules.iter().map(Rule::constraint));
        let mut rules: Vec<_> = match is_compiled {
            true => service.rules.iter().map(Rule::without_counts).collect(),
            false => constraints.iter().map(|constraint| constraint.compile()).collect(),
        };
        if rules.is_empty() {
            return rules;
        }
        for (replica, placement) in &service.placements {
            if placement.is_wanted()
                && service.is_current(placement.revision)
                && !gone.contains(replica)
                && let Some(node) = self.counted_node(&placement.node)
            {
                rules.iter_mut().for_each(|rule| rule.count(node));
            }
        }
        rules
    }

    /// Counts a service again after its target has changed.
    pub(crate) fn recount(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get(id) else { return };
        if !service.revisions.contains_key(&service.target) {
            return;
        }
        let rules = self.count_rules(service, &BTreeSet::new());
        if *service.rules != rules
            && let Some(service) = self.services.get_mut(id)
        {
            Arc::make_mut(service).rules = Arc::new(rules);
        }
    }

    /// Counts the services with instances on a node again after the node has changed.
    pub(crate) fn recount_on(&mut self, node: &NodeId) {
        let Some(node) = self.nodes.get(node) else { return };
        let services: BTreeSet<_> =
            node.instances.iter().map(|instance| &instance.service).cloned().collect();
        services.iter().for_each(|service| self.recount(service));
    }

    /// Counts all services, after a state has been loaded.
    pub(crate) fn recount_all(&mut self) {
        let services: Vec<_> = self.services.keys().cloned().collect();
        services.iter().for_each(|service| self.recount(service));
    }

    /// Adds an instance that was placed.
    pub(crate) fn count_placed(&mut self, id: &ServiceId, revision: RevisionNumber, node: &NodeId) {
        self.change_counts(id, revision, node, |rule, node| {
            rule.count(node);
            true
        });
    }

    /// Removes an instance that is no longer wanted.
    pub(crate) fn count_left(&mut self, id: &ServiceId, revision: RevisionNumber, node: &NodeId) {
        self.change_counts(id, revision, node, Rule::uncount);
    }

    /// `change` returns false if the counts are no longer exact.
    fn change_counts(
        &mut self,
        id: &ServiceId,
        revision: RevisionNumber,
        node: &NodeId,
        change: impl Fn(&mut Rule, &Node) -> bool,
    ) {
        let is_counted =
            |service: &Arc<Service>| !service.rules.is_empty() && service.is_current(revision);
        if !self.services.get(id).is_some_and(is_counted) || self.counted_node(node).is_none() {
            return;
        }
        let (Some(service), Some(usage)) = (self.services.get_mut(id), self.nodes.get(node)) else {
            return;
        };
        let rules = Arc::make_mut(&mut Arc::make_mut(service).rules);
        let mut is_exact = true;
        for rule in rules {
            is_exact &= change(rule, &usage.node);
        }
        if !is_exact {
            self.recount(id);
        }
    }

    /// The node, unless it is being drained.
    fn counted_node(&self, id: &NodeId) -> Option<&Node> {
        let node = self.nodes.get(id).map(|usage| &usage.node)?;
        (node.availability != Availability::Draining).then_some(node)
    }
}
