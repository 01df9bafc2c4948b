//! Selects the surplus instances when a service has more than it should.
//!
//! Instances that are not ready are selected first, then the youngest or the oldest, depending on
//! `scale_down`. With a `GROUP_BY` constraint they come from the largest group first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use model::{Operator, ScaleDown, Service, State};

use crate::instance::Instance;

/// Splits instances into `wanted` ones that stay, by replica, and the surplus ones, in the order in
/// which they terminate.
pub(crate) fn split<'a>(
    state: &State,
    service: &Service,
    mut instances: Vec<Instance<'a>>,
    wanted: usize,
) -> (Vec<Instance<'a>>, Vec<Instance<'a>>) {
    let excess = instances.len().saturating_sub(wanted);
    if excess == 0 {
        return (instances, Vec::new());
    }
    let age = |i: &Instance<'_>| (i.placement.placed_at, i.replica);
    match service.spec().scale_down {
        ScaleDown::Youngest => instances.sort_by_key(|i| (i.ready, Reverse(age(i)))),
        ScaleDown::Oldest => instances.sort_by_key(|i| (i.ready, age(i))),
    }
    let constraints = &service.spec().constraints;
    let spread = constraints.iter().find(|c| c.operator == Operator::GroupBy);
    let group_of = |instance: &Instance<'_>| {
        let node = state.node(&instance.placement.node)?;
        node.node.attribute(&spread?.attribute).map(String::from)
    };
    let mut groups = BTreeMap::<_, VecDeque<_>>::new();
    for (rank, instance) in instances.into_iter().enumerate() {
        groups.entry(group_of(&instance)).or_default().push_back((rank, instance));
    }
    let mut surplus = Vec::with_capacity(excess);
    for _ in 0..excess {
        let first = |group: &VecDeque<(usize, _)>| group.front().map(|(rank, _)| *rank);
        let largest = groups.values_mut().max_by_key(|group| (group.len(), Reverse(first(group))));
        surplus.extend(largest.and_then(VecDeque::pop_front).map(|(_, instance)| instance));
    }
    let mut stay: Vec<_> = groups.into_values().flatten().map(|(_, instance)| instance).collect();
    stay.sort_by_key(|instance| instance.replica);
    (stay, surplus)
}
