//! One thread of the gateway: its table, clients, listeners and timers. Threads share no state.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::backend::pool::LiveBackend;
use crate::balance::Balancer;
use crate::clients::Clients;
use crate::core::Event;
use crate::listeners::Listeners;
use crate::progress::Progress;
use crate::retry::Attempts;
use crate::settings::Settings;
use crate::table::Compiled;
use crate::tables::{Live, Tables};
use crate::timer::{CoarseTimers, ticks};

/// One thread of the gateway.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) timers: Rc<CoarseTimers>,
    pub(crate) tables: Rc<Tables>,
    pub(crate) clients: Rc<Clients>,
    pub(crate) listeners: Rc<Listeners>,
    pub(crate) progress: Arc<Progress>,
    balancer: RefCell<Balancer>,
}

impl Worker {
    pub(crate) fn new(
        thread: usize,
        settings: Arc<Settings>,
        progress: Arc<Progress>,
        events: UnboundedSender<Event>,
    ) -> Rc<Self> {
        let timers = CoarseTimers::new();
        Rc::new(Self {
            tables: Tables::new(thread, settings.backend_idle_max, timers.clock(), events),
            clients: Clients::new(settings.clients_max / settings.threads.max(1)),
            listeners: Rc::default(),
            progress,
            balancer: RefCell::new(Balancer::new(settings.seed.wrapping_add(thread as u64))),
            timers,
            settings,
        })
    }

    /// Switches to a table. Listeners that it does not have close, and the connections that they
    /// accepted close once their requests are done.
    pub(crate) fn follow(&self, table: Arc<Compiled>) {
        self.listeners.close(|listen| table.listener(listen).is_none());
        self.clients.close(|listen| table.listener(listen).is_none());
        self.tables.switch(table);
    }

    /// Selects a backend of a route for the next attempt to send a request.
    pub(crate) fn select(
        &self,
        live: &Live,
        route: usize,
        attempts: &Attempts,
    ) -> Option<Rc<LiveBackend>> {
        let backends = &live.table.routes[route].backends;
        let backend = |index: usize| &live.backends[backends[index]];
        let load = |index| attempts.allows(backend(index)).then(|| backend(index).load());
        let selected = self.balancer.borrow_mut().select(backends.len(), load);
        selected.map(|index| backend(index).clone())
    }

    /// Closes idle connections to backends. Called once a second.
    pub(crate) fn sweep(&self) {
        let now = self.timers.clock().now();
        let oldest = now.saturating_sub(ticks(self.settings.backend_idle));
        for backend in &self.tables.live().backends {
            backend.sweep(oldest);
        }
    }

    /// Closes all listeners and waits until all requests are done.
    pub(crate) async fn stop(&self) {
        self.listeners.close(|_| true);
        self.clients.close(|_| true);
        // The tasks of listeners still serve connections that the kernel had accepted, so no client
        // can be added only once they have ended.
        self.listeners.all_ended().await;
        self.clients.all_removed().await;
    }
}
