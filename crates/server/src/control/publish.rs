//! Output to daemons and readers, from durable state only.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    Backend, InstanceId, Key, Listener, NodeId, Placement, RouteTable, State, TableRoute, Timestamp,
};
use planner::table_route;

use super::{Core, Effect};

impl Core {
    /// Compares the durable state with the one that is about to replace it. Removes the
    /// observations of deleted objects; returns the nodes whose assignments change.
    pub(super) fn compare(&mut self, changed: &BTreeSet<Key>, now: Timestamp) -> BTreeSet<NodeId> {
        let mut nodes = BTreeSet::new();
        for key in changed {
            match key {
                Key::Instance(id) => {
                    let is_there = self.state.placement(id);
                    let placement = is_there.or_else(|| self.durable.placement(id));
                    nodes.extend(placement.map(|placement| placement.node.clone()));
                    if is_there.is_none() {
                        self.observed.remove_status(id);
                    }
                }
                Key::Node(id) => {
                    nodes.insert(id.clone());
                    match self.state.node(id).map(|node| node.node.gateway) {
                        Some(true) => self.gateway_registered(id, now),
                        Some(false) => {}
                        None => self.drop_observations_of(id),
                    }
                }
                Key::Service(id) => {
                    // A new revision of the same template changes checks in place.
                    let checks_version = |state: &State| {
                        let service = state.service(id)?;
                        let frozen = (state.is_frozen(service), service.frozen_resources.clone());
                        Some((service.target, service.retries, frozen))
                    };
                    if checks_version(&self.durable) != checks_version(&self.state) {
                        let placements = self.state.service(id).map(|s| s.placements.values());
                        nodes.extend(placements.into_iter().flatten().map(|p| p.node.clone()));
                    }
                }
                _ => {}
            }
        }
        nodes
    }

    /// Records that a gateway has registered. It follows the routes from now on, so its
    /// confirmation is required even before its first report.
    pub(super) fn gateway_registered(&mut self, node: &NodeId, now: Timestamp) {
        self.observed.gateways.entry(node.clone()).or_default().seen_at = now;
    }

    fn drop_observations_of(&mut self, node: &NodeId) {
        self.observed.agents.remove(node);
        self.last_reports.remove(node);
        self.observed.gateways.remove(node);
        self.observed.unknown.remove(node);
        self.observed.removed.remove(node);
        if self.failed.keys().any(|(_, at)| at == node) {
            Arc::make_mut(&mut self.failed).retain(|(_, at), _| at != node);
        }
    }

    /// Publishes the consequences of durable changes and of observations. `nodes` are those whose
    /// assignments change.
    pub(super) fn publish(
        &mut self,
        changed: &BTreeSet<Key>,
        mut nodes: BTreeSet<NodeId>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        // After becoming leader again, generations must belong to the new epoch.
        self.generation = self.generation.max(self.durable.meta().epoch << 32);
        let routes_changed = self.publish_routes(changed, now, effects);
        let readers_due = std::mem::take(&mut self.readers_due);
        if !changed.is_empty() || readers_due || routes_changed {
            effects.push(Effect::Publish(self.snapshot()));
        }
        nodes.append(&mut self.stops_due);
        if !nodes.is_empty() {
            self.generation += 1;
            effects.push(Effect::Assignments { generation: self.generation, nodes });
        }
    }

    /// Recomputes the routes that may have changed, and publishes a new table if any has.
    fn publish_routes(
        &mut self,
        changed: &BTreeSet<Key>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let is_first = self.observed.published.first == 0;
        let mut due = std::mem::take(&mut self.routes_due);
        due.append(&mut self.work_queue.take_planned());
        if is_first && !self.observed.is_settled(&self.durable, now) {
            // Gateways keep their table until it is known which instances run.
            return false;
        }
        due.extend(changed.iter().filter_map(|key| match key {
            Key::Service(id) | Key::Revision(id, _) => Some(id.clone()),
            Key::Instance(id) => Some(id.service.clone()),
            _ => None,
        }));
        let documents = changed.iter().any(|key| matches!(key, Key::Gateway(_)));
        let nodes = changed.iter().any(|key| matches!(key, Key::Node(_)));
        let listeners = if is_first || documents {
            let mut listeners = planner::routes(&self.durable, &self.observed, now);
            let routes = listeners.iter_mut().flat_map(|listener| &mut listener.routes);
            routes.for_each(|route| self.withhold_unstored(route));
            listeners
        } else {
            match self.renewed(|service| nodes || due.contains(service), now) {
                Some(listeners) => listeners,
                None => return false,
            }
        };
        if !is_first && listeners == self.routes.listeners {
            return false;
        }
        self.generation += 1;
        let table = RouteTable { generation: self.generation, listeners };
        self.note_published(&table);
        self.routes = Arc::new(table);
        effects.push(Effect::Routes(Arc::clone(&self.routes)));
        true
    }

    /// Returns the table's listeners with the routes to dirty services recomputed, or `None` if
    /// that changes nothing.
    fn renewed(
        &self,
        is_dirty: impl Fn(&model::ServiceId) -> bool,
        now: Timestamp,
    ) -> Option<Vec<Listener>> {
        let mut renewed: Option<Vec<Listener>> = None;
        for (l, listener) in self.routes.listeners.iter().enumerate() {
            let Some(document) = self.durable.gateway(&listener.gateway) else { continue };
            for (r, route) in document.routes.iter().enumerate() {
                if !is_dirty(&route.to.service) {
                    continue;
                }
                let mut new = table_route(&self.durable, &self.observed, now, route);
                self.withhold_unstored(&mut new);
                if listener.routes.get(r) != Some(&new) {
                    let listeners = renewed.get_or_insert_with(|| self.routes.listeners.clone());
                    listeners[l].routes[r] = new;
                }
            }
        }
        renewed
    }

    /// An instance without traffic may be stopped, or suspended, without a drain. While that change is being
    /// stored, no new table may include the instance.
    fn withhold_unstored(&self, route: &mut TableRoute) {
        if self.storing.is_none() {
            return;
        }
        let present = &self.observed.published.present;
        route.backends.retain(|Backend { instance, .. }| {
            let stays = self.state.placement(instance).is_some_and(Placement::may_serve);
            stays || present.contains(instance)
        });
        if route.backends.is_empty() && route.empty_because.is_none() {
            route.empty_because = Some("its instances are terminating or being paused".into());
        }
    }

    /// Records the instances in a new table, and the generation from which others are absent: an
    /// instance is stopped only once gateways follow a table without it.
    fn note_published(&mut self, table: &RouteTable) {
        let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
        let backends = routes.flat_map(|route| &route.backends);
        let present: BTreeSet<InstanceId> = backends.map(|b| b.instance.clone()).collect();
        let published = &mut self.observed.published;
        for instance in published.present.difference(&present) {
            published.left.insert(instance.clone(), table.generation);
        }
        let durable = &self.durable;
        published.left.retain(|id, _| !present.contains(id) && durable.placement(id).is_some());
        published.present = present;
        published.last = table.generation;
        if published.first == 0 {
            published.first = table.generation;
        }
    }
}
