//! Taking in reports. What changed is noticed as events, and its services are planned again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{GatewayReport, Report, ReportReply};
use model::{
    Agent, Event, GatewayStatus, InstanceId, NodeId, NodeUsage, Phase, Refusal, Status, Timestamp,
};

use super::{Core, Effect, Trouble};

impl Core {
    /// The node that a daemon calls from. What is only about to be stored is not known to daemons,
    /// and what is about to be forgotten may yet stay: the durable state is what they speak of.
    fn calling(&self, node: &NodeId, daemon: &'static str) -> Result<Arc<NodeUsage>, Trouble> {
        let has_called = |known: &&Arc<NodeUsage>| match daemon {
            "gateway" => known.node.gateway,
            _ => known.node.capacity.is_some(),
        };
        let unknown = || Refusal::Conflict {
            message: format!("no {daemon} on node {node} is known: it must register first"),
        };
        let known = self.durable.node(node).filter(has_called).map(Arc::clone);
        known.ok_or_else(|| Trouble::Refused(unknown()))
    }

    pub(super) fn take_report(
        &mut self,
        report: Report,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<ReportReply, Trouble> {
        let node = report.node;
        let placed = self.calling(&node, "agent")?;
        let known = self.observed.agents.get(&node).copied();
        let (life, last) = self.heard.get(&node).copied().unwrap_or((report.life, 0));
        if life == report.life && report.number <= last && report.number > 0 {
            // Stale on its way: what it says was so before what is known.
            return Ok(ReportReply { resync: known.is_some_and(|agent| !agent.synced) });
        }
        self.heard.insert(node.clone(), (report.life, report.number));
        let was_lost = known.is_some() && self.observed.is_lost(&node, now);
        // Another life's whole truth was another one.
        let knew_all = life == report.life && known.is_some_and(|agent| agent.synced);
        let synced = report.whole || knew_all;
        self.observed.agents.insert(node.clone(), Agent { seen_at: now, synced });
        if was_lost || known.is_none_or(|agent| agent.synced != synced) {
            // Everything that was planned without knowing this node may look different now.
            self.work_queue.touch_all();
            self.due = true;
            self.readers_due = true;
        }
        if report.whole {
            let told: BTreeSet<&InstanceId> =
                report.instances.iter().map(|(instance, _)| instance).collect();
            for instance in placed.instances.iter().filter(|instance| !told.contains(instance)) {
                if self.observed.status(&instance.service, instance.replica).is_some() {
                    self.observed.remove_status(instance);
                    self.has_changed(instance);
                }
            }
        }
        for (instance, mut status) in report.instances {
            // What is not placed there is not ours to follow: its agent will be told to stop it.
            if !placed.instances.contains(&instance) {
                continue;
            }
            let before = self.observed.status(&instance.service, instance.replica);
            set_right(&mut status, before, now);
            if before == Some(&status) {
                continue;
            }
            let is_news = before.is_none_or(|before| before.essence() != status.essence());
            for (kind, message) in differences(before, &status) {
                let service = Some(instance.service.clone());
                let subject = instance.to_string();
                let event = Event { at: now, kind: kind.into(), subject, service, message };
                self.record.notice(event, now, effects);
            }
            if is_news {
                self.has_changed(&instance);
            }
            self.observed.set_status(&instance, status);
        }
        Ok(ReportReply { resync: !synced })
    }

    /// Something of an instance is observed to be different.
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
    ) -> Result<ReportReply, Trouble> {
        let node = report.node;
        self.calling(&node, "gateway")?;
        let known = self.observed.gateways.get(&node);
        let changed = known
            .is_none_or(|known| known.generation != report.generation || known.busy != report.busy);
        if changed {
            // Whoever waits for a gateway's word is waiting, and so on the work queue; unless this
            // is a gateway's first word, for which everything may have waited.
            if known.is_none() {
                self.work_queue.touch_all();
            }
            self.due = true;
            self.readers_due = true;
        }
        let status =
            GatewayStatus { seen_at: now, generation: report.generation, busy: report.busy };
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

/// A node whose clock is ahead reports starts that lie in our future; what waits for them would wait as long as its
/// clock is wrong. They count from when they were first heard of.
fn set_right(status: &mut Status, before: Option<&Status>, now: Timestamp) {
    if status.started_at.is_some_and(|at| at > now) {
        let known = before.filter(|before| before.run == status.run);
        status.started_at = known.and_then(|before| before.started_at).or(Some(now));
    }
}

fn clone_pair<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// What one would tell about the step from one status to the next.
fn differences(before: Option<&Status>, after: &Status) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    let new_exit = before.and_then(|before| before.last_exit.as_ref()) != after.last_exit.as_ref();
    if let (true, Some(exit)) = (new_exit, &after.last_exit) {
        told.push(("exited", exit.message.clone()));
    }
    let waits = |status: &Status| status.phase == Phase::Starting;
    let failed = before.filter(|before| waits(before) && waits(after) && before.run < after.run);
    if let (Some(before), false) = (failed, new_exit) {
        let message = after.message.as_deref().unwrap_or("it could not be started");
        told.push(("not-started", format!("run {}: {message}", before.run)));
    }
    let same_run = before.is_some_and(|b| b.run == after.run && b.phase == after.phase);
    match after.phase {
        Phase::Starting if failed.is_some() && !new_exit => {}
        Phase::Starting if before.and_then(|b| b.message.as_ref()) != after.message.as_ref() => {
            if let Some(message) = &after.message {
                told.push(("starting", message.clone()));
            }
        }
        Phase::Failed if before.is_none_or(|before| before.phase != Phase::Failed) => {
            let message = after.message.clone();
            told.push(("failed", message.unwrap_or_else(|| "it has ended for good".into())));
        }
        Phase::Running if !same_run => told.push(("running", format!("run {}", after.run))),
        _ => {}
    }
    let healthy = before.filter(|b| b.run == after.run).and_then(|b| b.healthy);
    match (healthy, after.healthy) {
        (Some(true), Some(true)) | (Some(false), Some(false)) | (_, None) => {}
        (_, Some(true)) => told.push(("healthy", "its health checks pass".into())),
        (_, Some(false)) => {
            let cause = after.checks.iter().find_map(|check| check.last_failure_cause.clone());
            told.push(("unhealthy", cause.unwrap_or_else(|| "its health checks fail".into())));
        }
    }
    for (i, check) in after.checks.iter().enumerate() {
        let known = before.filter(|b| b.run == after.run).and_then(|b| b.checks.get(i));
        let known = known.map_or(0, |known| known.consecutive_failures);
        if check.consecutive_failures > known {
            let (count, cause) = (check.consecutive_failures, &check.last_failure_cause);
            let cause = cause.as_deref().unwrap_or("no cause is known");
            told.push(("check-failed", format!("{count} in a row: {cause}")));
        }
    }
    let ready = before.is_some_and(|b| b.run == after.run && b.ready);
    if after.ready && !ready && after.phase == Phase::Running {
        told.push(("ready", "it is ready for traffic".into()));
    }
    told
}
