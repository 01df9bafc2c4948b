//! The decisions of a gateway: which table to follow, which listeners to open and close, and what to
//! report. Pure: `handle(Event) -> Vec<Effect>`; `proxy` is its shell.
//!
//! The guarantee that draining rests on: a report of generation *g* means that every new request
//! on every thread follows table *g* or a newer one, and that no instance outside of that table and
//! `busy` has a request in flight. It holds because each thread reports its generation and its
//! requests in flight in one message, made between two requests; the generation of the report is
//! the oldest of all threads, its `busy` the union.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use model::{InstanceId, RouteTable};

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
}

/// An output of the core. The shell performs effects in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open a listener; results in [`Event::Opened`] or [`Event::NotOpened`].
    Open(SocketAddr),
    /// Make every thread follow this table. Listeners outside of it close.
    Switch(Arc<RouteTable>),
    /// The standing of the gateway has changed.
    Stand(Standing),
}

/// The state of a gateway that it reports to the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The generation that all new requests on all threads follow.
    pub generation: u64,
    /// The instances outside of that table with requests in flight.
    pub busy: BTreeSet<InstanceId>,
    /// The listeners of that table that could not be opened, with the reason.
    pub failed: BTreeMap<SocketAddr, String>,
}

/// The table to follow, and the latest report of each thread.
#[derive(Debug)]
pub struct Core {
    table: Option<Arc<RouteTable>>,
    /// The latest report of each thread: its generation and its busy instances.
    threads: Vec<(u64, BTreeSet<InstanceId>)>,
    /// `open` and `failed` are disjoint subsets of the listeners of `table`.
    open: BTreeSet<SocketAddr>,
    failed: BTreeMap<SocketAddr, String>,
    /// The last standing that was returned as an effect.
    stands: Standing,
}

impl Core {
    /// The core of a gateway with this number of threads, none of which has a table.
    pub fn new(threads: usize) -> Self {
        Self {
            table: None,
            threads: vec![(0, BTreeSet::new()); threads],
            open: BTreeSet::new(),
            failed: BTreeMap::new(),
            stands: Standing::default(),
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
                self.failed.remove(&listen);
                self.open.insert(listen);
            }
            Event::NotOpened(listen, reason) => {
                if self.is_wanted(listen) {
                    self.failed.insert(listen, reason);
                }
            }
            Event::Retry => effects.extend(self.failed.keys().copied().map(Effect::Open)),
        }
        let stands = self.standing();
        if stands != self.stands {
            self.stands = stands.clone();
            effects.push(Effect::Stand(stands));
        }
        effects
    }

    fn follow(&mut self, table: RouteTable, effects: &mut Vec<Effect>) {
        if self.table.as_ref().is_some_and(|current| current.generation >= table.generation) {
            return;
        }
        let wanted: BTreeSet<SocketAddr> = table.listeners.iter().map(|l| l.listen.0).collect();
        // Opened before the switch, so that the report of this generation has those that failed.
        effects.extend(wanted.difference(&self.open).copied().map(Effect::Open));
        self.open.retain(|listen| wanted.contains(listen));
        self.failed.retain(|listen, _| wanted.contains(listen));
        let table = Arc::new(table);
        effects.push(Effect::Switch(table.clone()));
        self.table = Some(table);
    }

    fn is_wanted(&self, listen: SocketAddr) -> bool {
        let table = self.table.as_ref();
        table.is_some_and(|table| table.listeners.iter().any(|l| l.listen.0 == listen))
    }

    fn standing(&self) -> Standing {
        Standing {
            generation: self.threads.iter().map(|(generation, _)| *generation).min().unwrap_or(0),
            busy: self.threads.iter().flat_map(|(_, busy)| busy).cloned().collect(),
            failed: self.failed.clone(),
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

    fn stands(effects: Vec<Effect>) -> Option<(u64, Vec<String>)> {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Stand(s) => {
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
            stands(core.handle(followed(0, 4, &["/a~0.1"]))),
            Some((0, vec!["/a~0.1".into()]))
        );
        assert_eq!(
            stands(core.handle(followed(1, 4, &["/a~0.1", "/b~0.1"]))),
            Some((4, vec!["/a~0.1".into(), "/b~0.1".into()]))
        );
        assert_eq!(stands(core.handle(followed(0, 4, &[]))), None, "thread 1 still has it");
        assert_eq!(stands(core.handle(followed(1, 4, &[]))), Some((4, vec![])));
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
        core.handle(Event::NotOpened(address(81), "address in use".into()));
        assert_eq!(core.handle(Event::Retry), [Effect::Open(address(81))]);
        let effects = core.handle(Event::Opened(address(81)));
        assert!(matches!(&effects[..], [Effect::Stand(s)] if s.failed.is_empty()));
        assert!(core.handle(Event::Retry).is_empty());
        let effects = core.handle(Event::Table(table(2, &[81, 80])));
        assert!(matches!(&effects[..], [Effect::Switch(_)]), "{effects:?}");
        core.handle(Event::Table(table(3, &[80])));
        let effects = core.handle(Event::Table(table(4, &[80, 81])));
        assert_eq!(effects[0], Effect::Open(address(81)));
    }
}
