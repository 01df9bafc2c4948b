//! The shell around a gateway's core, and the requests that go through it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use api::GatewayReport;
use gateway::{Core, Effect, Event, Standing};
use model::{InstanceId, Listen, NodeId, Registration, RouteTable};

use crate::network::Place;
use crate::tamper::Tamper;
use crate::world::{Asker, Call, Conn, Happening, Life, Line, Process, Purpose, Reply, World};

/// How many threads a gateway has.
const THREADS: usize = 2;
/// A report is sent this long after the one before.
const BEAT_MS: u64 = 2_000;
/// The first wait before trying again, and the longest.
const RETRY_MS: (u64, u64) = (100, 2_000);

/// A gateway that runs.
pub(crate) struct GatewayProcess {
    pub(crate) life: Life,
    core: Core,
    standing: Standing,
    pub(crate) threads: [Option<Arc<RouteTable>>; THREADS],
    pub(crate) requests: BTreeMap<u64, Request>,
    conn: Option<Conn>,
    connect_retry_ms: u64,
    /// A report is under way, and another is due after it.
    reporting: bool,
    report_due: bool,
    report_retry_ms: u64,
    beat: u64,
}

/// A request under way.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) thread: usize,
    pub(crate) instance: InstanceId,
}

impl World {
    pub(crate) fn gateway_starts(&mut self, node: &NodeId) {
        let life = self.number();
        let host = self.host(node);
        if host.gateway.is_some() || !host.powered || !host.has_gateway {
            return;
        }
        host.gateway = Some(GatewayProcess {
            life,
            core: Core::new(THREADS),
            standing: Standing::default(),
            threads: Default::default(),
            requests: BTreeMap::new(),
            conn: None,
            connect_retry_ms: RETRY_MS.0,
            reporting: false,
            report_due: false,
            report_retry_ms: RETRY_MS.0,
            beat: 0,
        });
        self.history.note(self.now(), format_args!("{node}: gateway starts"));
        self.queue.after(1, Happening::GatewayConnects(node.clone(), life));
        self.queue.after(1, Happening::GatewayBeats(node.clone(), life, 0));
        self.queue.after(100, Happening::RequestBegins(node.clone(), life));
    }

    pub(crate) fn gateway_dies(&mut self, node: &NodeId, why: &str) {
        let Some(gateway) = self.host(node).gateway.take() else { return };
        self.streams.retain(|conn, _| gateway.conn != Some(*conn));
        self.asleep.remove(&Process::Gateway(node.clone()));
        self.history.note(self.now(), format_args!("{node}: gateway {why}"));
    }

    fn gateway(&mut self, node: &NodeId, life: Life) -> Option<&mut GatewayProcess> {
        self.host(node).gateway.as_mut().filter(|gateway| gateway.life == life)
    }

    pub(crate) fn gateway_connects(&mut self, node: &NodeId, life: Life) {
        if self.gateway(node, life).is_none() {
            return;
        }
        let address = format!("{node}.example");
        let registration = Registration { node: node.clone(), address, agent: None };
        let asker = Asker::Gateway(node.clone(), life, Purpose::Register);
        self.call(Place::Node(node.clone()), asker, Call::Register(registration));
    }

    fn gateway_connects_again(&mut self, node: &NodeId, life: Life) {
        let Some(gateway) = self.gateway(node, life) else { return };
        let span = gateway.connect_retry_ms;
        gateway.connect_retry_ms = (span * 2).min(RETRY_MS.1);
        if let Some(conn) = gateway.conn.take() {
            self.streams.remove(&conn);
        }
        self.queue.after(span, Happening::GatewayConnects(node.clone(), life));
    }

    pub(crate) fn gateway_is_answered(
        &mut self,
        node: &NodeId,
        life: Life,
        purpose: Purpose,
        reply: Reply,
    ) {
        if self.gateway(node, life).is_none() {
            return;
        }
        match (purpose, reply) {
            (Purpose::Register, Reply::Changeset(Ok(_))) => {
                let asker = Asker::Gateway(node.clone(), life, Purpose::Follow);
                self.call(Place::Node(node.clone()), asker, Call::Routes);
            }
            (Purpose::Follow, Reply::Stream(conn)) => {
                let Some(stream) = self.streams.get_mut(&conn) else {
                    return self.gateway_connects_again(node, life);
                };
                stream.life = Some(life);
                if let Some(gateway) = self.gateway(node, life) {
                    gateway.conn = Some(conn);
                    gateway.connect_retry_ms = RETRY_MS.0;
                }
                self.gateway_reports(node, life);
            }
            (Purpose::Register | Purpose::Follow, _) => self.gateway_connects_again(node, life),
            (Purpose::Report(_), reply) => self.gateway_has_reported(node, life, &reply),
        }
    }

    fn gateway_has_reported(&mut self, node: &NodeId, life: Life, reply: &Reply) {
        let Some(gateway) = self.gateway(node, life) else { return };
        gateway.reporting = false;
        let is_due = std::mem::take(&mut gateway.report_due);
        let is_connected = gateway.conn.is_some();
        let wait = match reply {
            Reply::Reported(Ok(_)) => {
                gateway.report_retry_ms = RETRY_MS.0;
                BEAT_MS
            }
            _ => {
                let wait = gateway.report_retry_ms;
                gateway.report_retry_ms = (wait * 2).min(RETRY_MS.1);
                wait
            }
        };
        gateway.beat += 1;
        let beat = gateway.beat;
        let wait = if is_due { 0 } else { wait };
        self.queue.after(wait, Happening::GatewayBeats(node.clone(), life, beat));
        // An answer, even a bad one, shows that the connection lives.
        if matches!(reply, Reply::Failed) && is_connected {
            self.gateway_connects_again(node, life);
        }
    }

    pub(crate) fn gateway_beats(&mut self, node: &NodeId, life: Life, beat: u64) {
        if self.gateway(node, life).is_some_and(|gateway| gateway.beat == beat) {
            self.gateway_reports(node, life);
        }
    }

    fn gateway_reports(&mut self, node: &NodeId, life: Life) {
        let unburdened = self.tamper == Some(Tamper::Busy);
        let Some(gateway) = self.gateway(node, life) else { return };
        if gateway.reporting {
            gateway.report_due = true;
            return;
        }
        gateway.reporting = true;
        let standing = gateway.standing.clone();
        let failed = standing.failed.into_iter();
        let report = GatewayReport {
            node: node.clone(),
            generation: standing.generation,
            busy: if unburdened { BTreeSet::new() } else { standing.busy },
            failed: failed.map(|(listen, reason)| (Listen(listen), reason)).collect(),
        };
        let asker = Asker::Gateway(node.clone(), life, Purpose::Report(0));
        self.call(Place::Node(node.clone()), asker, Call::GatewayReport(report));
    }

    pub(crate) fn gateway_reads(&mut self, node: &NodeId, life: Life, conn: Conn, line: Line) {
        let Some(gateway) = self.gateway(node, life).filter(|g| g.conn == Some(conn)) else {
            return;
        };
        match line {
            Line::Routes(table) => {
                let mut table = RouteTable::clone(&table);
                if self.tamper == Some(Tamper::StaleTable) && self.chance(4) {
                    // What an old table says, taken for news.
                    let Some(gateway) = self.gateway(node, life) else { return };
                    if let Some(known) = &gateway.threads[0] {
                        table.listeners = known.listeners.clone();
                    }
                }
                self.gateway_takes(node, life, Event::Table(table));
            }
            Line::End => {
                gateway.conn = None;
                self.gateway_connects_again(node, life);
            }
            Line::Assignments(_) => unreachable!("gateways follow routes"),
        }
    }

    fn gateway_takes(&mut self, node: &NodeId, life: Life, event: Event) {
        let Some(gateway) = self.gateway(node, life) else { return };
        for effect in gateway.core.handle(event) {
            match effect {
                Effect::Open(address) => {
                    let span = self.rng.u64(1..5);
                    self.queue.after(span, Happening::Opened(node.clone(), life, address));
                }
                Effect::Switch(table) => {
                    for thread in 0..THREADS {
                        let span = self.rng.u64(0..30);
                        let (node, table) = (node.clone(), Arc::clone(&table));
                        self.queue.after(span, Happening::Switches { node, life, thread, table });
                    }
                }
                Effect::Stand(standing) => {
                    if let Some(gateway) = self.gateway(node, life) {
                        gateway.standing = standing;
                    }
                    self.gateway_reports(node, life);
                }
            }
        }
    }

    pub(crate) fn opened(&mut self, node: &NodeId, life: Life, address: SocketAddr) {
        let event = match !self.calm && self.chance(20) {
            true => {
                let span = self.rng.u64(500..2_000);
                self.queue.after(span, Happening::GatewayRetries(node.clone(), life));
                Event::NotOpened(address, "address in use".into())
            }
            false => Event::Opened(address),
        };
        self.gateway_takes(node, life, event);
    }

    pub(crate) fn gateway_retries(&mut self, node: &NodeId, life: Life) {
        self.gateway_takes(node, life, Event::Retry);
    }

    /// A thread follows another table, from one request to the next.
    pub(crate) fn switches(
        &mut self,
        node: &NodeId,
        life: Life,
        thread: usize,
        table: Arc<RouteTable>,
    ) {
        let Some(gateway) = self.gateway(node, life) else { return };
        let known = gateway.threads[thread].as_ref().map_or(0, |table| table.generation);
        // Only the newest counts: what was overtaken on its way is not looked at any more.
        if table.generation <= known {
            return;
        }
        gateway.threads[thread] = Some(table);
        self.thread_follows(node, life, thread);
    }

    /// A thread says which table it follows, and what it has under way beyond it.
    fn thread_follows(&mut self, node: &NodeId, life: Life, thread: usize) {
        let Some(gateway) = self.gateway(node, life) else { return };
        let Some(table) = &gateway.threads[thread] else { return };
        let requests = gateway.requests.values().filter(|request| request.thread == thread);
        let leaving = requests.filter(|request| !has(table, &request.instance));
        let busy = leaving.map(|request| request.instance.clone()).collect();
        let event = Event::Followed { thread, generation: table.generation, busy };
        self.gateway_takes(node, life, event);
    }

    pub(crate) fn request_begins(&mut self, node: &NodeId, life: Life) {
        if self.gateway(node, life).is_none() {
            return;
        }
        let span = self.rng.u64(20..400);
        self.queue.after(span, Happening::RequestBegins(node.clone(), life));
        let thread = self.rng.usize(0..THREADS);
        let Some(gateway) = self.gateway(node, life) else { return };
        let Some(table) = gateway.threads[thread].clone() else { return };
        let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
        let routes: Vec<_> = routes.filter(|route| !route.backends.is_empty()).collect();
        let Some(route) = self.rng.choice(&routes) else { return };
        // A backend that does not take it is passed over, as the real one does.
        let mut backends: Vec<_> = route.backends.iter().map(|b| b.instance.clone()).collect();
        self.rng.shuffle(&mut backends);
        let Some(instance) = backends.into_iter().find(|instance| self.answers(node, instance))
        else {
            return;
        };
        let long = if self.chance(15) { 12_000 } else { 300 };
        let span = self.rng.u64(1..long);
        let request = self.number();
        if let Some(gateway) = self.gateway(node, life) {
            gateway.requests.insert(request, Request { thread, instance });
        }
        self.queue.after(span, Happening::RequestEnds(node.clone(), life, request));
    }

    /// Whether an instance takes requests from a node.
    fn answers(&self, from: &NodeId, instance: &InstanceId) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.any(|(node, host)| {
            let (from, to) = (Place::Node(from.clone()), Place::Node(node.clone()));
            let run = host.machine.runs.get(instance);
            run.is_some_and(|run| run.is_up() && !run.hangs) && !self.network.is_cut(&from, &to)
        })
    }

    pub(crate) fn request_ends(&mut self, node: &NodeId, life: Life, request: u64) {
        let Some(gateway) = self.gateway(node, life) else { return };
        let Some(request) = gateway.requests.remove(&request) else { return };
        self.laws.requests += 1;
        let Some(gateway) = self.gateway(node, life) else { return };
        let others = gateway.requests.values();
        let mut others = others.filter(|other| other.thread == request.thread);
        let was_last = !others.any(|other| other.instance == request.instance);
        let table = gateway.threads[request.thread].as_ref();
        if was_last && table.is_some_and(|table| !has(table, &request.instance)) {
            self.thread_follows(node, life, request.thread);
        }
    }
}

/// Whether a table sends requests to an instance.
pub(crate) fn has(table: &RouteTable, instance: &InstanceId) -> bool {
    let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
    routes.flat_map(|route| &route.backends).any(|backend| backend.instance == *instance)
}
