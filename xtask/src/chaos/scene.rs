//! The participants of a run: the cluster, its clients and users, and the claims of the faults.
//!
//! Faults act on the scene; [`super::run`] decides when. A killed process is watched until it works again.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Error, Result};

use super::{
    cluster::{self, Cluster, GATEWAYS, wait_for},
    engine::Engine,
    history::History,
    hostile::Hostile,
    load::{self, Load},
    random::Random,
    user::{self, Lost, PORT, User},
};

/// The longest time in which something that was killed must work again, whatever other faults are active.
pub(super) const RECOVERY_MAX: Duration = Duration::from_secs(40);

/// The participants of a run.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    pub(super) engine: Option<Engine>,
    pub(super) load: Arc<Load>,
    pub(super) users: Vec<Arc<User>>,
    pub(super) history: Arc<History>,
    pub(super) random: Random,
    /// The clients of the fault `hostile`.
    pub(super) hostile: Option<Hostile>,
    /// The claims of active faults: two faults with the same claim are never active together.
    pub(super) claims: BTreeSet<String>,
    /// Killed processes that have not recovered, with the claim that each still holds.
    returning: Vec<(JoinHandle<()>, Option<&'static str>)>,
    violations: Arc<Mutex<Vec<Error>>>,
}

impl Scene {
    /// A scene without faults.
    pub(super) fn new(
        cluster: Cluster,
        engine: Option<Engine>,
        load: Load,
        users: Vec<Arc<User>>,
        history: Arc<History>,
        random: Random,
    ) -> Scene {
        Scene {
            cluster,
            engine,
            load: Arc::new(load),
            users,
            history,
            random,
            hostile: None,
            claims: BTreeSet::new(),
            returning: Vec::new(),
            violations: Arc::default(),
        }
    }

    /// Whether no fault, and nothing that recovers from one, holds the claim.
    pub(super) fn is_free(&self, claim: &str) -> bool {
        !self.claims.contains(claim) && !self.returning.iter().any(|(_, held)| *held == Some(claim))
    }

    /// Whether everything that was killed has recovered, or was given up.
    pub(super) fn has_recovered(&mut self) -> bool {
        self.returning.retain(|(watching, _)| !watching.is_finished());
        self.returning.is_empty()
    }

    /// Records a violation of an invariant.
    pub(super) fn violated(&self, how: Error) {
        record(&self.history, &self.violations, how);
    }

    /// Takes the violations recorded up to now.
    pub(super) fn take_violations(&self) -> Vec<Error> {
        std::mem::take(&mut self.violations.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Watches a gateway that was restarted; its failures count again after its first response.
    pub(super) fn expect_gateway(&mut self, number: usize) {
        let address = cluster::address(GATEWAYS[number]);
        let load = Arc::clone(&self.load);
        self.watch(Some("gateway"), format!("gateway {}", GATEWAYS[number]), move || {
            load::get((address, PORT), "/endpoint0")?;
            load.expect(number);
            Ok(true)
        });
    }

    /// Watches a server that was restarted: it must have every acknowledged write.
    pub(super) fn expect_writes(&mut self) {
        let users = self.users.clone();
        let (history, violations) = (Arc::clone(&self.history), Arc::clone(&self.violations));
        self.watch(None, "server".to_owned(), move || {
            match user::check_all(&users) {
                Err(error) if error.is::<Lost>() => record(&history, &violations, error),
                other => other?,
            }
            Ok(true)
        });
    }

    /// Watches a node that was disconnected; no other node is until the server has a report of this one.
    pub(super) fn expect_node(&mut self, name: &'static str) {
        self.watch(Some("node"), format!("node {name}"), move || {
            let nodes = cluster::send_request("GET", "/v1/nodes", "")?;
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
        let (history, violations) = (Arc::clone(&self.history), Arc::clone(&self.violations));
        let watching = std::thread::spawn(move || {
            let began = Instant::now();
            let back = wait_for(RECOVERY_MAX, &format!("the {what} to be back"), condition);
            match back {
                Ok(()) => {
                    history
                        .note(format!("  {what} is back after {} ms", began.elapsed().as_millis()));
                }
                Err(error) => record(&history, &violations, error),
            }
        });
        self.returning.push((watching, claim));
    }
}

fn record(history: &History, violations: &Mutex<Vec<Error>>, how: Error) {
    history.note(format!("VIOLATED: {how:#}"));
    violations.lock().unwrap_or_else(PoisonError::into_inner).push(how);
}
