//! Completed runs of instances, computed from the event log. Mesos keeps the last thousand
//! completed tasks, which are useful for finding the cause of a failure.

use std::collections::BTreeMap;

use api::EventView;
use model::{About, InstanceId, NodeId, Timestamp, What};

use super::task;

/// The maximum number of completed runs; the oldest ones are dropped.
const KEPT: usize = 1000;

/// A completed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) instance: InstanceId,
    pub(crate) run: u32,
    pub(crate) node: NodeId,
    pub(crate) state: &'static str,
    pub(crate) at: Timestamp,
}

/// The state of an instance that has not terminated, according to the events so far.
struct Live {
    node: NodeId,
    run: u32,
    /// The last run whose end is known.
    over: u32,
    leaving: bool,
}

/// Returns the runs that have ended according to `events`, oldest first. `events` must be in
/// chronological order. Instances that were placed before the first event are unknown.
pub(crate) fn ended<'a>(events: impl IntoIterator<Item = &'a EventView>) -> Vec<Ended> {
    let mut live: BTreeMap<&InstanceId, Live> = BTreeMap::new();
    let mut ended = Vec::new();
    for EventView { event, .. } in events {
        let About::Instance(instance) = &event.about else { continue };
        if let What::Placed { node, .. } = &event.what {
            let node = node.clone();
            live.insert(instance, Live { node, run: 1, over: 0, leaving: false });
            continue;
        }
        let Some(known) = live.get_mut(instance) else { continue };
        let state = match &event.what {
            What::Running { run } => {
                known.run = *run;
                continue;
            }
            What::Draining { .. } | What::Stopping { .. } => {
                known.leaving = true;
                continue;
            }
            What::NotStarted { run, .. } => {
                known.run = *run;
                task::FAILED
            }
            What::Failed { .. } => task::FAILED,
            What::Exited { exit, .. } if !known.leaving => task::ended(Some(exit), false),
            What::Stopped { .. } => task::KILLED,
            What::Lost => task::UNREACHABLE,
            _ => continue,
        };
        if known.over < known.run {
            let (run, node) = (known.run, known.node.clone());
            known.over = run;
            ended.push(Ended { instance: instance.clone(), run, node, state, at: event.at });
        }
        if matches!(event.what, What::Stopped { .. } | What::Lost) {
            live.remove(instance);
        }
    }
    ended.drain(..ended.len().saturating_sub(KEPT));
    ended
}

#[cfg(test)]
mod tests {
    use model::{Command, Ending, Exit, Phase, Step, StopReason};
    use serde_json::json;

    use super::super::rig::Rig;
    use super::*;

    fn short(rig: &Rig) -> Vec<String> {
        let ended = ended(&rig.events);
        let line = |e: &Ended| format!("{} run {} on {}: {}", e.instance, e.run, e.node, e.state);
        ended.iter().map(line).collect()
    }

    fn exited(how: Ending) -> What {
        What::Exited { run: 1, exit: Box::new(Exit { at: Timestamp(1), how }) }
    }

    #[test]
    fn each_run_ends_once_and_as_it_did() {
        let mut rig = Rig::new(&["n1"]);
        rig.app(&json!({"id": "/a", "cmd": "run", "instances": 3}));
        rig.event("/a~0.1", What::Running { run: 1 });
        rig.event("/a~0.1", exited(Ending::Code { code: 1 }));
        rig.event("/a~0.1", What::Running { run: 2 });
        rig.event("/a~0.1", exited(Ending::Code { code: 0 }));
        rig.event("/a~0.1", What::Running { run: 3 });
        rig.event("/a~1.1", What::Running { run: 1 });
        assert_eq!(
            short(&rig),
            ["/a~0.1 run 1 on n1: TASK_FAILED", "/a~0.1 run 2 on n1: TASK_FINISHED"]
        );
        // All instances terminate with their service: one has exited before, one reports its exit,
        // and one stops without such a report.
        rig.event("/a~1.1", exited(Ending::Signal { signal: 9 }));
        rig.command(Command::RemoveServices(vec!["/a".parse().unwrap()]));
        rig.event("/a~0.1", exited(Ending::Signal { signal: 15 }));
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
