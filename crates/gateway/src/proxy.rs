//! A running proxy: threads that serve, and the task that switches their tables. Knows nothing of
//! servers: `follow.rs` connects it with one.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use model::RouteTable;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::alarm::TICK;
use crate::core::{Core, Effect, Event, Standing};
use crate::count::{Counts, RouteCounts};
use crate::listen::{self, Listener, Ports};
use crate::settings::Settings;
use crate::table::{Compiled, RouteName};
use crate::worker::Worker;

/// How often to try to open a listener that could not be opened.
const RETRY: Duration = Duration::from_millis(500);

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gives no thread, or none that can wait for sockets.
    #[error("cannot start a thread of the gateway")]
    Thread(#[source] io::Error),
}

/// What a thread is told.
enum Order {
    Follow(Arc<Compiled>),
    Open(Listener),
    Stop,
}

/// A running proxy. Dropped, it stops at once; see [`Proxy::stop`].
#[derive(Debug)]
pub struct Proxy {
    events: UnboundedSender<Event>,
    standing: watch::Receiver<Standing>,
    orders: Vec<UnboundedSender<Order>>,
    threads: Vec<JoinHandle<()>>,
    counts: Vec<Arc<Counts>>,
    control: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts the threads. They serve nothing until the first [`Proxy::switch`]. Must be called
    /// within a tokio runtime.
    pub fn start(settings: Settings) -> Result<Proxy, Error> {
        let settings = Arc::new(settings.possible(getrlimit(Resource::Nofile).current));
        let count = settings.threads;
        let (events, inbox) = unbounded_channel();
        let (stands, standing) = watch::channel(Standing::default());
        let (mut orders, mut threads, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for thread in 0..count {
            let (order, told) = unbounded_channel();
            let (started, start) = std::sync::mpsc::channel();
            let (settings, events) = (settings.clone(), events.clone());
            let counted = Arc::new(Counts::default());
            counts.push(counted.clone());
            let run = move || {
                let runtime =
                    Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        drop(started.send(Ok(())));
                        runtime.block_on(serve(thread, settings, counted, events, told));
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            };
            let name = format!("gateway-{thread}");
            let handle =
                std::thread::Builder::new().name(name).spawn(run).map_err(Error::Thread)?;
            let lost = || io::Error::other("the thread ended at once");
            start.recv().map_err(|_| lost()).flatten().map_err(Error::Thread)?;
            orders.push(order);
            threads.push(handle);
        }
        let (core, ports) = (Core::new(count), Ports::default());
        let control = Control { core, ports, orders: orders.clone(), stands };
        let control = tokio::spawn(control.run(inbox));
        Ok(Proxy { events, standing, orders, threads, counts, control })
    }

    /// Follows a table, unless it already follows one that is as new. [`Proxy::standing`] tells
    /// when that is done.
    pub fn switch(&self, table: RouteTable) {
        // Nobody listens only when the proxy is being taken down.
        drop(self.events.send(Event::Table(table)));
    }

    /// How the proxy stands, now and whenever that changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// How often each route of the current table was used.
    pub fn counts(&self) -> BTreeMap<RouteName, RouteCounts> {
        let mut sums = BTreeMap::new();
        for counts in &self.counts {
            counts.add_to(&mut sums);
        }
        sums
    }

    /// Closes the listeners and waits for the requests under way, up to the grace of the settings.
    pub async fn stop(mut self) {
        for order in &self.orders {
            drop(order.send(Order::Stop));
        }
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the gateway has panicked");
                }
            }
        });
        drop(joined.await);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The threads end when nothing can tell them anything any more.
        self.control.abort();
    }
}

/// The shell of [`Core`].
struct Control {
    core: Core,
    ports: Ports,
    orders: Vec<UnboundedSender<Order>>,
    stands: watch::Sender<Standing>,
}

impl Control {
    async fn run(mut self, mut inbox: UnboundedReceiver<Event>) {
        let mut retry = tokio::time::interval(RETRY);
        loop {
            let event = tokio::select! {
                event = inbox.recv() => match event {
                    Some(event) => event,
                    None => return,
                },
                _ = retry.tick() => Event::Retry,
            };
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        let mut opened = Vec::new();
        let mut effects: VecDeque<Effect> = self.core.handle(event).into();
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Open(listen) => {
                    let event = match self.ports.open(listen, self.orders.len()) {
                        Ok(sockets) => {
                            tracing::info!(%listen, "listening");
                            opened.push(sockets);
                            Event::Opened(listen)
                        }
                        Err(error) => Event::NotOpened(listen, error.to_string()),
                    };
                    effects.extend(self.core.handle(event));
                }
                Effect::Switch(table) => {
                    let compiled = Arc::new(Compiled::new(&table));
                    for order in &self.orders {
                        drop(order.send(Order::Follow(compiled.clone())));
                    }
                }
                Effect::Stand(standing) => {
                    if standing.failed != self.stands.borrow().failed {
                        for (listen, reason) in &standing.failed {
                            tracing::warn!(%listen, %reason, "cannot open the listener");
                        }
                    }
                    self.stands.send_replace(standing);
                }
            }
        }
        // After the table: who comes in by a new listener finds its routes.
        for sockets in opened {
            for (order, socket) in self.orders.iter().zip(sockets) {
                drop(order.send(Order::Open(socket)));
            }
        }
    }
}

/// What a thread does.
async fn serve(
    thread: usize,
    settings: Arc<Settings>,
    counts: Arc<Counts>,
    events: UnboundedSender<Event>,
    mut orders: UnboundedReceiver<Order>,
) {
    let grace = settings.stop_grace;
    let worker = Worker::new(thread, settings, counts, events);
    let ticker = worker.clone();
    tokio::task::spawn_local(async move {
        let mut ticks = tokio::time::interval(TICK);
        for tick in 0u64.. {
            ticks.tick().await;
            ticker.alarms.tick();
            if tick % 4 == 0 {
                ticker.sweep();
            }
        }
    });
    while let Some(order) = orders.recv().await {
        match order {
            Order::Follow(table) => worker.follow(table),
            Order::Open(listener) => listen::begin_to_accept(&worker, listener),
            Order::Stop => {
                if tokio::time::timeout(grace, worker.stop()).await.is_err() {
                    tracing::warn!(thread, "requests were cut off: they took too long to finish");
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that is busy may find both orders at once.
    #[test]
    fn a_listener_that_leaves_before_it_is_waited_for_closes() {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = Ports::default().open(free, 1).unwrap().remove(0);
        let (order, orders) = unbounded_channel();
        let (events, _told) = unbounded_channel();
        assert!(order.send(Order::Open(listener)).is_ok());
        assert!(order.send(Order::Follow(Arc::default())).is_ok());
        let serving = serve(0, Arc::default(), Arc::default(), events, orders);
        let closed = async {
            while tokio::net::TcpStream::connect(free).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                () = serving => panic!("nobody told it to stop"),
                closed = tokio::time::timeout(Duration::from_secs(10), closed) => closed.unwrap(),
            }
        });
    }
}
