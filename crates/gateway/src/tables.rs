//! The table that a thread follows, with the state of its backends.
//!
//! A switch happens between two steps of the thread's requests. The report of the switch is sent in
//! the same step, together with the removed instances that still have requests in flight: that
//! makes the gateway's reports exact (see `core`). A request is counted from the selection of its
//! backend, in the same step, until its last byte has arrived or its tunnel has closed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use model::{Backend, InstanceId};
use tokio::sync::mpsc::UnboundedSender;

use crate::backend::connection::Connection;
use crate::backend::pool::LiveBackend;
use crate::core::Event;
use crate::table::Compiled;
use crate::timer::Clock;

/// A table, and this thread's state of its backends in the table's order.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) table: Arc<Compiled>,
    pub(crate) backends: Vec<Rc<LiveBackend>>,
}

/// The current table of one thread.
#[derive(Debug)]
pub(crate) struct Tables {
    thread: usize,
    backend_idle_max: usize,
    clock: Clock,
    live: RefCell<Rc<Live>>,
    /// Backends that the table no longer has and that had requests in flight at the last report.
    /// A backend is in here or in `live`, never in both.
    draining: RefCell<Vec<Rc<LiveBackend>>>,
    events: UnboundedSender<Event>,
}

impl Tables {
    pub(crate) fn new(
        thread: usize,
        backend_idle_max: usize,
        clock: Clock,
        events: UnboundedSender<Event>,
    ) -> Rc<Self> {
        let (live, draining) = Default::default();
        Rc::new(Self { thread, backend_idle_max, clock, live, draining, events })
    }

    /// The current table. A caller that awaits must ask again afterwards.
    pub(crate) fn live(&self) -> Rc<Live> {
        self.live.borrow().clone()
    }

    /// Switches to a table and reports it. Backends that both tables have keep their state.
    pub(crate) fn switch(&self, table: Arc<Compiled>) {
        let before = self.live();
        let draining = self.draining.take();
        let mut known: BTreeMap<&Backend, &Rc<LiveBackend>> = BTreeMap::new();
        for backend in before.backends.iter().chain(&draining) {
            known.insert(&backend.backend, backend);
        }
        let backends = table.backends.iter().map(|backend| match known.remove(backend) {
            Some(live) => live.clone(),
            None => LiveBackend::new(backend, self.backend_idle_max),
        });
        let backends: Vec<_> = backends.collect();
        for backend in &backends {
            backend.set_removed(false);
        }
        for backend in known.into_values() {
            backend.set_removed(true);
            self.draining.borrow_mut().push(backend.clone());
        }
        self.live.replace(Rc::new(Live { table, backends }));
        self.report();
    }

    /// Reports the generation of this thread and the removed instances with requests in flight.
    fn report(&self) {
        let live = self.live();
        let mut draining = self.draining.borrow_mut();
        draining.retain(|backend| backend.in_flight() > 0);
        let mut busy = BTreeSet::<InstanceId>::new();
        if !draining.is_empty() {
            // An instance that moved to another address is still in the table.
            let present = live.table.instances();
            let instances = draining.iter().map(|backend| &backend.backend.instance);
            busy.extend(instances.filter(|instance| !present.contains(instance)).cloned());
        }
        let generation = live.table.generation;
        // Fails only while the gateway stops.
        drop(self.events.send(Event::Followed { thread: self.thread, generation, busy }));
    }
}

/// A request in flight at a backend: counts from its creation until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    backend: Rc<LiveBackend>,
    tables: Rc<Tables>,
}

impl InFlight {
    pub(crate) fn new(backend: Rc<LiveBackend>, tables: Rc<Tables>) -> Self {
        backend.request_begins();
        Self { backend, tables }
    }

    pub(crate) fn backend(&self) -> &Rc<LiveBackend> {
        &self.backend
    }

    /// Ends the request and keeps its connection for the next one.
    pub(crate) fn release(self, mut connection: Box<Connection>) {
        connection.used = true;
        connection.idle_since = self.tables.clock.now();
        connection.timer.clear();
        self.backend.put_idle(connection);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.backend.request_ends() {
            self.tables.report();
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Listen, Listener, RouteTable, TableRoute};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn tables() -> (Rc<Tables>, UnboundedReceiver<Event>) {
        let (events, received) = unbounded_channel();
        (Tables::new(0, 1, Clock::default(), events), received)
    }

    fn table(generation: u64, backends: &[(&str, &str)]) -> Arc<Compiled> {
        let backends = backends.iter().map(|(instance, address)| Backend {
            instance: instance.parse().unwrap(),
            address: (*address).into(),
        });
        let route = TableRoute {
            hosts: BTreeSet::new(),
            path: "/".into(),
            service: "/a".parse().unwrap(),
            backends: backends.collect(),
            empty_because: None,
        };
        let listener = Listener {
            gateway: "shop".parse().unwrap(),
            listen: Listen(([127, 0, 0, 1], 80).into()),
            trust: BTreeSet::new(),
            routes: vec![route],
        };
        Arc::new(Compiled::new(&RouteTable { generation, listeners: vec![listener] }, generation))
    }

    fn reported(events: &mut UnboundedReceiver<Event>) -> Option<(u64, Vec<String>)> {
        match events.try_recv() {
            Ok(Event::Followed { generation, busy, .. }) => {
                Some((generation, busy.iter().map(ToString::to_string).collect()))
            }
            _ => None,
        }
    }

    #[test]
    fn a_removed_instance_is_busy_until_its_last_request_ends() {
        let (tables, mut events) = tables();
        tables.switch(table(1, &[("/a~0.1", "127.0.0.1:1"), ("/a~1.1", "127.0.0.1:2")]));
        assert_eq!(reported(&mut events), Some((1, vec![])));
        let backend = tables.live().backends[0].clone();
        let first = InFlight::new(backend.clone(), tables.clone());
        let second = InFlight::new(backend, tables.clone());
        tables.switch(table(2, &[("/a~1.1", "127.0.0.1:2")]));
        assert_eq!(reported(&mut events), Some((2, vec!["/a~0.1".into()])));
        drop(first);
        assert_eq!(reported(&mut events), None, "one request is still in flight");
        drop(second);
        assert_eq!(reported(&mut events), Some((2, vec![])));
    }

    #[test]
    fn a_backend_that_returns_keeps_its_requests_and_an_instance_that_moved_is_not_busy() {
        let (tables, mut events) = tables();
        tables.switch(table(1, &[("/a~0.1", "127.0.0.1:1")]));
        let request = InFlight::new(tables.live().backends[0].clone(), tables.clone());
        tables.switch(table(2, &[]));
        tables.switch(table(3, &[("/a~0.1", "127.0.0.1:1")]));
        assert_eq!(tables.live().backends[0].in_flight(), 1);
        tables.switch(table(4, &[("/a~0.1", "127.0.0.1:9")]));
        let reports: Vec<_> = std::iter::from_fn(|| reported(&mut events)).collect();
        let busy = vec!["/a~0.1".to_string()];
        assert_eq!(reports, [(1, vec![]), (2, busy), (3, vec![]), (4, vec![])]);
        drop(request);
        assert_eq!(reported(&mut events), Some((4, vec![])));
    }
}
