//! A run: faults come and go, some at the same time, while users change things and clients ask.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    cluster::{self, Cluster, GATEWAYS, wait_for},
    dice::Dice,
    engine::Engine,
    fault::{self, Active, Fault},
    history::History,
    load::{self, Load},
    user::{self, PORT, User},
};

/// So many faults are there at once, at most.
const AT_ONCE: usize = 4;
/// Between two faults, in milliseconds.
const PAUSE: (u64, u64) = (50, 700);
/// What has ended by itself is started again after this time.
const SUPERVISOR_PAUSE: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(10);
/// What was killed must work again within this time, whatever else goes on.
const BACK_WITHIN: Duration = Duration::from_secs(40);

/// All that takes part in a run.
pub(super) struct Run {
    pub(super) cluster: Cluster,
    pub(super) engine: Option<Engine>,
    pub(super) load: Arc<Load>,
    pub(super) users: Vec<Arc<User>>,
    pub(super) history: Arc<History>,
    pub(super) dice: Dice,
    /// How often each fault was injected.
    pub(super) injected: BTreeMap<&'static str, usize>,
    active: Vec<Active>,
    /// What was killed and is not back; with what it holds.
    returning: Vec<(JoinHandle<()>, Option<&'static str>)>,
    /// Who has ended by itself, and when it is started again.
    again: Vec<(&'static str, Instant)>,
    broken: Arc<Mutex<Vec<String>>>,
    /// When daemons last had a fault for which they may end.
    excused: BTreeMap<&'static str, Instant>,
}

impl Run {
    /// A run in which nothing has happened.
    pub(super) fn new(
        cluster: Cluster,
        engine: Option<Engine>,
        load: Load,
        users: Vec<Arc<User>>,
        history: Arc<History>,
        dice: Dice,
    ) -> Run {
        Run {
            cluster,
            engine,
            load: Arc::new(load),
            users,
            history,
            dice,
            injected: BTreeMap::new(),
            active: Vec::new(),
            returning: Vec::new(),
            again: Vec::new(),
            broken: Arc::default(),
            excused: BTreeMap::new(),
        }
    }

    /// Injects these faults for so long.
    pub(super) fn go(&mut self, faults: &[&'static Fault], time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let mut next = Instant::now();
        while Instant::now() < until {
            self.tick(false)?;
            if Instant::now() >= next && self.active.len() < AT_ONCE {
                let chosen = *self.dice.pick(faults);
                if let Some(active) = fault::inject(self, chosen)? {
                    *self.injected.entry(chosen.name).or_default() += 1;
                    self.active.push(active);
                }
                next = Instant::now() + self.dice.span(PAUSE.0, PAUSE.1);
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Undoes all faults and waits for what was killed.
    pub(super) fn heal(&mut self) -> Result<()> {
        let deadline = Instant::now() + BACK_WITHIN + fault::LONGEST;
        while !(self.active.is_empty() && self.returning.is_empty() && self.again.is_empty())
            && Instant::now() < deadline
        {
            self.tick(true)?;
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Keeps daemons running while the run is over and things settle.
    pub(super) fn tick(&mut self, now: bool) -> Result<()> {
        let due = |active: &Active| now || active.heal_at <= Instant::now();
        let (due, active): (Vec<_>, Vec<_>) = self.active.drain(..).partition(due);
        self.active = active;
        for over in due {
            fault::heal(self, &over)?;
            if let Some(daemon) = over.may_end() {
                self.excused.insert(daemon, Instant::now());
            }
        }
        self.returning.retain(|(watching, _)| !watching.is_finished());
        for (name, status) in self.cluster.ended()? {
            let explained = self.active.iter().any(|active| active.may_end() == Some(name))
                || self.excused.get(name).is_some_and(|at| at.elapsed() < fault::LONGEST);
            self.history.note(format!("  {name} ended by itself: {status}"));
            if !explained {
                self.broken(format!("{name} ended by itself: {status}"));
            }
            self.again.push((name, Instant::now() + SUPERVISOR_PAUSE));
        }
        let (again, later): (Vec<_>, Vec<_>) =
            self.again.drain(..).partition(|(_, at)| *at <= Instant::now());
        self.again = later;
        for (name, _) in again {
            self.cluster.launch(name)?;
            if name == cluster::SERVER {
                self.expect_writes();
            }
        }
        Ok(())
    }

    /// Whether no fault claims it.
    pub(super) fn is_free(&self, claim: &str) -> bool {
        !self.active.iter().any(|active| active.claim == claim)
            && !self.returning.iter().any(|(_, held)| *held == Some(claim))
    }

    /// A law was broken.
    pub(super) fn broken(&self, how: String) {
        note_broken(&self.history, &self.broken, how);
    }

    /// How laws were broken.
    pub(super) fn breaches(&self) -> Vec<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Watches a gateway that was started again; its failures count again once it has answered.
    pub(super) fn expect_gateway(&mut self, number: usize) {
        let address = cluster::address(GATEWAYS[number]);
        let load = Arc::clone(&self.load);
        self.watch(Some("gateway"), format!("gateway {}", GATEWAYS[number]), move || {
            load::get((address, PORT), "/endpoint0")?;
            load.expect(number);
            Ok(true)
        });
    }

    /// Watches a server that was started again: all that was acknowledged must be there.
    pub(super) fn expect_writes(&mut self) {
        let users = self.users.clone();
        let (history, broken) = (Arc::clone(&self.history), Arc::clone(&self.broken));
        self.watch(None, "server".to_owned(), move || {
            match user::check_all(&users) {
                Err(error) if error.to_string().starts_with("LOST") => {
                    note_broken(&history, &broken, format!("{error:#}"));
                }
                other => other?,
            }
            Ok(true)
        });
    }

    /// Watches a node that was cut off; the next one has to wait until it is heard of.
    pub(super) fn expect_node(&mut self, name: &'static str) {
        self.watch(Some("node"), format!("node {name}"), move || {
            let nodes = cluster::ask("GET", "/v1/nodes", "")?;
            let mut nodes = nodes.as_array().into_iter().flatten();
            Ok(nodes.any(|node| node["node"]["id"] == name && node["state"] == "ready"))
        });
    }

    fn watch(
        &mut self,
        claim: Option<&'static str>,
        what: String,
        condition: impl FnMut() -> Result<bool> + Send + 'static,
    ) {
        let (history, broken) = (Arc::clone(&self.history), Arc::clone(&self.broken));
        let watching = std::thread::spawn(move || {
            let began = Instant::now();
            let back = wait_for(BACK_WITHIN, &format!("the {what} to be back"), condition);
            match back {
                Ok(()) => {
                    history
                        .note(format!("  {what} is back after {} ms", began.elapsed().as_millis()));
                }
                Err(error) => note_broken(&history, &broken, format!("{error:#}")),
            }
        });
        self.returning.push((watching, claim));
    }
}

fn note_broken(history: &History, broken: &Mutex<Vec<String>>, how: String) {
    history.note(format!("BROKEN: {how}"));
    broken.lock().unwrap_or_else(PoisonError::into_inner).push(how);
}
