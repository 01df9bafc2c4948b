//! What is known of each run: the one memory of the driver, behind one lock.
//!
//! A run is starting, running or ended, in this order. Each change of that is told to the agent
//! here, under the lock, so that what is told is always in order and never told twice. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Bytes, Exit, InstanceId, Signal, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::super::{Found, Told};
use super::exit;

/// Ended runs of an instance that are kept beside the present one, for their output.
const KEPT_BEFORE: u32 = 1;

/// One run of one instance. Ordered by instance, then run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) instance: InstanceId,
    pub(super) run: u32,
}

#[derive(Debug)]
struct Run {
    memory: Bytes,
    /// The id of its container, once it has one.
    container: Option<String>,
    stage: Stage,
    /// When a process of it was last killed for want of memory.
    out_of_memory_at: Option<Timestamp>,
    /// Cancelled when a start under way is given up.
    given_up: CancellationToken,
    /// Whether somebody is at stopping it, and will be until it has ended.
    stopping: bool,
    /// Cancelled when the run has ended.
    ended: CancellationToken,
}

#[derive(Debug)]
enum Stage {
    /// With the container that has ended already, if one has, and how: events may be faster than
    /// the answer to the start.
    Starting(Option<(String, Exit)>),
    Running(Timestamp),
    Ended(Timestamp, Exit),
}

/// What there is to do about a stop.
#[derive(Debug)]
pub(super) enum StopAnswer {
    /// The container must be told.
    Signal { container: String, ended: CancellationToken },
    /// It has ended, and that has been told.
    Done,
    /// Who starts it, stops it or adopts the runs will see to it.
    WillBe,
    /// There is no such run.
    Unknown,
}

/// A container found on the daemon that is or was the container of a run.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) key: Key,
    pub(super) container: String,
    pub(super) memory: Bytes,
    pub(super) started_at: Timestamp,
    pub(super) exit: Option<Exit>,
}

/// What to stop, by which signal and with how much grace.
pub(super) type EarlyStops = BTreeMap<Key, (Signal, Duration)>;

/// All the runs that are known.
#[derive(Debug)]
pub(super) struct Runs {
    known: BTreeMap<Key, Run>,
    /// Whether the containers that were there before have been looked for.
    adopted: bool,
    /// The stops that were asked for before it was known which runs there are.
    early_stops: EarlyStops,
    told: mpsc::UnboundedSender<Told>,
    /// Notified when an instance gets another container, or is forgotten.
    changed: watch::Sender<()>,
}

impl Runs {
    pub(super) fn new(told: mpsc::UnboundedSender<Told>) -> Runs {
        Runs {
            known: BTreeMap::new(),
            adopted: false,
            early_stops: EarlyStops::new(),
            told,
            changed: watch::channel(()).0,
        }
    }

    fn of(&self, instance: &InstanceId) -> impl DoubleEndedIterator<Item = (&Key, &Run)> {
        let key = |run| Key { instance: instance.clone(), run };
        self.known.range(key(0)..=key(u32::MAX))
    }

    /// A start begins; gives what ends when it is given up, or nothing if it was begun before.
    pub(super) fn begin(&mut self, key: Key, memory: Bytes) -> Option<CancellationToken> {
        match self.known.get(&key).map(|run| &run.stage) {
            None | Some(Stage::Ended(..)) => {}
            Some(Stage::Starting(_) | Stage::Running(_)) => return None,
        }
        let run = Run {
            memory,
            container: None,
            stage: Stage::Starting(None),
            out_of_memory_at: None,
            given_up: CancellationToken::new(),
            stopping: false,
            ended: CancellationToken::new(),
        };
        let given_up = run.given_up.clone();
        self.known.insert(key, run);
        Some(given_up)
    }

    /// A run has started, and this is told. Gives the containers of earlier runs that need not
    /// be kept any longer; or nothing if the start was given up in the meantime.
    pub(super) fn started(
        &mut self,
        key: &Key,
        container: &str,
        at: Timestamp,
    ) -> Option<Vec<String>> {
        let run = self.known.get_mut(key).filter(|run| !run.given_up.is_cancelled())?;
        let Stage::Starting(early) = &mut run.stage else { return None };
        let early = early.take().filter(|(ended, _)| ended == container);
        run.container = Some(container.to_string());
        run.stage = Stage::Running(at);
        let Key { instance, run } = key.clone();
        let _ = self.told.send(Told::Started { instance, run, at });
        if let Some((_, exit)) = early {
            self.end(key, exit);
        }
        self.changed.send_replace(());
        Some(self.drop_before(&key.instance, key.run.saturating_sub(KEPT_BEFORE)))
    }

    /// Drops the ended runs of an instance before `run`; gives their containers.
    fn drop_before(&mut self, instance: &InstanceId, run: u32) -> Vec<String> {
        let is_old = |(key, known): (&Key, &Run)| {
            (key.run < run && matches!(known.stage, Stage::Ended(..))).then(|| key.clone())
        };
        let old: Vec<_> = self.of(instance).filter_map(is_old).collect();
        old.iter().filter_map(|key| self.known.remove(key)?.container).collect()
    }

    /// A run could not start, and this is told.
    pub(super) fn not_started(&mut self, key: &Key, message: String, driver_away: bool) {
        if let Some(run) = self.known.remove(key) {
            run.ended.cancel();
        }
        let Key { instance, run } = key.clone();
        let _ = self.told.send(Told::NotStarted { instance, run, message, driver_away });
        self.changed.send_replace(());
    }

    /// A process of the run was killed for want of memory.
    pub(super) fn ran_out_of_memory(&mut self, key: &Key, container: &str, at: Timestamp) {
        if let Some(run) = self.known.get_mut(key)
            && run.container.as_deref().is_none_or(|own| own == container)
        {
            run.out_of_memory_at = Some(at);
        }
    }

    /// Whether an end with this code may be for want of memory though no event has said so.
    pub(super) fn may_be_out_of_memory(&self, key: &Key, code: i32) -> bool {
        code == exit::KILLED
            && self.known.get(key).is_some_and(|run| {
                run.out_of_memory_at.is_none() && !matches!(run.stage, Stage::Ended(..))
            })
    }

    /// The container of a run has ended with `code`, and this is told; but for a container that
    /// is not the run's, and an end that is known already.
    pub(super) fn died(&mut self, key: &Key, container: &str, code: i32, at: Timestamp) {
        let Some(run) = self.known.get_mut(key) else { return };
        let limit = run.out_of_memory_at.filter(|oom| exit::is_cause(*oom, at)).map(|_| run.memory);
        let exit = exit::exit(code, at, limit);
        match (&mut run.stage, &run.container) {
            (Stage::Starting(early), _) => *early = Some((container.to_string(), exit)),
            (Stage::Running(_), Some(own)) if own == container => self.end(key, exit),
            (Stage::Running(_) | Stage::Ended(..), _) => {}
        }
    }

    /// The container of a run that counted as running is not there.
    pub(super) fn vanished(&mut self, key: &Key, at: Timestamp) {
        if self.known.get(key).is_some_and(|run| matches!(run.stage, Stage::Running(_))) {
            self.end(key, exit::vanished(at));
            if let Some(run) = self.known.get_mut(key) {
                run.container = None;
            }
        }
    }

    fn end(&mut self, key: &Key, exit: Exit) {
        let Some(run) = self.known.get_mut(key) else { return };
        let Stage::Running(started_at) = run.stage else { return };
        run.stage = Stage::Ended(started_at, exit.clone());
        run.ended.cancel();
        let Key { instance, run } = key.clone();
        let _ = self.told.send(Told::Exited { instance, run, exit });
    }

    /// What there is to do about a stop. A start under way is given up here. The agent asks again
    /// and again, but a run is stopped by one task only: it does not rest until the run has ended.
    pub(super) fn stop(&mut self, key: &Key, signal: Signal, grace: Duration) -> StopAnswer {
        match self.known.get_mut(key) {
            Some(run) => match (&run.stage, &run.container) {
                (Stage::Running(_), Some(_)) if run.stopping => StopAnswer::WillBe,
                (Stage::Running(_), Some(container)) => {
                    run.stopping = true;
                    StopAnswer::Signal { container: container.clone(), ended: run.ended.clone() }
                }
                (Stage::Starting(_), _) => {
                    run.given_up.cancel();
                    StopAnswer::WillBe
                }
                (Stage::Running(_) | Stage::Ended(..), _) => StopAnswer::Done,
            },
            None if self.adopted => StopAnswer::Unknown,
            None => {
                self.early_stops.insert(key.clone(), (signal, grace));
                StopAnswer::WillBe
            }
        }
    }

    /// The container of a run, while it runs.
    pub(super) fn running(&self, key: &Key) -> Option<String> {
        let run = self.known.get(key)?;
        matches!(run.stage, Stage::Running(_)).then(|| run.container.clone()).flatten()
    }

    /// Which container the run has that is known to have ended, and when.
    pub(super) fn ended_at(&self, key: &Key) -> Option<(&str, Timestamp)> {
        let run = self.known.get(key)?;
        match (&run.stage, &run.container) {
            (Stage::Ended(_, exit), Some(container)) => Some((container, exit.at)),
            _ => None,
        }
    }

    /// All that count as running, with their containers.
    pub(super) fn all_running(&self) -> BTreeMap<Key, String> {
        let running = |(key, run): (&Key, &Run)| match (&run.stage, &run.container) {
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
    pub(super) fn is_known(&self, key: &Key, container: &str) -> bool {
        let own = |run: &Run| run.container.as_deref().is_none_or(|own| own == container);
        self.known.get(key).is_some_and(own)
    }

    /// The containers of an instance that have run, oldest first, with the numbers of their runs.
    pub(super) fn containers(&self, instance: &InstanceId) -> Vec<(u32, String)> {
        let with_container = |(key, run): (&Key, &Run)| Some((key.run, run.container.clone()?));
        self.of(instance).filter_map(with_container).collect()
    }

    pub(super) fn knows_instance(&self, instance: &InstanceId) -> bool {
        self.of(instance).next().is_some()
    }

    /// Notified when an instance gets another container, or is forgotten.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Forgets an instance; gives its containers.
    pub(super) fn forget(&mut self, instance: &InstanceId) -> Vec<String> {
        let keys: Vec<_> = self.of(instance).map(|(key, _)| key.clone()).collect();
        let mut containers = Vec::new();
        for key in keys {
            if let Some(run) = self.known.remove(&key) {
                run.given_up.cancel();
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

    /// Takes over the containers that were there before: of each instance the newest run, and
    /// the ended one before it for its output. Gives the other containers, to be removed, and
    /// the stops that were asked for meanwhile.
    pub(super) fn adopt(&mut self, found: Vec<Adopted>) -> (Vec<String>, EarlyStops) {
        let mut newest: BTreeMap<InstanceId, u32> = BTreeMap::new();
        for key in found.iter().map(|adopted| &adopted.key).chain(self.known.keys()) {
            let run = newest.entry(key.instance.clone()).or_default();
            *run = key.run.max(*run);
        }
        let mut superfluous = Vec::new();
        for Adopted { key, container, memory, started_at, exit } in found {
            let newest = newest.get(&key.instance).copied().unwrap_or_default();
            let is_newest = key.run == newest;
            let is_kept = exit.is_some() && key.run + KEPT_BEFORE >= newest;
            match self.known.get(&key).map(|known| known.container.as_deref()) {
                // Begun since this agent started: then it may be this very container.
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
                given_up: CancellationToken::new(),
                stopping: false,
                ended,
            };
            self.known.insert(key, run);
        }
        self.adopted = true;
        self.changed.send_replace(());
        (superfluous, std::mem::take(&mut self.early_stops))
    }

    /// The newest run of each instance that has begun.
    pub(super) fn found(&self) -> Vec<Found> {
        let mut found: BTreeMap<&InstanceId, Found> = BTreeMap::new();
        for (key, run) in &self.known {
            let (started_at, exit) = match &run.stage {
                Stage::Starting(_) => continue,
                Stage::Running(started_at) => (*started_at, None),
                Stage::Ended(started_at, exit) => (*started_at, Some(exit.clone())),
            };
            let Key { instance, run } = key.clone();
            found.insert(&key.instance, Found { instance, run, started_at, exit });
        }
        found.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(run: u32) -> Key {
        Key { instance: "/shop/web~0.1".parse().unwrap(), run }
    }

    fn runs() -> (Runs, mpsc::UnboundedReceiver<Told>) {
        let (sender, told) = mpsc::unbounded_channel();
        (Runs::new(sender), told)
    }

    /// What has been told, in short.
    fn words(told: &mut mpsc::UnboundedReceiver<Told>) -> Vec<String> {
        let mut words = Vec::new();
        while let Ok(told) = told.try_recv() {
            words.push(match told {
                Told::Started { run, .. } => format!("{run} started"),
                Told::NotStarted { run, .. } | Told::Misplaced { run, .. } => {
                    format!("{run} not started")
                }
                Told::Exited { run, exit, .. } => format!("{run} {}", exit.message),
                Told::Preparing { run, .. } => format!("{run} preparing"),
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
        }
    }

    #[test]
    fn an_end_that_is_known_before_the_start_is_told_after_it_and_once() {
        let (mut runs, mut told) = runs();
        runs.begin(key(1), Bytes::mib(16)).unwrap();
        assert!(runs.begin(key(1), Bytes::mib(16)).is_none());
        runs.died(&key(1), "c1", 3, Timestamp(5));
        assert_eq!(words(&mut told), [""; 0]);
        runs.started(&key(1), "c1", Timestamp(4)).unwrap();
        runs.died(&key(1), "c1", 3, Timestamp(5));
        runs.vanished(&key(1), Timestamp(6));
        assert_eq!(words(&mut told), ["1 started", "1 exit code 3"]);
    }

    #[test]
    fn the_end_of_another_container_is_not_the_end_of_the_run() {
        let (mut runs, mut told) = runs();
        runs.begin(key(1), Bytes::mib(16)).unwrap();
        runs.died(&key(1), "left over", 137, Timestamp(3));
        runs.started(&key(1), "c1", Timestamp(4)).unwrap();
        runs.died(&key(1), "left over", 137, Timestamp(5));
        assert_eq!(words(&mut told), ["1 started"]);
        assert_eq!(runs.running(&key(1)).as_deref(), Some("c1"));
    }

    #[test]
    fn a_want_of_memory_explains_the_end_that_follows_it() {
        let (mut runs, mut told) = runs();
        runs.begin(key(1), Bytes::mib(16)).unwrap();
        runs.started(&key(1), "c1", Timestamp(4)).unwrap();
        assert!(runs.may_be_out_of_memory(&key(1), 137));
        runs.ran_out_of_memory(&key(1), "c1", Timestamp(1000));
        assert!(!runs.may_be_out_of_memory(&key(1), 137));
        runs.died(&key(1), "c1", 137, Timestamp(2000));
        assert_eq!(words(&mut told), ["1 started", "1 out of memory: limit 16MiB"]);
    }

    #[test]
    fn a_start_that_was_given_up_does_not_become_a_run() {
        let (mut runs, mut told) = runs();
        let given_up = runs.begin(key(1), Bytes::mib(16)).unwrap();
        let answer = runs.stop(&key(1), Signal::Term, Duration::ZERO);
        assert!(matches!(answer, StopAnswer::WillBe) && given_up.is_cancelled());
        assert!(runs.started(&key(1), "c1", Timestamp(4)).is_none());
        runs.not_started(&key(1), "given up".into(), false);
        assert_eq!(words(&mut told), ["1 not started"]);
    }

    #[test]
    fn a_run_is_stopped_once_however_often_that_is_asked() {
        let (mut runs, _told) = runs();
        runs.adopt(vec![adopted(1, None)]);
        let first = runs.stop(&key(1), Signal::Term, Duration::ZERO);
        assert!(matches!(first, StopAnswer::Signal { .. }), "{first:?}");
        let again = runs.stop(&key(1), Signal::Term, Duration::ZERO);
        assert!(matches!(again, StopAnswer::WillBe), "{again:?}");
        runs.died(&key(1), "c1", 143, Timestamp(5));
        let answer = runs.stop(&key(1), Signal::Term, Duration::ZERO);
        assert!(matches!(answer, StopAnswer::Done), "{answer:?}");
    }

    #[test]
    fn of_what_was_there_the_newest_run_goes_on_and_the_one_before_is_kept() {
        let (mut runs, mut told) = runs();
        for _ in 0..2 {
            let early = runs.stop(&key(4), Signal::Int, Duration::ZERO);
            assert!(matches!(early, StopAnswer::WillBe));
        }
        let found = [(1, Some(0)), (2, None), (3, Some(3)), (4, None)];
        let found = found.into_iter().map(|(run, code)| adopted(run, code)).collect();
        let (superfluous, stops) = runs.adopt(found);
        assert_eq!(superfluous, ["c1", "c2"]);
        assert_eq!(stops.len(), 1);
        let found: Vec<_> = runs.found().iter().map(|f| (f.run, f.exit.is_some())).collect();
        assert_eq!(found, [(4, false)]);
        let instance = key(0).instance;
        assert_eq!(runs.containers(&instance), [(3, "c3".into()), (4, "c4".into())]);
        let answer = runs.stop(&key(9), Signal::Term, Duration::ZERO);
        assert!(matches!(answer, StopAnswer::Unknown));
        assert_eq!(runs.forget(&instance), ["c3", "c4"]);
        assert_eq!(words(&mut told), [""; 0]);
    }
}
