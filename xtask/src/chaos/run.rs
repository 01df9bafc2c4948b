//! A run: faults begin and end, several at a time, while users change services and clients send requests.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{
    cluster,
    fault::{self, Active, Fault},
    scene::{RECOVERY_MAX, Scene},
};

/// Maximum number of active faults.
const ACTIVE_MAX: usize = 4;
/// Between two faults, in milliseconds.
const PAUSE_MS: (u64, u64) = (50, 700);
/// A daemon that exited by itself is restarted after this time, as a supervisor would.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(10);

/// The faults of a scene.
pub(super) struct Run {
    pub(super) scene: Scene,
    /// How often each fault was injected.
    pub(super) injected: BTreeMap<&'static str, usize>,
    active: Vec<Active>,
    /// The daemons that exited by themselves, and when each is restarted.
    again: Vec<(&'static str, Instant)>,
    /// When daemons last had a fault that explains their exit.
    excused: BTreeMap<&'static str, Instant>,
}

impl Run {
    /// A run in which nothing has happened.
    pub(super) fn new(scene: Scene) -> Run {
        Run {
            scene,
            injected: BTreeMap::new(),
            active: Vec::new(),
            again: Vec::new(),
            excused: BTreeMap::new(),
        }
    }

    /// Injects faults, chosen among these, for the given time.
    pub(super) fn inject_faults(
        &mut self,
        faults: &[&'static Fault],
        time: Duration,
    ) -> Result<()> {
        let until = Instant::now() + time;
        let mut next = Instant::now();
        while Instant::now() < until {
            self.tick(false)?;
            if Instant::now() >= next && self.active.len() < ACTIVE_MAX {
                let chosen = *self.scene.random.pick(faults);
                if let Some(active) = fault::inject(&mut self.scene, chosen)? {
                    *self.injected.entry(chosen.name).or_default() += 1;
                    self.active.push(active);
                }
                next = Instant::now() + self.scene.random.span(PAUSE_MS.0, PAUSE_MS.1);
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Undoes all faults and waits until everything that was killed has recovered.
    pub(super) fn heal(&mut self) -> Result<()> {
        let deadline = Instant::now() + RECOVERY_MAX + fault::LASTS_MAX;
        while !(self.active.is_empty() && self.scene.has_recovered() && self.again.is_empty())
            && Instant::now() < deadline
        {
            self.tick(true)?;
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Undoes the faults that are due (all of them if `now`) and restarts daemons that have exited.
    pub(super) fn tick(&mut self, now: bool) -> Result<()> {
        let due = |active: &Active| now || active.heal_at <= Instant::now();
        let (due, active): (Vec<_>, Vec<_>) = self.active.drain(..).partition(due);
        self.active = active;
        for over in due {
            fault::heal(&mut self.scene, &over)?;
            if let Some(daemon) = over.may_end() {
                self.excused.insert(daemon, Instant::now());
            }
        }
        self.scene.has_recovered();
        for (name, status) in self.scene.cluster.ended()? {
            let explained = self.active.iter().any(|active| active.may_end() == Some(name))
                || self.excused.get(name).is_some_and(|at| at.elapsed() < fault::LASTS_MAX);
            self.scene.history.note(format!("  {name} ended by itself: {status}"));
            if !explained {
                self.scene.violated(anyhow!("{name} ended by itself: {status}"));
            }
            self.again.push((name, Instant::now() + RESTART_PAUSE));
        }
        let (again, later): (Vec<_>, Vec<_>) =
            self.again.drain(..).partition(|(_, at)| *at <= Instant::now());
        self.again = later;
        for (name, _) in again {
            self.scene.cluster.launch(name)?;
            if name == cluster::SERVER {
                self.scene.expect_writes();
            }
        }
        Ok(())
    }
}
