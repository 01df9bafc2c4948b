//! Finding a node for an instance.
//!
//! Nodes that cannot take it are filtered out by the model's one feasibility rule; of the others
//! the one with the fewest instances of the same service wins, then the least loaded, then the
//! first by name. That spreads services over nodes and is the same every time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use model::{
    Bytes, Cpu, Given, InstanceId, Node, NodeId, NodeUsage, Placement, Protocol, Reason, ReplicaId,
    Requirements, Resources, Service, Spec, State,
};

/// A load: the larger of the used shares of processor and memory, in 2^-20.
type Load = u32;

/// The nodes of a cluster while a plan is made: what steps of the plan take of them is taken.
pub struct Room {
    nodes: Vec<Arc<NodeUsage>>,
    lost: Vec<bool>,
    /// Node indices by load; made when first asked for.
    by_load: BTreeSet<(Load, usize)>,
    built: bool,
    /// What is free again once this is built: everything is given back before anything is placed.
    given_back: Vec<(InstanceId, Placement, Arc<Spec>)>,
    /// What was refused everywhere since something was last placed.
    refused: BTreeMap<Shape, Refusals>,
    source: State,
    lost_nodes: BTreeSet<NodeId>,
}

fn load(node: &Node, used: &Resources) -> Load {
    let share = |used: u64, all: u64| ((used << 20) / all.max(1)).min(u64::from(u32::MAX)) as u32;
    let capacity = node.capacity.unwrap_or(Resources::NONE);
    // Memory in KiB, so that no amount of it is shifted out of the word.
    share(used.cpu.0.into(), capacity.cpu.0.into())
        .max(share(used.memory.0 >> 10, capacity.memory.0 >> 10))
}

/// Every node with the reason why it refuses.
type Refusals = Arc<[(NodeId, Reason)]>;

/// Where new instances of a service can go.
#[derive(Default)]
pub(crate) struct Places {
    /// Those that found a node.
    pub(crate) placed: Vec<(InstanceId, Placement)>,
    /// If not all did, why each node refused the next.
    pub(crate) refusals: Option<Refusals>,
}

/// What a node's answer depends on, for needs without constraints.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    cpu: Cpu,
    memory: Bytes,
    fixed: Vec<(u16, Protocol)>,
    assigned: usize,
    features: Vec<&'static str>,
    requires: Vec<String>,
    roles: Vec<String>,
}

impl Shape {
    fn of(need: &Requirements) -> Option<Shape> {
        need.rules.is_empty().then(|| Shape {
            cpu: need.resources.cpu,
            memory: need.resources.memory,
            fixed: need.fixed.clone(),
            assigned: need.assigned,
            features: need.features.clone(),
            requires: need.requires.clone(),
            roles: need.roles.clone(),
        })
    }
}

/// FNV-1a: where the search for a free port starts. Ports of successive instances lie apart, so
/// that one that has just been given up is not given out again at once.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Room {
    /// The room in `state`, without the lost nodes. Costs nothing until something is placed.
    pub fn new(state: &State, lost: &BTreeSet<NodeId>) -> Room {
        Room {
            nodes: Vec::new(),
            lost: Vec::new(),
            by_load: BTreeSet::new(),
            built: false,
            given_back: Vec::new(),
            refused: BTreeMap::new(),
            source: state.clone(),
            lost_nodes: lost.clone(),
        }
    }

    fn build(&mut self) {
        if self.built {
            return;
        }
        self.built = true;
        self.nodes = self.source.node_usages().cloned().collect();
        self.lost = self.nodes.iter().map(|n| self.lost_nodes.contains(&n.node.id)).collect();
        for (id, placement, spec) in std::mem::take(&mut self.given_back) {
            if let Some(i) = self.index_of(&placement.node) {
                Arc::make_mut(&mut self.nodes[i]).release(&id, &placement, &spec);
            }
        }
        self.by_load =
            self.nodes.iter().enumerate().map(|(i, n)| (load(&n.node, &n.used), i)).collect();
    }

    /// The nodes are in the order of their names.
    fn index_of(&self, node: &NodeId) -> Option<usize> {
        self.nodes.binary_search_by(|other| other.node.id.cmp(node)).ok()
    }

    /// What an instance that is forgotten in this plan held is free again.
    pub(crate) fn release(&mut self, id: InstanceId, placement: &Placement, spec: &Arc<Spec>) {
        self.given_back.push((id, placement.clone(), Arc::clone(spec)));
    }

    fn moved(&mut self, i: usize, before: Load) {
        self.refused.clear();
        let after = load(&self.nodes[i].node, &self.nodes[i].used);
        if after != before {
            self.by_load.remove(&(before, i));
            self.by_load.insert((after, i));
        }
    }

    fn rejection(&self, i: usize, need: &Requirements) -> Option<Reason> {
        match self.lost[i] {
            true => Some(Reason::Silent),
            false => self.nodes[i].rejection(need),
        }
    }

    /// Finds places for new instances of `service` at its target in the slots `slots`, in order,
    /// once those at `gone` are forgotten.
    pub(crate) fn place(
        &mut self,
        service: &Service,
        slots: &[u32],
        gone: &BTreeSet<ReplicaId>,
    ) -> Places {
        if slots.is_empty() {
            return Places::default();
        }
        self.build();
        let mut need = self.source.requirements_without(service, gone);
        let shape = Shape::of(&need);
        if let Some(refusals) = shape.as_ref().and_then(|shape| self.refused.get(shape)) {
            return Places { placed: Vec::new(), refusals: Some(Arc::clone(refusals)) };
        }
        let mut own = BTreeMap::<usize, u32>::new();
        for (replica, placement) in &service.placements {
            let is_own = placement.is_wanted() && service.is_current(placement.revision);
            if is_own
                && !gone.contains(replica)
                && let Some(i) = self.index_of(&placement.node)
            {
                *own.entry(i).or_insert(0) += 1;
            }
        }
        // A heap over all nodes pays off only for many instances.
        const HEAP_FROM: usize = 16;
        let mut heap = BinaryHeap::new();
        if slots.len() >= HEAP_FROM {
            heap = self
                .by_load
                .iter()
                .map(|(load, i)| Reverse((own.get(i).copied().unwrap_or(0), *load, *i)))
                .collect();
        }
        let mut placed = Vec::with_capacity(slots.len());
        for slot in slots {
            let found = match slots.len() >= HEAP_FROM {
                true => self.pop(&mut heap, &need),
                false => self.walk(&own, &need),
            };
            let Some(i) = found else {
                return Places { placed, refusals: Some(self.refuse(shape, &need)) };
            };
            let attempt = service.slot(*slot).attempts + 1;
            let id = InstanceId::new(service.id.clone(), *slot, attempt);
            let placement = self.take(i, &id, service);
            if !need.rules.is_empty() {
                let rules = Arc::make_mut(&mut need.rules);
                rules.iter_mut().for_each(|rule| rule.count(&self.nodes[i].node));
            }
            let count = own.entry(i).or_insert(0);
            *count += 1;
            if slots.len() >= HEAP_FROM {
                heap.push(Reverse((*count, load(&self.nodes[i].node, &self.nodes[i].used), i)));
            }
            placed.push((id, placement));
        }
        Places { placed, refusals: None }
    }

    /// Why each node refuses an instance. Remembered: on a full cluster many services ask for the
    /// same, and each is told of every node.
    fn refuse(&mut self, shape: Option<Shape>, need: &Requirements) -> Refusals {
        let reason = |(i, node): (usize, &Arc<NodeUsage>)| {
            let id = &node.node.id;
            Some((id.clone(), self.source.in_full(id, self.rejection(i, need)?)))
        };
        let refusals: Refusals = self.nodes.iter().enumerate().filter_map(reason).collect();
        if let Some(shape) = shape {
            self.refused.insert(shape, Arc::clone(&refusals));
        }
        refusals
    }

    /// The best node by walking from the least loaded one.
    fn walk(&self, own: &BTreeMap<usize, u32>, need: &Requirements) -> Option<usize> {
        let mut best: Option<(u32, usize)> = None;
        for (_, i) in &self.by_load {
            let count = own.get(i).copied().unwrap_or(0);
            if best.is_some_and(|(least, _)| least <= count) || self.rejection(*i, need).is_some() {
                continue;
            }
            best = Some((count, *i));
            if count == 0 {
                break;
            }
        }
        best.map(|(_, i)| i)
    }

    /// The best node by taking from the heap. A node that refuses is done with, unless placing
    /// elsewhere can make it acceptable again, as counting constraints can.
    fn pop(
        &self,
        heap: &mut BinaryHeap<Reverse<(u32, Load, usize)>>,
        need: &Requirements,
    ) -> Option<usize> {
        let mut aside = Vec::new();
        let found = loop {
            let Some(Reverse(entry)) = heap.pop() else { break None };
            match self.rejection(entry.2, need) {
                None => break Some(entry.2),
                Some(Reason::Constraint { .. }) => aside.push(Reverse(entry)),
                Some(_) => {}
            }
        };
        heap.extend(aside);
        found
    }

    fn take(&mut self, i: usize, id: &InstanceId, service: &Service) -> Placement {
        let spec = service.spec();
        let before = load(&self.nodes[i].node, &self.nodes[i].used);
        let ports = free_ports(&self.nodes[i], id, spec);
        let placement = Placement {
            revision: service.target,
            node: self.nodes[i].node.id.clone(),
            given: Given { ports },
            goal: model::Goal::Run,
            placed_at: model::Timestamp(0),
        };
        Arc::make_mut(&mut self.nodes[i]).allocate(id.clone(), &placement, spec);
        self.moved(i, before);
        placement
    }
}

/// The ports for an instance on a node that does not refuse it: fixed ones as they are, the
/// others from the node's range.
fn free_ports(node: &NodeUsage, id: &InstanceId, spec: &Spec) -> Vec<u16> {
    let wanted: Vec<_> = spec.all_ports().map(|port| port.port).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let (first, last) = node.node.ports;
    let count = u64::from(last - first) + 1;
    let mut next = hash(&id.to_string()) % count;
    let mut taken: BTreeSet<u16> = wanted.iter().copied().filter(|port| *port != 0).collect();
    let mut ports = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        if wanted != 0 {
            ports.push(wanted);
            continue;
        }
        // At most once around: `refusal` has counted that enough are free.
        for _ in 0..count {
            let port = first + next as u16;
            next = (next + 1) % count;
            let held = |protocol| node.ports.contains(&(port, protocol));
            if !held(Protocol::Tcp) && !held(Protocol::Udp) && taken.insert(port) {
                ports.push(port);
                break;
            }
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::{Room, hash};
    use crate::scenario::{World, replay};

    /// A full cluster has a long answer to each of many services.
    #[test]
    fn what_is_refused_everywhere_is_not_asked_for_again_until_something_is_placed() {
        let mut world = World::new();
        let all = "> node n1 cpu=2\n> apply /a resources.cpu=3 , /b resources.cpu=3 , /small";
        replay(&mut world, all);
        let mut room = Room::new(&world.state, &BTreeSet::new());
        let mut ask = |name: &str| {
            let service = world.state.service(&name.parse().unwrap()).unwrap();
            room.place(service, &[0], &BTreeSet::new()).refusals
        };
        let first = ask("/a").unwrap();
        assert!(Arc::ptr_eq(&first, &ask("/b").unwrap()));
        assert_eq!(ask("/small"), None);
        let again = ask("/b").unwrap();
        assert_ne!(first, again, "less is free");
    }

    #[test]
    fn the_search_for_ports_starts_where_fnv_says_and_apart_for_each_attempt() {
        // From the test vectors of FNV's authors.
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(hash(text), expected, "{text}");
        }
        let starts = (1..=8).map(|attempt| hash(&format!("/web~0.{attempt}")) % 12_000);
        assert_eq!(starts.collect::<BTreeSet<_>>().len(), 8);
    }
}
