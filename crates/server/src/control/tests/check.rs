//! What must hold whenever the core says something, whatever has happened before.

use std::collections::{BTreeMap, BTreeSet};

use api::EventView;
use model::{
    Changeset, GATEWAY_SILENCE_MAX, Goal, Key, Object, Phase, RouteTable, State, Timestamp, What,
};

use super::super::{Batch, Snapshot, Trouble};
use super::world::World;

/// All objects of a state, as they would be stored.
pub(super) fn objects(state: &State) -> BTreeMap<Key, Object> {
    let mut keys = vec![Key::Meta];
    keys.extend(state.nodes().map(|node| Key::Node(node.id.clone())));
    for service in state.services() {
        let id = &service.id;
        keys.push(Key::Service(id.clone()));
        keys.extend(service.revisions.keys().map(|number| Key::Revision(id.clone(), *number)));
        let instance = |replica| model::InstanceId { service: id.clone(), replica };
        keys.extend(service.placements.keys().map(|replica| Key::Instance(instance(*replica))));
    }
    keys.extend(state.deployments().map(|deployment| Key::Deployment(deployment.id)));
    keys.extend(state.gateways().map(|gateway| Key::Gateway(gateway.gateway.clone())));
    keys.extend(state.groups().map(|group| Key::Group(group.group.clone())));
    keys.into_iter().filter_map(|key| Some((key.clone(), state.object(&key)?))).collect()
}

impl World {
    /// What the core takes for durable is what is on the disk, no more and no less.
    fn check_durable(&self) {
        let (told, stored) = (objects(&self.core.durable), &self.disk.objects);
        assert!(told == *stored, "not durable: {:#?}", difference(&told, stored));
    }

    pub(super) fn check_after_turn(&mut self) {
        if std::mem::take(&mut self.unchecked) {
            self.check_durable();
            assert_eq!(self.core.durable.violations(), []);
            assert_eq!(self.core.state.violations(), []);
        }
        if self.storing.is_none() {
            assert!(self.core.stalled_until > self.at() || self.core.queue.is_empty());
            let all = planner::routes(&self.core.durable, &self.core.observed, self.at());
            let told = self.routes.as_ref().map(|table| &table.listeners);
            let due = self.core.stalled_until > self.at();
            assert!(due || told.is_none_or(|told| *told == all), "routes are out of date");
        }
    }

    /// A batch never lets healthy instances go below the floor.
    pub(super) fn check_batch(&self, batch: &Batch) {
        assert!(self.storing.is_none(), "one batch at a time");
        let (now, observed) = (self.at(), &self.core.observed);
        for service in self.core.state.services().filter(|service| !service.removing) {
            let let_go = batch.objects.iter().filter(|(key, object)| {
                let Key::Instance(id) = key else { return false };
                let before = self.core.durable.placement(id);
                let leaves = match object {
                    Some(Object::Instance(after)) => !after.is_wanted(),
                    _ => true,
                };
                id.service == service.id
                    && before.is_some_and(|before| before.is_wanted())
                    && leaves
                    && observed
                        .status(&id.service, id.replica)
                        .is_some_and(|status| status.is_healthy(service.spec()))
                    && !observed.is_lost(&before.unwrap().node, now)
            });
            if let_go.count() == 0 {
                continue;
            }
            let healthy = service.placements.iter().filter(|(replica, placement)| {
                let spec = service.running_spec(placement.revision);
                let status = observed.status(&service.id, **replica);
                let counts =
                    status.is_some_and(|status| match service.is_current(placement.revision) {
                        true => status.ready_at(spec).is_some_and(|at| at <= now),
                        false => status.is_healthy(spec),
                    });
                placement.is_wanted() && counts
            });
            let healthy = healthy.count() as u32;
            let floor = service.spec().rollout.min_healthy.ceil_of(service.wanted());
            assert!(healthy >= floor, "{}: {healthy} healthy, floor {floor}", service.id);
        }
    }

    pub(super) fn check_outcome(&self, outcome: &Result<Changeset, Trouble>) {
        let Ok(applied) = outcome else { return };
        assert!(applied.changed.is_empty() || self.storing.is_none(), "answered before stored");
        for deployment in applied.changes.iter().filter_map(|change| change.deployment) {
            let key = Key::Deployment(deployment);
            assert!(self.disk.objects.contains_key(&key), "{deployment} is not durable");
        }
        // Who has the answer sees what it speaks of.
        if !applied.changed.is_empty() {
            let shown = self.snapshot.as_ref().expect("published before it is answered");
            assert!(objects(&shown.state) == self.disk.objects, "readers are shown what was");
        }
    }

    pub(super) fn check_routes(&mut self, table: &RouteTable) {
        assert!(table.generation > self.generation, "generations only rise");
        self.generation = table.generation;
        let settled = self.core.observed.is_settled(&self.core.durable, self.at());
        assert!(settled || self.routes.is_some(), "a first table on half the truth");
        let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
        for backend in routes.flat_map(|route| &route.backends) {
            let id = &backend.instance;
            let service = self.core.durable.service(&id.service).expect("it is durable");
            let placement = service.placements.get(&id.replica).expect("it is placed");
            assert!(placement.is_wanted(), "{id} is leaving");
            let status =
                self.core.observed.status(&id.service, id.replica).expect("it is observed");
            let spec = service.running_spec(placement.revision);
            let ready_at = status.ready_at(spec);
            assert!(ready_at.is_some_and(|at| at <= self.at()), "{id} is not ready");
        }
    }

    pub(super) fn check_snapshot(&mut self, snapshot: &Snapshot) {
        if self.unchecked {
            let shown = objects(&snapshot.state);
            assert!(shown == self.disk.objects, "readers are told what is durable");
        }
        let nodes = snapshot.state.node_usages();
        let placed: BTreeSet<_> = nodes.flat_map(|node| node.instances.iter().cloned()).collect();
        self.gone.extend(self.placed.difference(&placed).cloned());
        assert!(self.gone.is_disjoint(&placed), "an id is never given twice");
        self.placed = placed;
        let before = std::mem::take(&mut self.goals);
        for id in &self.placed {
            let goal = snapshot.state.placement(id).expect("it is placed").goal.clone();
            let known = before.get(id);
            let newly = known.is_none_or(|known| !matches!(known, Goal::Stop { .. }));
            if matches!(goal, Goal::Stop { .. }) && newly {
                self.check_stop(id, known);
            }
            self.goals.insert(id.clone(), goal);
        }
    }

    /// An instance that runs is told to stop only once no gateway uses it, or its time is up.
    fn check_stop(&self, id: &model::InstanceId, before: Option<&Goal>) {
        let locals = self.agents.iter().flat_map(|agent| agent.instances.get(id));
        let runs = locals.into_iter().any(|local| local.status.phase == Phase::Running);
        let is_up = |until: Timestamp| until <= self.at();
        let until = matches!(before, Some(Goal::Drain { until, .. }) if is_up(*until));
        if !runs || until {
            return;
        }
        for gateway in &self.gateways {
            let answers = self.now - gateway.spoke_at.max(self.started_at) < GATEWAY_SILENCE_MAX.0;
            assert!(!answers || !gateway.uses(id), "{} still uses {id}", gateway.node);
        }
    }

    pub(super) fn check_told(&mut self, event: &EventView) {
        assert!(event.number > self.told, "numbers of events only rise");
        self.told = event.number;
        let is_observed = matches!(
            event.event.what,
            What::Exited { .. }
                | What::Starting { .. }
                | What::Running { .. }
                | What::Healthy
                | What::Unhealthy { .. }
                | What::Ready
        );
        if !is_observed {
            let stored = self.disk.events.get(&event.number);
            assert_eq!(stored, Some(event), "told before it is durable");
        }
    }
}

fn difference(
    told: &BTreeMap<Key, Object>,
    stored: &BTreeMap<Key, Object>,
) -> Vec<(Key, Option<Object>, Option<Object>)> {
    let keys = told.keys().chain(stored.keys());
    let pairs = keys.map(|key| (key.clone(), told.get(key).cloned(), stored.get(key).cloned()));
    pairs.filter(|(_, told, stored)| told != stored).collect()
}
