//! What daemons and readers are told, once it is durable.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{InstanceId, Key, Listener, NodeId, RouteTable, Timestamp};
use planner::table_route;

use super::{Core, Effect};

impl Core {
    /// Before the durable state is replaced: forgets what was observed of what is gone, and adds
    /// the nodes that instances have left, which the new state does not tell any more.
    pub(super) fn note_departures(&mut self, changed: &mut BTreeSet<Key>) {
        let mut left = Vec::new();
        for key in &*changed {
            match key {
                Key::Instance(id) if self.state.placement(id).is_none() => {
                    self.observed.remove_status(id);
                    left.extend(self.durable.placement(id).map(|placement| &placement.node));
                }
                Key::Node(id) if self.state.node(id).is_none() => {
                    self.observed.agents.remove(id);
                    self.observed.gateways.remove(id);
                    if self.failed.keys().any(|(_, at)| at == id) {
                        Arc::make_mut(&mut self.failed).retain(|(_, at), _| at != id);
                    }
                }
                _ => {}
            }
        }
        changed.extend(left.into_iter().cloned().map(Key::Node));
    }

    /// Tells what follows from changes that are durable now, and from what has been observed.
    pub(super) fn publish(
        &mut self,
        changed: &BTreeSet<Key>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let routes_changed = self.publish_routes(changed, now, effects);
        let readers_due = std::mem::take(&mut self.readers_due);
        if !changed.is_empty() || readers_due || routes_changed {
            effects.push(Effect::Publish(self.snapshot()));
        }
        let nodes = self.concerned_nodes(changed);
        if !nodes.is_empty() {
            self.generation += 1;
            effects.push(Effect::Assignments { generation: self.generation, nodes });
        }
    }

    /// The nodes whose assignments follow from what has changed.
    fn concerned_nodes(&self, changed: &BTreeSet<Key>) -> BTreeSet<NodeId> {
        let mut nodes = BTreeSet::new();
        for key in changed {
            match key {
                Key::Instance(id) => {
                    nodes
                        .extend(self.durable.placement(id).map(|placement| placement.node.clone()));
                }
                Key::Node(id) => {
                    nodes.insert(id.clone());
                }
                // A new revision of the same template changes checks in place.
                Key::Revision(id, _) => {
                    let service = self.durable.service(id);
                    let placements = service.iter().flat_map(|service| service.placements.values());
                    nodes.extend(placements.map(|placement| placement.node.clone()));
                }
                _ => {}
            }
        }
        nodes
    }

    /// Works out the routes that may have changed; publishes a new table if any has.
    fn publish_routes(
        &mut self,
        changed: &BTreeSet<Key>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let is_first = self.observed.published.first == 0;
        let mut due = std::mem::take(&mut self.routes_due);
        due.append(&mut self.agenda.take_planned());
        if is_first && !self.observed.is_settled(&self.durable, now) {
            // Gateways keep the table they have until it is known what runs.
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
            planner::routes(&self.durable, &self.observed, now)
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

    /// The table's listeners with the routes to some services worked out anew; `None` if that
    /// changes nothing.
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
                let new = table_route(&self.durable, &self.observed, now, route);
                if listener.routes.get(r) != Some(&new) {
                    let listeners = renewed.get_or_insert_with(|| self.routes.listeners.clone());
                    listeners[l].routes[r] = new;
                }
            }
        }
        renewed
    }

    /// Remembers which instances a new table has, and from which generation others are gone: an
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
