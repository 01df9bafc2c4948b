//! Reports of daemons. Changes become events, and the services concerned are planned again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{GatewayReport, Report, ReportReply};
use model::{
    About, Agent, Daemon, Event, Exit, GatewayStatus, InstanceId, Mismatch, NodeId, NodeUsage,
    Phase, Refusal, Status, Timestamp, What,
};

use super::{Core, Effect, RequestError};

impl Core {
    /// Returns the node of a daemon that has registered. Reports refer to the durable state: a
    /// registration in progress is unknown to daemons, and a removal in progress may fail.
    fn calling(&self, node: &NodeId, daemon: &'static str) -> Result<Arc<NodeUsage>, RequestError> {
        let has_called = |known: &&Arc<NodeUsage>| match daemon {
            "gateway" => known.node.gateway,
            _ => known.node.capacity.is_some(),
        };
        let unknown = || Refusal::Conflict {
            message: format!("no {daemon} on node {node} is known: it must register first"),
        };
        let known = self.durable.node(node).filter(has_called).map(Arc::clone);
        known.ok_or_else(|| RequestError::Refused(unknown()))
    }

    pub(super) fn take_report(
        &mut self,
        report: Report,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<ReportReply, RequestError> {
        let placed = self.calling(&report.node, "agent")?;
        if self.is_outdated(&report) {
            let known = self.observed.agents.get(&report.node);
            return Ok(ReportReply { resync: known.is_some_and(|agent| !agent.synced) });
        }
        self.take_refusal(report.node.clone(), Daemon::Agent, None, now, effects);
        let synced = self.take_heartbeat(&report, now);
        let has_unplaced = self.take_unplaced(&placed, &report, now, effects);
        if report.whole {
            self.remove_unreported(&placed, &report);
        }
        for (instance, status) in report.instances {
            if placed.instances.contains(&instance) {
                self.take_status(instance, status, now, effects);
            }
        }
        // Changes do not show when an instance that is not placed has ended.
        Ok(ReportReply { resync: !synced || has_unplaced && !report.whole })
    }

    /// Records the instances of a report that are not placed on the node. Those that were removed
    /// are stopped; those that this history has never placed there keep running until an operator
    /// decides, since the store may be the wrong one. Returns whether the node has any.
    fn take_unplaced(
        &mut self,
        placed: &NodeUsage,
        report: &Report,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let node = &report.node;
        let before = self.observed.unknown.remove(node).unwrap_or_default();
        let removed_before = self.observed.removed.remove(node).unwrap_or_default();
        let (mut unknown, mut removed) = match report.whole {
            true => (BTreeSet::new(), BTreeSet::new()),
            false => (before.clone(), removed_before.clone()),
        };
        for (instance, _) in &report.instances {
            if placed.instances.contains(instance) {
                continue;
            }
            // The state may place an unknown instance later, but that is another one.
            let was_removed = removed_before.contains(instance)
                || !before.contains(instance)
                    && self.durable.has_placed(instance)
                    && self.durable.placement(instance).is_none();
            match was_removed {
                true => removed.insert(instance.clone()),
                false => unknown.insert(instance.clone()),
            };
        }
        if unknown.len() > before.len() {
            let count = unknown.len();
            tracing::error!(%node, count, "an agent runs instances that this server did not place");
            let about = About::Node(node.clone());
            let what = What::UnknownInstances { count };
            self.event_buffer.publish_observed(
                Event { at: now, about, by: None, what },
                now,
                effects,
            );
        }
        if unknown != before {
            self.work_queue.touch_all();
            self.due = true;
            self.readers_due = true;
        }
        if !removed.is_subset(&removed_before) {
            self.readers_due = true;
            self.stops_due.insert(node.clone());
        }
        let has_unplaced = !unknown.is_empty() || !removed.is_empty();
        if !unknown.is_empty() {
            self.observed.unknown.insert(node.clone(), unknown);
        }
        if !removed.is_empty() {
            self.observed.removed.insert(node.clone(), removed);
        }
        has_unplaced
    }

    /// Records that a daemon does not follow this server, or that it does.
    pub(super) fn take_refusal(
        &mut self,
        node: NodeId,
        daemon: Daemon,
        mismatch: Option<Mismatch>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let key = (node.clone(), daemon);
        let known = self.observed.refused.get(&key).copied();
        if known == mismatch {
            return;
        }
        let what = match mismatch {
            Some(mismatch) => {
                self.observed.refused.insert(key, mismatch);
                What::DaemonRefused { daemon, mismatch }
            }
            None => {
                self.observed.refused.remove(&key);
                What::DaemonAdmitted { daemon }
            }
        };
        match mismatch {
            Some(mismatch) => tracing::error!(%node, %daemon, "a daemon is refused: {mismatch}"),
            None => tracing::info!(%node, %daemon, "a daemon that was refused is admitted"),
        }
        let about = About::Node(node);
        let event = Event { at: now, about, by: None, what };
        self.event_buffer.publish_observed(event, now, effects);
        self.readers_due = true;
    }

    /// Whether a report was delayed and is older than the known state.
    fn is_outdated(&self, report: &Report) -> bool {
        let last = self.last_reports.get(&report.node).filter(|(life, _)| *life == report.life);
        last.is_some_and(|(_, last)| (1..=*last).contains(&report.number))
    }

    /// Records that the agent is reachable. Returns whether all its instances are known.
    fn take_heartbeat(&mut self, report: &Report, now: Timestamp) -> bool {
        let node = &report.node;
        let known = self.observed.agents.get(node).copied();
        let was_lost = known.is_some() && self.observed.is_lost(node, now);
        let last = self.last_reports.insert(node.clone(), (report.life, report.number));
        // A complete report of another incarnation of the agent does not count.
        let is_same_incarnation = last.is_none_or(|(life, _)| life == report.life);
        let synced = report.whole || is_same_incarnation && known.is_some_and(|agent| agent.synced);
        self.observed.agents.insert(node.clone(), Agent { seen_at: now, synced });
        if was_lost || known.is_none_or(|agent| agent.synced != synced) {
            // Plans made without knowledge of this node may be outdated.
            self.work_queue.touch_all();
            self.due = true;
            self.readers_due = true;
        }
        synced
    }

    /// Announces the nodes that have become lost since the last turn, and those that have returned.
    pub(super) fn announce_lost_nodes(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if *self.work_queue.lost() == self.lost {
            return;
        }
        let before = std::mem::replace(&mut self.lost, self.work_queue.lost().clone());
        for node in before.symmetric_difference(&self.lost) {
            let what = match self.lost.contains(node) {
                true => What::NodeLost,
                false if self.state.node(node).is_none() => continue,
                false => What::NodeReturned,
            };
            let event = Event { at: now, about: About::Node(node.clone()), by: None, what };
            self.event_buffer.publish_observed(event, now, effects);
        }
        self.readers_due = true;
    }

    /// Removes the statuses of instances that a complete report does not contain.
    fn remove_unreported(&mut self, placed: &NodeUsage, report: &Report) {
        let reported: BTreeSet<&InstanceId> =
            report.instances.iter().map(|(instance, _)| instance).collect();
        for instance in placed.instances.iter().filter(|instance| !reported.contains(instance)) {
            if self.observed.status(&instance.service, instance.replica).is_some() {
                self.observed.remove_status(instance);
                self.has_changed(instance);
            }
        }
    }

    /// Records the status of an instance, and what has changed as events.
    fn take_status(
        &mut self,
        instance: InstanceId,
        mut status: Status,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let before = self.observed.status(&instance.service, instance.replica);
        limit_start(&mut status, before, now);
        if before == Some(&status) {
            return;
        }
        let is_change =
            before.is_none_or(|before| before.without_timestamps() != status.without_timestamps());
        for what in differences(before, &status) {
            let about = About::Instance(instance.clone());
            self.event_buffer.publish_observed(
                Event { at: now, about, by: None, what },
                now,
                effects,
            );
        }
        if is_change {
            self.has_changed(&instance);
        }
        self.observed.set_status(&instance, status);
    }

    /// Handles an observed change of an instance.
    fn has_changed(&mut self, instance: &InstanceId) {
        self.work_queue.touch(&instance.service);
        self.routes_due.insert(instance.service.clone());
        self.due = true;
        self.readers_due = true;
    }

    pub(super) fn take_gateway_report(
        &mut self,
        report: GatewayReport,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<ReportReply, RequestError> {
        let node = report.node;
        self.calling(&node, "gateway")?;
        self.take_refusal(node.clone(), Daemon::Gateway, None, now, effects);
        let known = self.observed.gateways.get(&node);
        let changed = known
            .is_none_or(|known| known.generation != report.generation || known.busy != report.busy);
        if changed {
            // Services that wait for a gateway's confirmation are on the work queue already. Any
            // service may have waited for the first report of a gateway.
            if known.is_none() {
                self.work_queue.touch_all();
            }
            self.due = true;
            self.readers_due = true;
        }
        let (generation, busy, stuck) = (report.generation, report.busy, report.stuck);
        let none = BTreeMap::new();
        for what in thread_events(known.map_or(&none, |known| &known.stuck), &stuck) {
            let about = About::Node(node.clone());
            self.event_buffer.publish_observed(
                Event { at: now, about, by: None, what },
                now,
                effects,
            );
            self.readers_due = true;
        }
        let status = GatewayStatus { seen_at: now, generation, busy, stuck };
        self.observed.gateways.insert(node.clone(), status);
        let mut failed: BTreeMap<_, _> =
            self.failed.iter().filter(|((_, at), _)| *at != node).map(clone_pair).collect();
        failed.extend(report.failed.into_iter().map(|(listen, why)| ((listen, node.clone()), why)));
        if failed != *self.failed {
            self.failed = Arc::new(failed);
            self.readers_due = true;
        }
        Ok(ReportReply::default())
    }
}

/// Corrects a start time in the future, which a node reports if its clock is ahead: services would
/// wait for it until the clock is set. Such a start counts from when it was first reported.
fn limit_start(status: &mut Status, before: Option<&Status>, now: Timestamp) {
    if status.started_at.is_some_and(|at| at > now) {
        let known = before.filter(|before| before.run == status.run);
        status.started_at = known.and_then(|before| before.started_at).or(Some(now));
    }
}

fn clone_pair<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// The events between two consecutive reports of a gateway's stuck threads.
pub(super) fn thread_events(
    before: &BTreeMap<u32, String>,
    after: &BTreeMap<u32, String>,
) -> Vec<What> {
    let stuck = after.iter().filter(|(thread, _)| !before.contains_key(thread));
    let recovered = before.keys().filter(|thread| !after.contains_key(thread));
    stuck
        .map(|(thread, task)| What::GatewayThreadStuck { thread: *thread, task: task.clone() })
        .chain(recovered.map(|thread| What::GatewayThreadRecovered { thread: *thread }))
        .collect()
}

/// The events between two consecutive statuses of an instance.
fn differences(before: Option<&Status>, after: &Status) -> Vec<What> {
    let mut facts = Vec::new();
    let exit = new_exit(before, after);
    let not_started = before.filter(|before| exit.is_none() && could_not_start(before, after));
    facts.extend(
        exit.map(|exit| What::Exited { run: ended_run(after), exit: Box::new(exit.clone()) }),
    );
    facts.extend(
        not_started.map(|b| What::NotStarted { run: b.run, detail: after.message.clone() }),
    );
    facts.extend(phase_change(before, after, not_started.is_some()));
    let same_run = before.filter(|before| before.run == after.run);
    match (same_run.and_then(|before| before.healthy), after.healthy) {
        (Some(true), Some(true)) | (Some(false), Some(false)) | (_, None) => {}
        (_, Some(true)) => facts.push(What::Healthy),
        (_, Some(false)) => {
            let cause = after.checks.iter().find_map(|check| check.last_failure_cause.clone());
            facts.push(What::Unhealthy { cause });
        }
    }
    for (i, check) in after.checks.iter().enumerate() {
        let known = same_run.and_then(|before| before.checks.get(i));
        let count = check.consecutive_failures;
        if count > known.map_or(0, |known| known.consecutive_failures) {
            let cause = check.last_failure_cause.clone();
            facts.push(What::CheckFailed { check: i, count, cause });
        }
        if count == 0 && known.is_some_and(|known| known.consecutive_failures > 0) {
            facts.push(What::CheckPassed { check: i });
        }
    }
    let was_ready = same_run.is_some_and(|before| before.ready);
    if after.ready && !was_ready && after.phase == Phase::Running {
        facts.push(What::Ready);
    }
    facts
}

/// The exit that the agent has reported since `before`.
fn new_exit<'a>(before: Option<&Status>, after: &'a Status) -> Option<&'a Exit> {
    let known = before.and_then(|before| before.last_exit.as_deref());
    after.last_exit.as_deref().filter(|exit| known != Some(exit))
}

/// The run that ended with `last_exit`: the current run if the instance has terminated and had
/// started, else the previous one.
fn ended_run(status: &Status) -> u32 {
    match status.phase.is_over() && status.started_at.is_some() {
        true => status.run,
        false => status.run.saturating_sub(1).max(1),
    }
}

/// Whether the run of `before` was abandoned without having started.
fn could_not_start(before: &Status, after: &Status) -> bool {
    let starting = before.phase == Phase::Starting && after.phase == Phase::Starting;
    starting && before.run < after.run
}

fn phase_change(before: Option<&Status>, after: &Status, not_started: bool) -> Option<What> {
    match after.phase {
        Phase::Starting if not_started => None,
        Phase::Starting
            if before.is_some_and(|before| before.explanation() == after.explanation()) =>
        {
            None
        }
        Phase::Starting => {
            let retry_after = after.retry_after;
            after.message.clone().map(|detail| What::Starting { detail, retry_after })
        }
        Phase::Failed if before.is_none_or(|before| before.phase != Phase::Failed) => {
            Some(What::Failed { detail: after.message.clone() })
        }
        Phase::Running if before.is_none_or(|b| b.run != after.run || b.phase != after.phase) => {
            Some(What::Running { run: after.run })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use model::CheckResult;

    use super::*;

    #[test]
    fn a_check_that_passes_again_is_an_event_although_the_instance_was_healthy() {
        let status = |consecutive_failures| {
            let check = CheckResult { consecutive_failures, ..CheckResult::default() };
            let status = Status::new(Phase::Running, model::Timestamp(1));
            Status { run: 1, healthy: Some(true), checks: vec![check], ..status }
        };
        let kinds = |before, after| -> Vec<_> {
            let facts = differences(Some(&status(before)), &status(after));
            facts.iter().map(|what| what.kind().to_string()).collect()
        };
        assert_eq!(kinds(0, 1), ["check-failed"]);
        assert_eq!(kinds(1, 0), ["check-passed"]);
        assert_eq!(kinds(0, 0), [""; 0]);
    }
}
