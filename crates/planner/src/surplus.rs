//! Which instances leave when there are too many.
//!
//! Those that are not ready leave first, then the youngest or the oldest, as the service says. Where a constraint wants instances
//! spread evenly, the most crowded place gives first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use model::{Operator, ScaleDown, Service, State};

use crate::instance::Instance;

/// Splits instances into `wanted` ones that stay, by replica, and those that leave, in the order in
/// which they are to leave.
pub(crate) fn split<'a>(
    state: &State,
    service: &Service,
    mut instances: Vec<Instance<'a>>,
    wanted: usize,
) -> (Vec<Instance<'a>>, Vec<Instance<'a>>) {
    let too_many = instances.len().saturating_sub(wanted);
    if too_many == 0 {
        return (instances, Vec::new());
    }
    let age = |i: &Instance<'_>| (i.placement.placed_at, i.replica);
    match service.spec().scale_down {
        ScaleDown::Youngest => instances.sort_by_key(|i| (i.ready, Reverse(age(i)))),
        ScaleDown::Oldest => instances.sort_by_key(|i| (i.ready, age(i))),
    }
    let constraints = &service.spec().constraints;
    let spread = constraints.iter().find(|c| c.operator == Operator::GroupBy);
    let place = |instance: &Instance<'_>| {
        let node = state.node(&instance.placement.node)?;
        node.node.attribute(&spread?.attribute).map(String::from)
    };
    let mut crowds = BTreeMap::<_, VecDeque<_>>::new();
    for (rank, instance) in instances.into_iter().enumerate() {
        crowds.entry(place(&instance)).or_default().push_back((rank, instance));
    }
    let mut surplus = Vec::with_capacity(too_many);
    for _ in 0..too_many {
        let first = |crowd: &VecDeque<(usize, _)>| crowd.front().map(|(rank, _)| *rank);
        let largest = crowds.values_mut().max_by_key(|crowd| (crowd.len(), Reverse(first(crowd))));
        surplus.extend(largest.and_then(VecDeque::pop_front).map(|(_, instance)| instance));
    }
    let mut stay: Vec<_> = crowds.into_values().flatten().map(|(_, instance)| instance).collect();
    stay.sort_by_key(|instance| instance.replica);
    (stay, surplus)
}
