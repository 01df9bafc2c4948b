//! The state of each run, behind one lock. The driver has no other memory.
//!
//! A run is starting, running or ended, in this order. Each transition is reported to the agent
//! here, under the lock, so that reports are in order and never repeated. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Bytes, Exit, InstanceResource, Piece, Signal, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::super::{DriverEvent, Found};
use super::exit;

/// The number of ended runs of a resource that are kept before the newest, for their output.
const KEPT_BEFORE: u32 = 1;

#[derive(Debug)]
struct Run {
    memory: Bytes,
    /// The id of its container, once it is known.
    container: Option<String>,
    stage: Stage,
    /// When one of its processes was last killed because its memory limit was reached.
    out_of_memory_at: Option<Timestamp>,
    /// Cancelled when the start in progress is cancelled.
    abandoned: CancellationToken,
    /// Whether its container is paused.
    suspended: bool,
    /// Whether a task is stopping it; that task runs until the run has ended.
    stopping: bool,
    /// Cancelled when the run has ended.
    ended: CancellationToken,
}

#[derive(Debug)]
enum Stage {
    /// Holds the container that has ended already, if one has, with its exit: events may arrive
    /// before the response to the start.
    Starting(Option<(String, Exit)>),
    Running(Timestamp),
    Ended(Timestamp, Exit),
}

/// How to proceed with a stop.
#[derive(Debug)]
pub(super) enum StopOutcome {
    /// Send a signal to the container.
    Signal { container: String, ended: CancellationToken },
    /// Nothing: the run has ended, and that has been reported.
    Done,
    /// Nothing: the task that starts it, stops it or adopts runs will stop it.
    AlreadyInProgress,
    /// Report that there is no such run.
    Unknown,
}

/// A container found on the daemon that is or was the container of a run.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) key: Piece,
    pub(super) container: String,
    pub(super) memory: Bytes,
    pub(super) started_at: Timestamp,
    pub(super) exit: Option<Exit>,
    pub(super) suspended: bool,
}

/// Runs to stop, each with its signal and grace period.
pub(super) type EarlyStops = BTreeMap<Piece, (Signal, Duration)>;

/// All known runs.
#[derive(Debug)]
pub(super) struct Runs {
    known: BTreeMap<Piece, Run>,
    /// Whether the containers of earlier agents have been adopted.
    adopted: bool,
    /// The stops that were requested before adoption.
    early_stops: EarlyStops,
    events: mpsc::UnboundedSender<DriverEvent>,
    /// Notified when a resource gets another container, or is removed.
    changed: watch::Sender<()>,
}

impl Runs {
    pub(super) fn new(events: mpsc::UnboundedSender<DriverEvent>) -> Runs {
        Runs {
            known: BTreeMap::new(),
            adopted: false,
            early_stops: EarlyStops::new(),
            events,
            changed: watch::channel(()).0,
        }
    }

    fn of(&self, of: &InstanceResource) -> impl DoubleEndedIterator<Item = (&Piece, &Run)> {
        self.known.range(of.run(0)..=of.run(u32::MAX))
    }

    /// Records that a start begins. Returns the token that is cancelled with the start, or `None`
    /// if the run is already starting or running.
    pub(super) fn begin(&mut self, key: Piece, memory: Bytes) -> Option<CancellationToken> {
        match self.known.get(&key).map(|run| &run.stage) {
            None | Some(Stage::Ended(..)) => {}
            Some(Stage::Starting(_) | Stage::Running(_)) => return None,
        }
        let run = Run {
            memory,
            container: None,
            stage: Stage::Starting(None),
            out_of_memory_at: None,
            abandoned: CancellationToken::new(),
            suspended: false,
            stopping: false,
            ended: CancellationToken::new(),
        };
        let abandoned = run.abandoned.clone();
        self.known.insert(key, run);
        Some(abandoned)
    }

    /// Reports that a run has started. Returns the containers of earlier runs that need not be kept
    /// any longer, or `None` if the start was cancelled.
    pub(super) fn started(
        &mut self,
        key: &Piece,
        container: &str,
        at: Timestamp,
    ) -> Option<Vec<String>> {
        let run = self.known.get_mut(key).filter(|run| !run.abandoned.is_cancelled())?;
        let Stage::Starting(early) = &mut run.stage else { return None };
        let early = early.take().filter(|(ended, _)| ended == container);
        run.container = Some(container.to_string());
        run.stage = Stage::Running(at);
        let _ = self.events.send(DriverEvent::Started { piece: key.clone(), at });
        if let Some((_, exit)) = early {
            self.end(key, exit);
        }
        self.changed.send_replace(());
        Some(self.drop_before(&key.of(), key.run.saturating_sub(KEPT_BEFORE)))
    }

    /// Drops the ended runs of a resource before `run`; returns their containers.
    fn drop_before(&mut self, of: &InstanceResource, run: u32) -> Vec<String> {
        let is_old = |(key, known): (&Piece, &Run)| {
            (key.run < run && matches!(known.stage, Stage::Ended(..))).then(|| key.clone())
        };
        let old: Vec<_> = self.of(of).filter_map(is_old).collect();
        old.iter().filter_map(|key| self.known.remove(key)?.container).collect()
    }

    /// Reports that a run could not start.
    pub(super) fn not_started(&mut self, key: &Piece, message: String, driver_unavailable: bool) {
        if let Some(run) = self.known.remove(key) {
            run.ended.cancel();
        }
        let piece = key.clone();
        let _ = self.events.send(DriverEvent::NotStarted { piece, message, driver_unavailable });
        self.changed.send_replace(());
    }

    /// Records that a process of the run was killed because its memory limit was reached.
    pub(super) fn ran_out_of_memory(&mut self, key: &Piece, container: &str, at: Timestamp) {
        if let Some(run) = self.known.get_mut(key)
            && run.container.as_deref().is_none_or(|own| own == container)
        {
            run.out_of_memory_at = Some(at);
        }
    }

    /// Whether an end with this code may be an OOM kill for which no event has arrived.
    pub(super) fn may_be_out_of_memory(&self, key: &Piece, code: i32) -> bool {
        code == exit::KILLED
            && self.known.get(key).is_some_and(|run| {
                run.out_of_memory_at.is_none() && !matches!(run.stage, Stage::Ended(..))
            })
    }

    /// Reports that the container of a run has ended with `code`. Ignored if the container is not
    /// the run's, or if its end is already known.
    pub(super) fn died(&mut self, key: &Piece, container: &str, code: i32, at: Timestamp) {
        let Some(run) = self.known.get_mut(key) else { return };
        let limit = run.out_of_memory_at.filter(|oom| exit::is_cause(*oom, at)).map(|_| run.memory);
        let exit = exit::exit(code, at, limit);
        match (&mut run.stage, &run.container) {
            (Stage::Starting(early), _) => *early = Some((container.to_string(), exit)),
            (Stage::Running(_), Some(own)) if own == container => self.end(key, exit),
            (Stage::Running(_) | Stage::Ended(..), _) => {}
        }
    }

    /// Reports that the container of a running run no longer exists.
    pub(super) fn vanished(&mut self, key: &Piece, at: Timestamp) {
        if self.known.get(key).is_some_and(|run| matches!(run.stage, Stage::Running(_))) {
            self.end(key, exit::vanished(at));
            if let Some(run) = self.known.get_mut(key) {
                run.container = None;
            }
        }
    }

    fn end(&mut self, key: &Piece, exit: Exit) {
        let Some(run) = self.known.get_mut(key) else { return };
        let Stage::Running(started_at) = run.stage else { return };
        run.stage = Stage::Ended(started_at, exit.clone());
        run.ended.cancel();
        let _ = self.events.send(DriverEvent::Exited { piece: key.clone(), exit });
    }

    /// How to proceed with a stop. A start in progress is cancelled here. The agent repeats its
    /// request, but only one task stops a run: it continues until the run has ended.
    pub(super) fn stop(&mut self, key: &Piece, signal: Signal, grace: Duration) -> StopOutcome {
        match self.known.get_mut(key) {
            Some(run) => match (&run.stage, &run.container) {
                (Stage::Running(_), Some(_)) if run.stopping => StopOutcome::AlreadyInProgress,
                (Stage::Running(_), Some(container)) => {
                    run.stopping = true;
                    StopOutcome::Signal { container: container.clone(), ended: run.ended.clone() }
                }
                (Stage::Starting(_), _) => {
                    run.abandoned.cancel();
                    StopOutcome::AlreadyInProgress
                }
                (Stage::Running(_) | Stage::Ended(..), _) => StopOutcome::Done,
            },
            None if self.adopted => StopOutcome::Unknown,
            None => {
                self.early_stops.insert(key.clone(), (signal, grace));
                StopOutcome::AlreadyInProgress
            }
        }
    }

    /// The container of a run that is running.
    pub(super) fn running(&self, key: &Piece) -> Option<String> {
        let run = self.known.get(key)?;
        matches!(run.stage, Stage::Running(_)).then(|| run.container.clone()).flatten()
    }

    /// Records whether the container of a run is paused.
    pub(super) fn set_suspended(&mut self, key: &Piece, suspended: bool) {
        if let Some(run) = self.known.get_mut(key) {
            run.suspended = suspended;
        }
    }

    /// The container of an ended run, and the time of its end.
    pub(super) fn ended_at(&self, key: &Piece) -> Option<(&str, Timestamp)> {
        let run = self.known.get(key)?;
        match (&run.stage, &run.container) {
            (Stage::Ended(_, exit), Some(container)) => Some((container, exit.at)),
            _ => None,
        }
    }

    /// All running runs, with their containers.
    pub(super) fn all_running(&self) -> BTreeMap<Piece, String> {
        let running = |(key, run): (&Piece, &Run)| match (&run.stage, &run.container) {
            (Stage::Running(_), Some(container)) => Some((key.clone(), container.clone())),
            _ => None,
        };
        self.known.iter().filter_map(running).collect()
    }

    /// The containers of all runs.
    pub(super) fn all_containers(&self) -> Vec<String> {
        self.known.values().filter_map(|run| run.container.clone()).collect()
    }

    /// Whether this is, or may become, the container of a known run.
    pub(super) fn is_known(&self, key: &Piece, container: &str) -> bool {
        let own = |run: &Run| run.container.as_deref().is_none_or(|own| own == container);
        self.known.get(key).is_some_and(own)
    }

    /// The containers of the runs of a resource, oldest first, with their run numbers.
    pub(super) fn containers(&self, of: &InstanceResource) -> Vec<(u32, String)> {
        let with_container = |(key, run): (&Piece, &Run)| Some((key.run, run.container.clone()?));
        self.of(of).filter_map(with_container).collect()
    }

    pub(super) fn knows(&self, of: &InstanceResource) -> bool {
        self.of(of).next().is_some()
    }

    /// Notified when a resource gets another container, or is removed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Removes all runs of a resource; returns their containers.
    pub(super) fn forget(&mut self, of: &InstanceResource) -> Vec<String> {
        let keys: Vec<_> = self.of(of).map(|(key, _)| key.clone()).collect();
        let mut containers = Vec::new();
        for key in keys {
            if let Some(run) = self.known.remove(&key) {
                run.abandoned.cancel();
                run.ended.cancel();
                containers.extend(run.container);
            }
        }
        self.changed.send_replace(());
        containers
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Adopts the containers of earlier agents: for each resource the newest run, and the ended run
    /// before it for its output. Returns the other containers, which must be removed, and the stops
    /// that were requested before adoption.
    pub(super) fn adopt(&mut self, found: Vec<Adopted>) -> (Vec<String>, EarlyStops) {
        let mut newest: BTreeMap<InstanceResource, u32> = BTreeMap::new();
        for key in found.iter().map(|adopted| &adopted.key).chain(self.known.keys()) {
            let run = newest.entry(key.of()).or_default();
            *run = key.run.max(*run);
        }
        let mut superfluous = Vec::new();
        for Adopted { key, container, memory, started_at, exit, suspended } in found {
            let newest = newest.get(&key.of()).copied().unwrap_or_default();
            let is_newest = key.run == newest;
            let is_kept = exit.is_some() && key.run + KEPT_BEFORE >= newest;
            match self.known.get(&key).map(|known| known.container.as_deref()) {
                // Started by this agent process: the found container may be that of this run.
                Some(own) if own.is_none_or(|own| own == container) => continue,
                None if is_newest || is_kept => {}
                _ => {
                    superfluous.push(container);
                    continue;
                }
            }
            let ended = CancellationToken::new();
            let stage = match exit {
                None => Stage::Running(started_at),
                Some(exit) => {
                    ended.cancel();
                    Stage::Ended(started_at, exit)
                }
            };
            let run = Run {
                memory,
                container: Some(container),
                stage,
                out_of_memory_at: None,
                abandoned: CancellationToken::new(),
                suspended,
                stopping: false,
                ended,
            };
            self.known.insert(key, run);
        }
        self.adopted = true;
        self.changed.send_replace(());
        (superfluous, std::mem::take(&mut self.early_stops))
    }

    /// The newest run of each resource that has started.
    pub(super) fn found(&self) -> Vec<Found> {
        let mut found: BTreeMap<InstanceResource, Found> = BTreeMap::new();
        for (key, run) in &self.known {
            let (started_at, exit) = match &run.stage {
                Stage::Starting(_) => continue,
                Stage::Running(started_at) => (*started_at, None),
                Stage::Ended(started_at, exit) => (*started_at, Some(exit.clone())),
            };
            let (piece, suspended) = (key.clone(), run.suspended);
            found.insert(key.of(), Found { piece, started_at, exit, suspended });
        }
        found.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(run: u32) -> Piece {
        Piece {
            instance: "/shop/web~0.1".parse().unwrap(),
            resource: "cache".parse().unwrap(),
            run,
        }
    }

    fn runs() -> (Runs, mpsc::UnboundedReceiver<DriverEvent>) {
        let (sender, events) = mpsc::unbounded_channel();
        (Runs::new(sender), events)
    }

    /// The reports so far, abbreviated.
    fn words(events: &mut mpsc::UnboundedReceiver<DriverEvent>) -> Vec<String> {
        let mut words = Vec::new();
        while let Ok(event) = events.try_recv() {
            let run = event.piece().run;
            words.push(match event {
                DriverEvent::Started { .. } => format!("{run} started"),
                DriverEvent::NotStarted { .. } | DriverEvent::Misplaced { .. } => {
                    format!("{run} not started")
                }
                DriverEvent::Exited { exit, .. } => format!("{run} {}", exit),
                DriverEvent::Preparing { .. } => format!("{run} preparing"),
            });
        }
        words
    }

    fn adopted(run: u32, code: Option<i32>) -> Adopted {
        Adopted {
            key: key(run),
            container: format!("c{run}"),
            memory: Bytes::mib(16),
            started_at: Timestamp(1),
            exit: code.map(|code| exit::exit(code, Timestamp(2), None)),
            suspended: false,
        }
    }

    #[test]
    fn an_exit_seen_before_its_start_is_reported_once_after_it() {
        let (mut runs, mut events) = runs();
        runs.begin(key(1), Bytes::mib(16)).unwrap();
        assert!(runs.begin(key(1), Bytes::mib(16)).is_none());
        runs.died(&key(1), "c1", 3, Timestamp(5));
        assert_eq!(words(&mut events), [""; 0]);
        runs.started(&key(1), "c1", Timestamp(4)).unwrap();
        runs.died(&key(1), "c1", 3, Timestamp(5));
        runs.vanished(&key(1), Timestamp(6));
        assert_eq!(words(&mut events), ["1 started", "1 exit code 3"]);
    }

    #[test]
    fn the_exit_of_another_container_does_not_end_the_run() {
        let (mut runs, mut events) = runs();
        runs.begin(key(1), Bytes::mib(16)).unwrap();
        runs.died(&key(1), "left over", 137, Timestamp(3));
        runs.started(&key(1), "c1", Timestamp(4)).unwrap();
        runs.died(&key(1), "left over", 137, Timestamp(5));
        assert_eq!(words(&mut events), ["1 started"]);
        assert_eq!(runs.running(&key(1)).as_deref(), Some("c1"));
    }

    #[test]
    fn an_oom_kill_explains_the_exit_that_follows_it() {
        let (mut runs, mut events) = runs();
        runs.begin(key(1), Bytes::mib(16)).unwrap();
        runs.started(&key(1), "c1", Timestamp(4)).unwrap();
        assert!(runs.may_be_out_of_memory(&key(1), 137));
        runs.ran_out_of_memory(&key(1), "c1", Timestamp(1000));
        assert!(!runs.may_be_out_of_memory(&key(1), 137));
        runs.died(&key(1), "c1", 137, Timestamp(2000));
        assert_eq!(words(&mut events), ["1 started", "1 out of memory: limit 16MiB"]);
    }

    #[test]
    fn a_cancelled_start_does_not_become_a_run() {
        let (mut runs, mut events) = runs();
        let abandoned = runs.begin(key(1), Bytes::mib(16)).unwrap();
        let outcome = runs.stop(&key(1), Signal::Term, Duration::ZERO);
        assert!(matches!(outcome, StopOutcome::AlreadyInProgress) && abandoned.is_cancelled());
        assert!(runs.started(&key(1), "c1", Timestamp(4)).is_none());
        runs.not_started(&key(1), "given up".into(), false);
        assert_eq!(words(&mut events), ["1 not started"]);
    }

    #[test]
    fn repeated_stop_requests_stop_a_run_once() {
        let (mut runs, _events) = runs();
        runs.adopt(vec![adopted(1, None)]);
        let first = runs.stop(&key(1), Signal::Term, Duration::ZERO);
        assert!(matches!(first, StopOutcome::Signal { .. }), "{first:?}");
        let again = runs.stop(&key(1), Signal::Term, Duration::ZERO);
        assert!(matches!(again, StopOutcome::AlreadyInProgress), "{again:?}");
        runs.died(&key(1), "c1", 143, Timestamp(5));
        let outcome = runs.stop(&key(1), Signal::Term, Duration::ZERO);
        assert!(matches!(outcome, StopOutcome::Done), "{outcome:?}");
    }

    #[test]
    fn the_newest_run_is_adopted_and_the_previous_one_kept() {
        let (mut runs, mut events) = runs();
        for _ in 0..2 {
            let early = runs.stop(&key(4), Signal::Int, Duration::ZERO);
            assert!(matches!(early, StopOutcome::AlreadyInProgress));
        }
        let found = [(1, Some(0)), (2, None), (3, Some(3)), (4, None)];
        let found = found.into_iter().map(|(run, code)| adopted(run, code)).collect();
        let (superfluous, stops) = runs.adopt(found);
        assert_eq!(superfluous, ["c1", "c2"]);
        assert_eq!(stops.len(), 1);
        let found: Vec<_> = runs.found().iter().map(|f| (f.piece.run, f.exit.is_some())).collect();
        assert_eq!(found, [(4, false)]);
        let of = key(0).of();
        assert_eq!(runs.containers(&of), [(3, "c3".into()), (4, "c4".into())]);
        let outcome = runs.stop(&key(9), Signal::Term, Duration::ZERO);
        assert!(matches!(outcome, StopOutcome::Unknown));
        assert_eq!(runs.forget(&of), ["c3", "c4"]);
        assert_eq!(words(&mut events), [""; 0]);
    }
}
