//! Properties of plans, computed independently of the planner.

use std::collections::BTreeMap;

use muster_planner::Plan;
use muster_planner::scenario::World;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::model::{
    Availability, Goal, InstanceId, Millis, MoveState, Node, Operator, Phase, Placement, ReplicaId,
    Service, Share, Stage, Step, StopReason, Timestamp, Wait,
};

type Checked = Result<(), TestCaseError>;

fn ready(world: &World, service: &Service, replica: ReplicaId, placement: &Placement) -> bool {
    let spec = service.running_spec(placement.revision);
    let status = world.observed.status(&service.id, replica);
    status.and_then(|status| status.ready_at(spec)).is_some_and(|at| at <= world.now)
}

/// Whether an instance counts towards the minimum of healthy instances.
fn serves(world: &World, service: &Service, replica: ReplicaId, placement: &Placement) -> bool {
    let spec = service.running_spec(placement.revision);
    let status = world.observed.status(&service.id, replica);
    placement.is_wanted()
        && !world.observed.is_lost(&placement.node, world.now)
        && match service.is_current(placement.revision) {
            true => ready(world, service, replica, placement),
            false => status.is_some_and(|status| status.is_healthy(spec)),
        }
}

fn live(world: &World, service: &Service) -> u32 {
    let present = service.placements.iter().filter(|(replica, placement)| {
        let status = world.observed.status(&service.id, **replica);
        !world.observed.is_lost(&placement.node, world.now)
            && !status.is_some_and(|status| status.phase.is_over())
    });
    present.count() as u32
}

fn at_least(share: Share, whole: u32) -> u32 {
    match share {
        Share::Count(count) => count.min(whole),
        Share::Millionths(part) => (f64::from(whole) * f64::from(part) / 1e6).ceil() as u32,
    }
}

fn at_most(share: Share, whole: u32) -> u32 {
    match share {
        Share::Count(count) => whole + count,
        Share::Millionths(part) => {
            whole + (f64::from(whole) * f64::from(part) / 1e6).floor() as u32
        }
    }
}

/// An adopted plan neither terminated more instances than `min_healthy` allows nor placed more than
/// `max_surge` allows.
pub(crate) fn keeps_within_the_budget(before: &World, after: &World) -> Checked {
    for service in
        after.state.services().filter(|service| !service.is_leaving() && !service.is_paused())
    {
        let Some(was) = before.state.service(&service.id) else { continue };
        // A plan that rolls the service back is followed by another one for its instances.
        if was.target != service.target {
            continue;
        }
        let rollout = &service.spec().rollout;
        let wanted = service.spec().instances;
        let floor = at_least(rollout.min_healthy, wanted);
        let count = |world: &World, service: &Service| {
            let placements = service.placements.iter();
            placements.filter(|(replica, p)| serves(world, service, **replica, p)).count() as u32
        };
        let (had, has) = (count(before, was), count(after, service));
        prop_assert!(has >= had || has >= floor, "{}: {} -> {} of {}", service.id, had, has, floor);
        let mut ceiling = at_most(rollout.max_surge, wanted);
        // If both limits are equal, one more instance may be placed.
        if ceiling == floor {
            ceiling += 1;
        }
        let came = service.placements.keys().any(|replica| !was.placements.contains_key(replica));
        let now_live = live(after, service);
        prop_assert!(!came || now_live <= ceiling, "{}: {} of {}", service.id, now_live, ceiling);
    }
    Ok(())
}

fn rank(goal: &Goal) -> u8 {
    match goal {
        Goal::Run => 0,
        Goal::Drain { .. } => 1,
        Goal::Stop { .. } => 2,
    }
}

/// Goals, attempts and deployments only advance.
pub(crate) fn only_advances(before: &World, after: &World) -> Checked {
    for service in after.state.services() {
        let Some(was) = before.state.service(&service.id) else { continue };
        for (replica, placement) in &service.placements {
            let Some(was) = was.placements.get(replica) else { continue };
            prop_assert!(rank(&was.goal) <= rank(&placement.goal));
            prop_assert_eq!(&was.node, &placement.node, "an instance moved");
        }
        for (slot, was) in was.slots.iter().enumerate() {
            prop_assert!(service.slot(slot as u32).attempts >= was.attempts);
        }
    }
    for deployment in before.state.deployments().filter(|d| d.stage.is_over()) {
        let now = after.state.deployment(deployment.id);
        prop_assert!(now.is_none_or(|now| now.stage == deployment.stage));
    }
    Ok(())
}

/// A new instance fits on its node, which satisfies the constraints of the service.
pub(crate) fn may_be_placed(world: &World, step: &Step) -> Checked {
    let Step::Place { instance, node, .. } = step else { return Ok(()) };
    let service = world.state.service(&instance.service).expect("it is placed");
    let host = world.state.node(node).expect("it is there");
    prop_assert_eq!(host.node.availability, Availability::Active);
    prop_assert!(!world.observed.is_lost(node, world.now), "placed on a lost node");
    let (used, needed) = (host.used, service.spec().resources);
    let capacity = host.node.capacity.expect("an agent has called");
    prop_assert!(used.cpu.0 + needed.cpu.0 <= capacity.cpu.0, "{:?}", step);
    prop_assert!(used.memory.0 + needed.memory.0 <= capacity.memory.0, "{:?}", step);
    let stands_on =
        |placement: &&Placement| placement.is_wanted() && service.is_current(placement.revision);
    let others = service.placements.values().filter(stands_on);
    let others = others.filter_map(|placement| world.state.node(&placement.node));
    let others: Vec<&Node> = others
        .map(|node| &node.node)
        .filter(|node| node.availability != Availability::Draining)
        .collect();
    for constraint in &service.spec().constraints {
        let value = |node: &Node| node.attribute(&constraint.attribute).map(String::from);
        let own = value(&host.node);
        let same = others.iter().filter(|node| value(node) == own).count();
        let wanted = constraint.value.as_deref();
        let keeps = match (constraint.operator, own.as_deref()) {
            (Operator::Unlike, None) => true,
            (_, None) => false,
            (Operator::Unique, _) => same == 0,
            (Operator::Cluster, Some(own)) => match wanted {
                Some(wanted) => wanted == own,
                None => {
                    others.iter().filter_map(|node| value(node)).next().is_none_or(|v| v == own)
                }
            },
            (Operator::GroupBy, Some(_)) => {
                let mut groups = BTreeMap::<String, usize>::new();
                others
                    .iter()
                    .filter_map(|n| value(n))
                    .for_each(|v| *groups.entry(v).or_default() += 1);
                let wanted = wanted.map_or(0, |wanted| wanted.parse().unwrap());
                let least = groups.values().min().copied().unwrap_or(0);
                same == 0 || (same == least && groups.len() >= wanted)
            }
            (Operator::MaxPer, Some(_)) => same < wanted.unwrap().parse().unwrap(),
            (Operator::Like, Some(own)) => ["a", "b"].contains(&own),
            (Operator::Unlike, Some(own)) => own != "a",
            (Operator::Is, Some(own)) => wanted == Some(own),
        };
        prop_assert!(keeps, "{:?} breaks {}", step, constraint);
    }
    Ok(())
}

/// Whether the adoption of a plan enables further steps at once: a service has arrived or failed,
/// or an unhealthy instance that blocked its replacement must terminate.
pub(crate) fn opens_up(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| match step {
        Step::Arrive { .. } | Step::Fail { .. } => true,
        Step::Stop { why, .. } | Step::Drain { why, .. } => *why == StopReason::Unhealthy,
        _ => false,
    })
}

/// A plan without steps stays the same until its wake-up if nothing is observed until then.
pub(crate) fn holds_until_its_wake(world: &World) -> Checked {
    let plan = world.plan();
    if !plan.steps.is_empty() {
        return Ok(());
    }
    let at = plan.wake_at.map_or(world.now.after(Millis::secs(86_400)), |at| Timestamp(at.0 - 1));
    let later = muster_planner::plan(&world.state, &world.observed, at);
    prop_assert_eq!(plan, later, "{} later", at.since(world.now));
    Ok(())
}

/// A service with an empty slot, or with an instance that is not at its target, has a wait.
pub(crate) fn every_open_slot_waits(world: &World) -> Checked {
    if !world.observed.is_settled(&world.state, world.now) {
        return Ok(());
    }
    let waits = world.plan().waits;
    for service in world.state.services() {
        let there = service.placements.iter().filter(|(replica, placement)| {
            let is_there = match service.is_paused() {
                true => placement.is_suspended(),
                false => ready(world, service, **replica, placement),
            };
            placement.is_wanted()
                && service.is_current(placement.revision)
                && is_there
                && !world.observed.is_lost(&placement.node, world.now)
        });
        let complete = there.count() == service.placements.len()
            && service.placements.len() == service.wanted() as usize
            && service.deployment.is_none();
        let waits = waits.iter().any(|(id, _)| *id == service.id);
        prop_assert!(
            complete || waits,
            "{} waits for nothing: {:?}",
            service.id,
            service.placements
        );
    }
    Ok(())
}

/// Every deployment has ended or is paused or held, or its services wait for a user to thaw them or
/// for other deployments.
pub(crate) fn no_deployment_goes_on(world: &World) -> Checked {
    let waits = world.plan().waits;
    let goes_on = |stage: &Stage| !stage.is_over() && !stage.is_suspended();
    for deployment in world.state.deployments().filter(|deployment| goes_on(&deployment.stage)) {
        for m in deployment.moves.iter().filter(|m| m.state == MoveState::Moving) {
            let waits: Vec<_> = waits.iter().filter(|(id, _)| *id == m.service).collect();
            let waits_for_user = waits.iter().any(|(_, wait)| {
                matches!(wait, Wait::Frozen { .. })
                    || matches!(wait, Wait::Dependencies { .. } | Wait::Dependents { .. })
            });
            prop_assert!(waits_for_user, "{:?} of {:?}: {:?}", m, deployment.stage, waits);
        }
    }
    Ok(())
}

/// No plan has steps any more: each service has arrived, or has a wait that cannot end by itself.
pub(crate) fn has_settled(world: &World) -> Checked {
    let plan = world.plan();
    prop_assert_eq!(&plan.steps, &vec![]);
    for service in world.state.services() {
        let waits: Vec<&Wait> =
            plan.waits.iter().filter(|(id, _)| *id == service.id).map(|(_, wait)| wait).collect();
        let blocked = waits.iter().any(|wait| {
            matches!(wait, Wait::NoNode { .. } | Wait::Still { .. } | Wait::Frozen { .. })
                || matches!(wait, Wait::Paused { .. })
                || matches!(wait, Wait::Dependencies { .. } | Wait::Dependents { .. })
        });
        if blocked {
            continue;
        }
        for (replica, placement) in &service.placements {
            let instance = InstanceId { service: service.id.clone(), replica: *replica };
            let phase = world.status(&instance).phase;
            prop_assert!(placement.is_wanted(), "{:?} {:?}: {:?}", instance, phase, waits);
            prop_assert!(phase == Phase::Running || service.is_paused(), "{:?}", phase);
            prop_assert_eq!(placement.is_suspended(), service.is_paused(), "{:?}", instance);
        }
        prop_assert_eq!(service.placements.len(), service.wanted() as usize, "{:?}", waits);
        prop_assert_eq!(service.deployment, None, "{}: {:?}", service.id, waits);
    }
    Ok(())
}
