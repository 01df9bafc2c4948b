//! The decisions of a gateway: which table to follow, which listeners to open and close, which
//! threads are stuck, and what to report. Pure: `handle(Event) -> Vec<Effect>`; `proxy` is its shell.
//!
//! A document whose listener moves to an address that cannot be opened keeps its previous listener,
//! with the new routes, until the new one is open.
//!
//! The guarantee that draining rests on: a report of generation *g* means that every new request
//! on every thread follows table *g* or a newer one, and that no instance outside of that table and
//! `busy` has a request in flight. It holds because each thread reports its generation and its
//! requests in flight in one message, made between two requests; the generation of the report is
//! the oldest of all threads, its `busy` the union.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use model::{GatewayId, InstanceId, Listen, Listener, RouteTable};

/// The number of consecutive checks without progress after which a thread is stuck.
const STUCK_CHECKS: u32 = 5;

/// An input of the core.
#[derive(Debug)]
pub enum Event {
    /// A table arrived.
    Table(RouteTable),
    /// A thread has switched, or has ended its last request at a removed instance.
    Followed {
        /// The index of the thread, from 0.
        thread: usize,
        /// The generation that all its new requests follow.
        generation: u64,
        /// The instances outside of that table with requests in flight on this thread.
        busy: BTreeSet<InstanceId>,
    },
    /// A listener is open.
    Opened(SocketAddr),
    /// A listener could not be opened, with the reason.
    NotOpened(SocketAddr, String),
    /// It is time to open the failed listeners again.
    Retry,
    /// The watchdog looked at the threads: a number for each that changes while it makes progress.
    /// Consecutive checks count, not the time between them, during which the machine may have slept.
    Checked(Vec<u32>),
}

/// An output of the core. The shell performs effects in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open a listener; results in [`Event::Opened`] or [`Event::NotOpened`].
    Open(SocketAddr),
    /// Make every thread follow this table. Listeners outside of it close.
    Switch(Arc<RouteTable>),
    /// The thread is stuck: close its sockets of listeners, so that the kernel gives new connections
    /// to other threads.
    Isolate(usize),
    /// The thread makes progress again: open its sockets of these listeners.
    Restore(usize, Vec<SocketAddr>),
    /// The standing of the gateway has changed.
    StateChanged(GatewayState),
}

/// The state of a gateway that it reports to the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GatewayState {
    /// The generation that all new requests on all threads follow.
    pub generation: u64,
    /// The instances outside of that table with requests in flight.
    pub busy: BTreeSet<InstanceId>,
    /// The listeners of that table that could not be opened, with the reason.
    pub failed: BTreeMap<SocketAddr, String>,
    /// The threads that are stuck. Requests on their connections wait.
    pub stuck: BTreeSet<usize>,
}

/// The table to follow, and the latest report of each thread.
#[derive(Debug)]
pub struct Core {
    table: Option<Arc<RouteTable>>,
    /// The latest report of each thread: its generation and its busy instances.
    threads: Vec<(u64, BTreeSet<InstanceId>)>,
    /// The number of each thread at the last check, and of checks since it changed.
    checks: Vec<(u32, u32)>,
    /// The open listeners, with the documents whose routes they have. Listeners that `table` does not
    /// have are kept for a document whose own is in `failed`.
    open: BTreeMap<SocketAddr, GatewayId>,
    /// The listeners that the shell was asked to open.
    opening: BTreeSet<SocketAddr>,
    /// The listeners of `table` that could not be opened. None of them is in `open`.
    failed: BTreeMap<SocketAddr, String>,
    /// Whether the threads must switch once `opening` is empty.
    is_switch_due: bool,
    /// The last standing that was returned as an effect.
    reported_state: GatewayState,
}

impl Core {
    /// The core of a gateway with this number of threads, none of which has a table.
    pub fn new(threads: usize) -> Self {
        Self {
            table: None,
            threads: vec![(0, BTreeSet::new()); threads],
            checks: vec![(0, 0); threads],
            open: BTreeMap::new(),
            opening: BTreeSet::new(),
            failed: BTreeMap::new(),
            is_switch_due: false,
            reported_state: GatewayState::default(),
        }
    }

    /// Handles an event. Outdated events are ignored.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Table(table) => self.follow(table, &mut effects),
            Event::Followed { thread, generation, busy } => {
                self.threads[thread] = (generation, busy);
            }
            Event::Opened(listen) => {
                self.opening.remove(&listen);
                if let Some(gateway) = self.document_of(listen) {
                    self.failed.remove(&listen);
                    // The listener that was kept for it closes.
                    self.is_switch_due |= self.kept_listener(&gateway).is_some();
                    self.open.insert(listen, gateway);
                }
            }
            Event::NotOpened(listen, reason) => {
                self.opening.remove(&listen);
                if self.document_of(listen).is_some() {
                    self.failed.insert(listen, reason);
                }
            }
            Event::Retry => {
                let failed: Vec<_> = self.failed.keys().copied().collect();
                self.open_each(failed, &mut effects);
            }
            Event::Checked(beats) => self.check(&beats, &mut effects),
        }
        if self.opening.is_empty() && std::mem::take(&mut self.is_switch_due) {
            self.switch(&mut effects);
        }
        let reported_state = self.gateway_state();
        if reported_state != self.reported_state {
            self.reported_state = reported_state.clone();
            effects.push(Effect::StateChanged(reported_state));
        }
        effects
    }

    fn follow(&mut self, table: RouteTable, effects: &mut Vec<Effect>) {
        if self.table.as_ref().is_some_and(|current| current.generation >= table.generation) {
            return;
        }
        let wanted: BTreeSet<SocketAddr> = table.listeners.iter().map(|l| l.listen.0).collect();
        self.failed.retain(|listen, _| wanted.contains(listen));
        self.table = Some(Arc::new(table));
        // Opened before the switch, so that the report of this generation has those that failed.
        self.is_switch_due = true;
        let new = wanted.into_iter().filter(|listen| !self.open.contains_key(listen)).collect();
        self.open_each(new, effects);
    }

    fn open_each(&mut self, listeners: Vec<SocketAddr>, effects: &mut Vec<Effect>) {
        for listen in listeners {
            if self.opening.insert(listen) {
                effects.push(Effect::Open(listen));
            }
        }
    }

    /// Makes the threads follow the table, and closes what neither it nor a failed document needs.
    fn switch(&mut self, effects: &mut Vec<Effect>) {
        let Some(table) = &self.table else { return };
        let kept: Vec<Listener> = table.listeners.iter().filter_map(|l| self.kept_for(l)).collect();
        let table = match kept.is_empty() {
            true => table.clone(),
            false => {
                let listeners = table.listeners.iter().cloned().chain(kept).collect();
                Arc::new(RouteTable { generation: table.generation, listeners })
            }
        };
        let open = table.listeners.iter().filter(|l| self.open.contains_key(&l.listen.0));
        self.open = open.map(|l| (l.listen.0, l.gateway.clone())).collect();
        effects.push(Effect::Switch(table));
    }

    /// The open listener that is kept with the routes of `listener`, which could not be opened.
    fn kept_for(&self, listener: &Listener) -> Option<Listener> {
        if !self.failed.contains_key(&listener.listen.0) {
            return None;
        }
        let listen = Listen(self.kept_listener(&listener.gateway)?);
        Some(Listener { listen, ..listener.clone() })
    }

    /// The open listener of a document that the table no longer has.
    fn kept_listener(&self, gateway: &GatewayId) -> Option<SocketAddr> {
        let mut open = self.open.iter().filter(|(_, of)| *of == gateway);
        open.find(|(listen, _)| self.document_of(**listen).is_none()).map(|(listen, _)| *listen)
    }

    /// The document of a listener of the table.
    fn document_of(&self, listen: SocketAddr) -> Option<GatewayId> {
        let mut listeners = self.table.iter().flat_map(|table| &table.listeners);
        listeners.find(|l| l.listen.0 == listen).map(|l| l.gateway.clone())
    }

    fn check(&mut self, beats: &[u32], effects: &mut Vec<Effect>) {
        for (thread, (beats, (last, checks))) in beats.iter().zip(&mut self.checks).enumerate() {
            if beats == last {
                *checks += 1;
                if *checks == STUCK_CHECKS {
                    effects.push(Effect::Isolate(thread));
                }
                continue;
            }
            if *checks >= STUCK_CHECKS {
                effects.push(Effect::Restore(thread, self.open.keys().copied().collect()));
            }
            (*last, *checks) = (*beats, 0);
        }
    }

    /// The threads that are stuck.
    pub fn stuck(&self) -> BTreeSet<usize> {
        let checks = self.checks.iter().enumerate();
        checks
            .filter(|(_, (_, checks))| *checks >= STUCK_CHECKS)
            .map(|(thread, _)| thread)
            .collect()
    }

    fn gateway_state(&self) -> GatewayState {
        GatewayState {
            generation: self.threads.iter().map(|(generation, _)| *generation).min().unwrap_or(0),
            busy: self.threads.iter().flat_map(|(_, busy)| busy).cloned().collect(),
            failed: self.failed.clone(),
            stuck: self.stuck(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Listen, Listener};

    fn table(generation: u64, ports: &[u16]) -> RouteTable {
        let listeners = ports.iter().map(|port| Listener {
            gateway: "shop".parse().unwrap(),
            listen: Listen(address(*port)),
            trust: BTreeSet::new(),
            routes: Vec::new(),
        });
        RouteTable { generation, listeners: listeners.collect() }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn followed(thread: usize, generation: u64, busy: &[&str]) -> Event {
        let busy = busy.iter().map(|id| id.parse().unwrap()).collect();
        Event::Followed { thread, generation, busy }
    }

    fn reported_state(effects: Vec<Effect>) -> Option<(u64, Vec<String>)> {
        effects.into_iter().find_map(|effect| match effect {
            Effect::StateChanged(s) => {
                Some((s.generation, s.busy.iter().map(|id| id.to_string()).collect()))
            }
            _ => None,
        })
    }

    #[test]
    fn a_generation_is_reported_once_every_thread_follows_it() {
        let mut core = Core::new(2);
        core.handle(Event::Table(table(4, &[])));
        assert_eq!(
            reported_state(core.handle(followed(0, 4, &["/a~0.1"]))),
            Some((0, vec!["/a~0.1".into()]))
        );
        assert_eq!(
            reported_state(core.handle(followed(1, 4, &["/a~0.1", "/b~0.1"]))),
            Some((4, vec!["/a~0.1".into(), "/b~0.1".into()]))
        );
        assert_eq!(reported_state(core.handle(followed(0, 4, &[]))), None, "thread 1 still has it");
        assert_eq!(reported_state(core.handle(followed(1, 4, &[]))), Some((4, vec![])));
    }

    #[test]
    fn an_older_table_is_ignored() {
        let mut core = Core::new(1);
        assert!(!core.handle(Event::Table(table(4, &[80]))).is_empty());
        assert!(core.handle(Event::Table(table(4, &[81]))).is_empty());
        assert!(core.handle(Event::Table(table(3, &[81]))).is_empty());
    }

    #[test]
    fn a_listener_that_failed_is_reported_and_tried_again() {
        let mut core = Core::new(1);
        let effects = core.handle(Event::Table(table(1, &[80, 81])));
        assert_eq!(effects[..2], [Effect::Open(address(80)), Effect::Open(address(81))]);
        core.handle(Event::Opened(address(80)));
        let effects = core.handle(Event::NotOpened(address(81), "address in use".into()));
        assert!(
            matches!(&effects[..], [Effect::Switch(_), Effect::StateChanged(_)]),
            "{effects:?}"
        );
        assert_eq!(core.handle(Event::Retry), [Effect::Open(address(81))]);
        let effects = core.handle(Event::Opened(address(81)));
        assert!(matches!(&effects[..], [Effect::StateChanged(s)] if s.failed.is_empty()));
        assert!(core.handle(Event::Retry).is_empty());
        let effects = core.handle(Event::Table(table(2, &[81, 80])));
        assert!(matches!(&effects[..], [Effect::Switch(_)]), "{effects:?}");
        core.handle(Event::Table(table(3, &[80])));
        let effects = core.handle(Event::Table(table(4, &[80, 81])));
        assert_eq!(effects[0], Effect::Open(address(81)));
    }

    /// The listeners of the table to switch to.
    fn switched(effects: &[Effect]) -> Option<Vec<u16>> {
        effects.iter().find_map(|effect| match effect {
            Effect::Switch(table) => {
                Some(table.listeners.iter().map(|l| l.listen.0.port()).collect())
            }
            _ => None,
        })
    }

    #[test]
    fn a_listener_that_moves_stays_open_until_the_new_one_is() {
        let mut core = Core::new(1);
        core.handle(Event::Table(table(1, &[80])));
        assert_eq!(switched(&core.handle(Event::Opened(address(80)))), Some(vec![80]));
        let effects = core.handle(Event::Table(table(2, &[81])));
        assert_eq!(effects, [Effect::Open(address(81))], "nothing closes before the result");
        let effects = core.handle(Event::NotOpened(address(81), "address in use".into()));
        assert_eq!(switched(&effects), Some(vec![81, 80]));
        // The routes change meanwhile.
        let effects = core.handle(Event::Table(table(3, &[81])));
        assert_eq!(effects, [Effect::Open(address(81))]);
        let effects = core.handle(Event::NotOpened(address(81), "address in use".into()));
        assert_eq!(switched(&effects), Some(vec![81, 80]));
        assert_eq!(core.handle(Event::Retry), [Effect::Open(address(81))]);
        assert_eq!(switched(&core.handle(Event::Opened(address(81)))), Some(vec![81]));
        assert!(core.handle(Event::Retry).is_empty());
        // Not for a document that was removed.
        assert_eq!(switched(&core.handle(Event::Table(table(4, &[])))), Some(vec![]));
    }

    #[test]
    fn a_thread_without_progress_is_isolated_until_it_makes_some() {
        let mut core = Core::new(2);
        core.handle(Event::Table(table(1, &[80])));
        core.handle(Event::Opened(address(80)));
        for check in 1..STUCK_CHECKS {
            assert!(core.handle(Event::Checked(vec![check, 0])).is_empty());
        }
        let effects = core.handle(Event::Checked(vec![9, 0]));
        assert!(
            matches!(&effects[..], [Effect::Isolate(1), Effect::StateChanged(s)] if s.stuck == [1].into())
        );
        assert!(core.handle(Event::Checked(vec![10, 0])).is_empty());
        let effects = core.handle(Event::Checked(vec![11, 1]));
        assert_eq!(effects[0], Effect::Restore(1, vec![address(80)]));
        assert!(matches!(&effects[1..], [Effect::StateChanged(s)] if s.stuck.is_empty()));
    }
}
