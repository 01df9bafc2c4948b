//! One thread: its table, its backends, its clients. Nothing in here is shared with another
//! thread, so nothing is locked.
//!
//! A switch of tables happens between two requests' steps, on the thread itself. The word that it
//! has switched is sent in the same step, with everything that is still under way at instances
//! that left: that is what makes the gateway's reports exact (see `core.rs`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use model::{Backend, InstanceId};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::alarm::{Alarms, Clock, ticks};
use crate::backend::pool::LiveBackend;
use crate::balance::Chooser;
use crate::client::Client;
use crate::client::serve::{Server, server};
use crate::core::Event;
use crate::count::{Count, Counts};
use crate::settings::Settings;
use crate::table::Compiled;

/// A table and this thread's view of its backends and routes, in the table's order.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) table: Arc<Compiled>,
    pub(crate) backends: Vec<Rc<LiveBackend>>,
    pub(crate) counts: Vec<Arc<Count>>,
}

/// One thread.
#[derive(Debug)]
pub(crate) struct Worker {
    thread: usize,
    pub(crate) settings: Arc<Settings>,
    pub(crate) server: Server,
    pub(crate) alarms: Rc<Alarms>,
    pub(crate) clock: Clock,
    live: RefCell<Rc<Live>>,
    /// Backends that have left the table and have requests under way.
    leaving: RefCell<Vec<Rc<LiveBackend>>>,
    chooser: RefCell<Chooser>,
    counts: Arc<Counts>,
    events: UnboundedSender<Event>,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    next_client: Cell<u64>,
    /// Told whenever a client has left, or something else that is waited for is done.
    left: Notify,
    /// Told to the accepting task of each listener when it should close.
    listeners: RefCell<HashMap<SocketAddr, Rc<Notify>>>,
    /// How many accepting tasks there are: they are waited for, too.
    held: Cell<usize>,
}

impl Worker {
    pub(crate) fn new(
        thread: usize,
        settings: Arc<Settings>,
        counts: Arc<Counts>,
        events: UnboundedSender<Event>,
    ) -> Rc<Self> {
        let alarms = Alarms::new();
        Rc::new(Self {
            thread,
            server: server(),
            clock: alarms.clock(),
            alarms,
            live: RefCell::default(),
            leaving: RefCell::default(),
            chooser: RefCell::new(Chooser::new(settings.seed.wrapping_add(thread as u64))),
            counts,
            events,
            clients: RefCell::default(),
            next_client: Cell::new(0),
            left: Notify::new(),
            listeners: RefCell::default(),
            held: Cell::new(0),
            settings,
        })
    }

    /// The table of this moment.
    pub(crate) fn live(&self) -> Rc<Live> {
        self.live.borrow().clone()
    }

    /// Switches to a table and says so.
    pub(crate) fn follow(&self, table: Arc<Compiled>) {
        let before = self.live();
        let mut known: BTreeMap<&Backend, &Rc<LiveBackend>> = BTreeMap::new();
        let leaving = self.leaving.take();
        for backend in before.backends.iter().chain(&leaving) {
            known.insert(&backend.backend, backend);
        }
        let backends = table.backends.iter().map(|backend| match known.remove(backend) {
            Some(live) => live.clone(),
            None => LiveBackend::new(backend, self.settings.backend_idle_max),
        });
        let backends: Vec<_> = backends.collect();
        for backend in &backends {
            backend.set_leaving(false);
        }
        for backend in known.into_values() {
            backend.set_leaving(true);
            self.leaving.borrow_mut().push(backend.clone());
        }
        let counts = self.counts.follow(table.routes.iter().map(|route| &route.name));
        self.close_listeners(|listen| table.listener(listen).is_none());
        self.live.replace(Rc::new(Live { table, backends, counts }));
        self.tell_followed();
    }

    /// Says which table this thread follows and what is still under way at instances not in it.
    pub(crate) fn tell_followed(&self) {
        let live = self.live();
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|backend| backend.under_way() > 0);
        let busy = leaving.iter().map(|backend| &backend.backend.instance);
        let busy: BTreeSet<InstanceId> = match leaving.is_empty() {
            true => BTreeSet::new(),
            false => {
                let present = live.table.instances();
                busy.filter(|instance| !present.contains(instance)).cloned().collect()
            }
        };
        let generation = live.table.generation;
        // Nobody listens only when the gateway is being taken down.
        drop(self.events.send(Event::Followed { thread: self.thread, generation, busy }));
    }

    /// Chooses a backend of a route that is not in `failed`. One that is put aside is chosen only
    /// if there is no other.
    pub(crate) fn choose(
        &self,
        live: &Live,
        route: usize,
        failed: &[Rc<LiveBackend>],
    ) -> Option<Rc<LiveBackend>> {
        let backends = &live.table.routes[route].backends;
        let backend = |index: usize| &live.backends[backends[index]];
        let has_failed = |index| failed.iter().any(|one| Rc::ptr_eq(one, backend(index)));
        let mut chooser = self.chooser.borrow_mut();
        let chosen = chooser
            .choose(backends.len(), |index| {
                let usable = !backend(index).is_aside() && !has_failed(index);
                usable.then(|| backend(index).under_way())
            })
            .or_else(|| {
                chooser.choose(backends.len(), |index| {
                    (!has_failed(index)).then(|| backend(index).under_way())
                })
            });
        chosen.map(|index| backend(index).clone())
    }

    /// Remembers a client until the returned value is dropped.
    pub(crate) fn enter(self: &Rc<Self>, client: Rc<Client>) -> Entered {
        let number = self.next_client.get();
        self.next_client.set(number + 1);
        self.clients.borrow_mut().insert(number, client);
        Entered { worker: self.clone(), number }
    }

    /// Waits until there is room for another client.
    pub(crate) async fn room(&self) {
        let share = (self.settings.clients_max / self.settings.threads.max(1)).max(1);
        self.left_until(|| self.clients.borrow().len() < share).await;
    }

    /// Waits for something that comes true only when somebody leaves. All who wait are told and
    /// look for themselves: one that was told alone might not want what it was told of.
    async fn left_until(&self, ready: impl Fn() -> bool) {
        loop {
            // Before the look: from here on nothing is missed.
            let left = self.left.notified();
            if ready() {
                return;
            }
            left.await;
        }
    }

    /// Notes a listener; told when it should close.
    pub(crate) fn listens(&self, listen: SocketAddr) -> Rc<Notify> {
        let close = Rc::new(Notify::new());
        self.listeners.borrow_mut().insert(listen, close.clone());
        close
    }

    /// Closes listeners, and the connections that came in by them once their requests are done.
    fn close_listeners(&self, which: impl Fn(SocketAddr) -> bool) {
        self.listeners.borrow_mut().retain(|listen, close| {
            let closes = which(*listen);
            if closes {
                close.notify_one();
            }
            !closes
        });
        for client in self.clients.borrow().values().filter(|client| which(client.listen)) {
            client.leave();
        }
    }

    /// The thread does not stop before the returned value is dropped.
    pub(crate) fn hold(self: &Rc<Self>) -> Held {
        self.held.set(self.held.get() + 1);
        Held(self.clone())
    }

    /// Once a second: closes connections to backends that are not used any more.
    pub(crate) fn sweep(&self) {
        let oldest = self.clock.now().saturating_sub(ticks(self.settings.backend_idle));
        for backend in &self.live().backends {
            backend.sweep(oldest);
        }
    }

    /// Takes no new connections and waits until all requests are done.
    pub(crate) async fn stop(&self) {
        self.close_listeners(|_| true);
        self.left_until(|| self.clients.borrow().is_empty() && self.held.get() == 0).await;
    }
}

/// A client that is known to its thread.
pub(crate) struct Entered {
    worker: Rc<Worker>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.worker.clients.borrow_mut().remove(&self.number);
        self.worker.left.notify_waiters();
    }
}

/// Something that is waited for before the thread stops.
pub(crate) struct Held(Rc<Worker>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get() - 1);
        self.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use std::pin::pin;
    use std::task::Poll::{Pending, Ready};

    /// As many clients as listeners, one too many: each listener accepts one before it waits.
    #[tokio::test]
    async fn room_is_told_to_every_listener_that_waits_for_it() {
        let settings = Settings { threads: 1, clients_max: 1, ..Settings::default() };
        let (events, _told) = tokio::sync::mpsc::unbounded_channel();
        let worker = Worker::new(0, Arc::new(settings), Arc::default(), events);
        let client = || Rc::new(Client::for_tests("10.0.0.1:1", "127.0.0.1:80"));
        let (first, second) = (worker.enter(client()), worker.enter(client()));
        let (mut idle, mut busy) = (pin!(worker.room()), pin!(worker.room()));
        assert_eq!((poll!(&mut idle), poll!(&mut busy)), (Pending, Pending));
        drop(first);
        assert_eq!((poll!(&mut idle), poll!(&mut busy)), (Pending, Pending));
        drop(second);
        assert_eq!((poll!(&mut idle), poll!(&mut busy)), (Ready(()), Ready(())));
    }
}
