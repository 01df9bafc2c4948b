//! Selects nodes for new instances.
//!
//! The feasibility rule of the model filters the nodes. Of the others the one with the fewest
//! instances of the same service is selected, then the least loaded, then the first by name: this
//! spreads services over nodes and is deterministic.
//!
//! Two types for two phases: a [`Packer`] collects the resources that terminated instances release;
//! with the first placement it becomes a [`FreeCapacity`], which only ever shrinks: *placing never
//! frees anything*. Two shortcuts rely on that. A node that rejected an instance is not asked again
//! for the next one of the same service, and requirements that all nodes rejected are not checked
//! again until something is placed (the reasons may change then). The exception are constraints
//! that count instances: placing one elsewhere can make a node acceptable again, so such nodes are
//! kept.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use model::{
    Bytes, Cpu, Given, InstanceId, Node, NodeId, NodeUsage, Placement, Protocol, Reason, ReplicaId,
    Requirements, Resources, Service, Spec, State,
};

/// A load: the larger of the used shares of processor and memory, in 2^-20.
type Load = u32;

/// The nodes of a cluster while a plan is made, with the effects of the plan's steps.
pub struct Packer {
    state: State,
    lost: BTreeSet<NodeId>,
    unreported: BTreeSet<NodeId>,
    unknown: BTreeMap<NodeId, usize>,
    /// The holdings of terminated instances. Complete before `free` is made, and empty afterwards.
    released: Vec<(InstanceId, Placement, Arc<Spec>)>,
    /// Made by the first placement: most plans place nothing.
    free: Option<FreeCapacity>,
}

/// The capacity that is left on each node. It never grows.
struct FreeCapacity {
    /// In the order of their names; the index of a node in here identifies it below.
    nodes: Vec<Arc<NodeUsage>>,
    /// The reports of the agent of the node at the same index.
    reports: Vec<Reports>,
    /// Each node once, with the load that it has in `nodes`.
    by_load: BTreeSet<(Load, usize)>,
    /// Requirements that all nodes have rejected since the last placement, with the reasons.
    refused: BTreeMap<Shape, Refusals>,
}

/// Whether the server hears the agent of a node.
#[derive(Debug, Clone, Copy)]
enum Reports {
    /// It reports.
    Arrive,
    /// It has been silent for too long.
    Missing,
    /// None has arrived since observation began.
    Awaited,
    /// They contain this number of instances that this history did not place.
    Unknown(usize),
}

fn load(node: &Node, used: &Resources) -> Load {
    let share = |used: u64, all: u64| ((used << 20) / all.max(1)).min(u64::from(u32::MAX)) as u32;
    let capacity = node.capacity.unwrap_or(Resources::NONE);
    // Memory in KiB, so that no amount of it is shifted out of the word.
    share(used.cpu.0.into(), capacity.cpu.0.into())
        .max(share(used.memory.0 >> 10, capacity.memory.0 >> 10))
}

/// Each node with the reason why it rejects an instance.
type Refusals = Arc<[(NodeId, Reason)]>;

/// The placements of new instances of a service.
#[derive(Default)]
pub(crate) struct Packed {
    /// The instances that a node accepts.
    pub(crate) placed: Vec<(InstanceId, Placement)>,
    /// Why each node rejects the next instance, unless all were placed.
    pub(crate) refusals: Option<Refusals>,
}

/// The requirements that the rejection of a node depends on. Requirements with constraints have no
/// shape: their rejections depend on the service as well.
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

/// FNV-1a, the start of the search for a free port. Successive instances start at distant ports, so
/// that a port that was just released is not assigned again immediately.
fn hash(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Packer {
    /// The capacity of the nodes in `state`, without the lost nodes, those whose agents have not
    /// reported yet, and those with `unknown` instances. Computed by the first placement.
    pub fn new(
        state: &State,
        lost: &BTreeSet<NodeId>,
        unreported: &BTreeSet<NodeId>,
        unknown: &BTreeMap<NodeId, BTreeSet<InstanceId>>,
    ) -> Packer {
        Packer {
            state: state.clone(),
            lost: lost.clone(),
            unreported: unreported.clone(),
            unknown: unknown.iter().map(|(node, of)| (node.clone(), of.len())).collect(),
            released: Vec::new(),
            free: None,
        }
    }

    /// Releases the resources of a terminated instance. Must be called before the first
    /// [`Self::place`].
    pub(crate) fn release(&mut self, id: InstanceId, placement: &Placement, spec: &Arc<Spec>) {
        debug_assert!(self.free.is_none(), "capacity is released before anything is placed");
        self.released.push((id, placement.clone(), Arc::clone(spec)));
    }

    /// Places new instances of `service` at its target in `slots`, in order, as if the replicas in
    /// `reaped` were removed.
    pub(crate) fn place(
        &mut self,
        service: &Service,
        slots: &[u32],
        reaped: &BTreeSet<ReplicaId>,
    ) -> Packed {
        if slots.is_empty() {
            return Packed::default();
        }
        let Packer { state, lost, unreported, unknown, released, free } = self;
        let free = free.get_or_insert_with(|| {
            let reports = |node: &NodeId| match (unreported.contains(node), lost.contains(node)) {
                (true, _) => Reports::Awaited,
                (false, true) => Reports::Missing,
                (false, false) => match unknown.get(node) {
                    Some(count) if *count > 0 => Reports::Unknown(*count),
                    _ => Reports::Arrive,
                },
            };
            FreeCapacity::new(state, reports, std::mem::take(released))
        });
        free.place(state, service, slots, reaped)
    }
}

impl FreeCapacity {
    fn new(
        state: &State,
        reports: impl Fn(&NodeId) -> Reports,
        released: Vec<(InstanceId, Placement, Arc<Spec>)>,
    ) -> FreeCapacity {
        let nodes: Vec<_> = state.node_usages().cloned().collect();
        let reports = nodes.iter().map(|n| reports(&n.node.id)).collect();
        let (by_load, refused) = Default::default();
        let mut free = FreeCapacity { nodes, reports, by_load, refused };
        for (id, placement, spec) in released {
            if let Some(i) = free.index_of(&placement.node) {
                Arc::make_mut(&mut free.nodes[i]).release(&id, &placement, &spec);
            }
        }
        let loads = free.nodes.iter().enumerate().map(|(i, n)| (load(&n.node, &n.used), i));
        free.by_load = loads.collect();
        free
    }

    fn index_of(&self, node: &NodeId) -> Option<usize> {
        self.nodes.binary_search_by(|other| other.node.id.cmp(node)).ok()
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
        match self.reports[i] {
            Reports::Arrive => self.nodes[i].rejection(need),
            Reports::Missing => Some(Reason::Silent),
            Reports::Unknown(count) => Some(Reason::UnknownInstances { count }),
            Reports::Awaited => Some(self.nodes[i].rejection(need).unwrap_or(Reason::Unreported)),
        }
    }

    fn place(
        &mut self,
        state: &State,
        service: &Service,
        slots: &[u32],
        reaped: &BTreeSet<ReplicaId>,
    ) -> Packed {
        let mut need = state.requirements_without(service, reaped);
        let shape = Shape::of(&need);
        if let Some(refusals) = shape.as_ref().and_then(|shape| self.refused.get(shape)) {
            return Packed { placed: Vec::new(), refusals: Some(Arc::clone(refusals)) };
        }
        let mut own = BTreeMap::<usize, u32>::new();
        for (replica, placement) in &service.placements {
            let is_own = placement.is_wanted() && service.is_current(placement.revision);
            if is_own
                && !reaped.contains(replica)
                && let Some(i) = self.index_of(&placement.node)
            {
                *own.entry(i).or_insert(0) += 1;
            }
        }
        // Building a heap of all nodes is faster than walking only for many instances.
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
                return Packed { placed, refusals: Some(self.refuse(state, shape, &need)) };
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
        Packed { placed, refusals: None }
    }

    /// The reasons why each node rejects an instance. They are kept: on a full cluster many
    /// services have the same requirements and each gets the reasons of all nodes.
    fn refuse(&mut self, state: &State, shape: Option<Shape>, need: &Requirements) -> Refusals {
        let reason = |(i, node): (usize, &Arc<NodeUsage>)| {
            let id = &node.node.id;
            Some((id.clone(), state.with_conflict(id, self.rejection(i, need)?)))
        };
        let refusals: Refusals = self.nodes.iter().enumerate().filter_map(reason).collect();
        if let Some(shape) = shape {
            self.refused.insert(shape, Arc::clone(&refusals));
        }
        refusals
    }

    /// The best node by walking from the least loaded one. Faster than a heap for few instances.
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

    /// The best node by popping the heap. A node that rejects is dropped for the other slots,
    /// because placing never frees anything, except one that counting constraints may accept later.
    fn pop(
        &self,
        heap: &mut BinaryHeap<Reverse<(u32, Load, usize)>>,
        need: &Requirements,
    ) -> Option<usize> {
        let mut constrained = Vec::new();
        let found = loop {
            let Some(Reverse(entry)) = heap.pop() else { break None };
            match self.rejection(entry.2, need) {
                None => break Some(entry.2),
                Some(Reason::Constraint { .. }) => constrained.push(Reverse(entry)),
                Some(_) => {}
            }
        };
        heap.extend(constrained);
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
            pause: None,
            placed_at: model::Timestamp(0),
        };
        Arc::make_mut(&mut self.nodes[i]).allocate(id.clone(), &placement, spec);
        self.moved(i, before);
        placement
    }
}

/// The ports of an instance on a node that accepts it: fixed ports unchanged, the others from the
/// node's range.
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
        // At most one pass over the range: `rejection` has checked that enough ports are free.
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
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::{Packer, hash};
    use crate::scenario::{World, replay};

    /// On a full cluster many services get the same long list of reasons.
    #[test]
    fn requirements_that_all_nodes_rejected_are_checked_again_only_after_a_placement() {
        let mut world = World::new();
        let all = "> node n1 cpu=2\n> apply /a resources.cpu=3 , /b resources.cpu=3 , /small";
        replay(&mut world, all);
        let mut packer =
            Packer::new(&world.state, &BTreeSet::new(), &BTreeSet::new(), &BTreeMap::new());
        let mut refusals = |name: &str| {
            let service = world.state.service(&name.parse().unwrap()).unwrap();
            packer.place(service, &[0], &BTreeSet::new()).refusals
        };
        let first = refusals("/a").unwrap();
        assert!(Arc::ptr_eq(&first, &refusals("/b").unwrap()));
        assert_eq!(refusals("/small"), None);
        let again = refusals("/b").unwrap();
        assert_ne!(first, again, "less capacity is free");
    }

    #[test]
    fn the_search_for_ports_starts_at_the_fnv_hash_of_each_attempt() {
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
