//! Runs of instances that are over, from what has happened. Mesos remembers the last thousand
//! tasks that have ended, and people look for the one that failed.

use std::collections::BTreeMap;

use api::EventView;
use model::{InstanceId, NodeId, Timestamp};

use super::feed::run_of;

/// So many are told, the newest.
const KEPT: usize = 1000;

/// A run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) instance: InstanceId,
    pub(crate) run: u32,
    pub(crate) node: NodeId,
    pub(crate) state: &'static str,
    pub(crate) at: Timestamp,
}

/// What has been told of an instance that has not ended.
struct Live {
    node: NodeId,
    run: u32,
    /// The last run that is known to be over.
    over: u32,
    leaving: bool,
}

/// The runs that have ended by what is told in `events`, oldest first. Of what was placed before
/// these begin, nothing is known.
pub(crate) fn ended<'a>(events: impl IntoIterator<Item = &'a EventView>) -> Vec<Ended> {
    let mut live: BTreeMap<&str, Live> = BTreeMap::new();
    let mut ended = Vec::new();
    for EventView { event, .. } in events {
        let (subject, message) = (event.subject.as_str(), event.message.as_str());
        if event.kind == "placed" {
            let node = message.strip_prefix("placed on ").and_then(|rest| rest.split(' ').next());
            if let Some(node) = node.and_then(|node| node.parse().ok()) {
                live.insert(subject, Live { node, run: 1, over: 0, leaving: false });
            }
            continue;
        }
        let Some(known) = live.get_mut(subject) else { continue };
        let state = match event.kind.as_str() {
            "running" => {
                known.run = run_of(message).unwrap_or(known.run);
                continue;
            }
            "draining" | "stopping" => {
                known.leaving = true;
                continue;
            }
            "not-started" => {
                known.run = run_of(message).unwrap_or(known.run);
                "TASK_FAILED"
            }
            "failed" => "TASK_FAILED",
            "exited" if !known.leaving && message == "exit code 0" => "TASK_FINISHED",
            "exited" if !known.leaving => "TASK_FAILED",
            "stopped" => "TASK_KILLED",
            "lost" => "TASK_UNREACHABLE",
            _ => continue,
        };
        if known.over < known.run
            && let Ok(instance) = subject.parse()
        {
            let (run, node) = (known.run, known.node.clone());
            known.over = run;
            ended.push(Ended { instance, run, node, state, at: event.at });
        }
        if matches!(event.kind.as_str(), "stopped" | "lost") {
            live.remove(subject);
        }
    }
    ended.drain(..ended.len().saturating_sub(KEPT));
    ended
}

#[cfg(test)]
mod tests {
    use model::{Command, Phase, Step, StopReason};
    use serde_json::json;

    use super::super::rig::Rig;
    use super::*;

    fn short(rig: &Rig) -> Vec<String> {
        let ended = ended(&rig.events);
        let line = |e: &Ended| format!("{} run {} on {}: {}", e.instance, e.run, e.node, e.state);
        ended.iter().map(line).collect()
    }

    #[test]
    fn each_run_ends_once_and_as_it_did() {
        let mut rig = Rig::new(&["n1"]);
        rig.app(&json!({"id": "/a", "cmd": "run", "instances": 3}));
        rig.event("running", "/a~0.1", "run 1");
        rig.event("exited", "/a~0.1", "exit code 1");
        rig.event("running", "/a~0.1", "run 2");
        rig.event("exited", "/a~0.1", "exit code 0");
        rig.event("running", "/a~0.1", "run 3");
        rig.event("running", "/a~1.1", "run 1");
        assert_eq!(
            short(&rig),
            ["/a~0.1 run 1 on n1: TASK_FAILED", "/a~0.1 run 2 on n1: TASK_FINISHED"]
        );
        // All go with their service: one that ended just now, one that says how, one silently.
        rig.event("exited", "/a~1.1", "killed by signal 9");
        rig.command(Command::RemoveServices(vec!["/a".parse().unwrap()]));
        rig.event("exited", "/a~0.1", "killed by signal 15");
        let stopped = |status: &mut model::Status| status.phase = Phase::Stopped;
        for instance in ["/a~0.1", "/a~1.1", "/a~2.1"] {
            rig.report(instance, Phase::Stopping, stopped);
        }
        assert_eq!(
            short(&rig)[2..],
            [
                "/a~1.1 run 1 on n1: TASK_FAILED",
                "/a~0.1 run 3 on n1: TASK_KILLED",
                "/a~2.1 run 1 on n1: TASK_KILLED",
            ]
        );
    }

    #[test]
    fn what_was_lost_is_not_said_to_be_killed() {
        let mut rig = Rig::new(&["n1"]);
        rig.app(&json!({"id": "/a", "cmd": "run"}));
        let instance = "/a~0.1".parse().unwrap();
        rig.command(Command::Adopt(Step::Forget { instance, why: StopReason::Lost }));
        assert_eq!(short(&rig), ["/a~0.1 run 1 on n1: TASK_UNREACHABLE"]);
    }
}
