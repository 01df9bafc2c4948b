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
pub(crate) struct CompletedRun {
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
pub(crate) fn ended<'a>(events: impl IntoIterator<Item = &'a EventView>) -> Vec<CompletedRun> {
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
            ended.push(CompletedRun { instance: instance.clone(), run, node, state, at: event.at });
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

    use super::super::cluster::TestCluster;
    use super::*;

    fn short(cluster: &TestCluster) -> Vec<String> {
        let ended = ended(&cluster.events);
        let line =
            |e: &CompletedRun| format!("{} run {} on {}: {}", e.instance, e.run, e.node, e.state);
        ended.iter().map(line).collect()
    }

    fn exited(how: Ending) -> What {
        What::Exited { run: 1, exit: Box::new(Exit { at: Timestamp(1), how }) }
    }

    #[test]
    fn each_run_is_terminal_once_with_its_own_state() {
        let mut cluster = TestCluster::new(&["n1"]);
        cluster.app(&json!({"id": "/a", "cmd": "run", "instances": 3}));
        cluster.event("/a~0.1", What::Running { run: 1 });
        cluster.event("/a~0.1", exited(Ending::Code { code: 1 }));
        cluster.event("/a~0.1", What::Running { run: 2 });
        cluster.event("/a~0.1", exited(Ending::Code { code: 0 }));
        cluster.event("/a~0.1", What::Running { run: 3 });
        cluster.event("/a~1.1", What::Running { run: 1 });
        assert_eq!(
            short(&cluster),
            ["/a~0.1 run 1 on n1: TASK_FAILED", "/a~0.1 run 2 on n1: TASK_FINISHED"]
        );
        // All instances terminate with their service: one has exited before, one reports its exit,
        // and one stops without such a report.
        cluster.event("/a~1.1", exited(Ending::Signal { signal: 9 }));
        cluster.command(Command::RemoveServices(vec!["/a".parse().unwrap()]));
        cluster.event("/a~0.1", exited(Ending::Signal { signal: 15 }));
        let stopped = |status: &mut model::Status| status.phase = Phase::Stopped;
        for instance in ["/a~0.1", "/a~1.1", "/a~2.1"] {
            cluster.report(instance, Phase::Stopping, stopped);
        }
        assert_eq!(
            short(&cluster)[2..],
            [
                "/a~1.1 run 1 on n1: TASK_FAILED",
                "/a~0.1 run 3 on n1: TASK_KILLED",
                "/a~2.1 run 1 on n1: TASK_KILLED",
            ]
        );
    }

    #[test]
    fn a_lost_task_is_not_shown_as_killed() {
        let mut cluster = TestCluster::new(&["n1"]);
        cluster.app(&json!({"id": "/a", "cmd": "run"}));
        let instance = "/a~0.1".parse().unwrap();
        cluster.command(Command::Adopt(Step::Forget { instance, why: StopReason::Lost }));
        assert_eq!(short(&cluster), ["/a~0.1 run 1 on n1: TASK_UNREACHABLE"]);
    }
}
