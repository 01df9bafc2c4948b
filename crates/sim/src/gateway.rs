//! The shell around a gateway's core, and the requests that pass through it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Backoff, GatewayReport, Membership};
use gateway::{Core, Effect, Event, GatewayState};
use model::{Daemon, InstanceId, Listen, NodeId, Registration, RouteTable};

use crate::bug::InjectedBug;
use crate::environment::Environment;
use crate::event::{GatewayEvent, SimEvent};
use crate::following::{checked, membership};
use crate::message::{Call, Caller, Line, Purpose, Reply};
use crate::network::Location;
use crate::observation::Observation;
use crate::process::{Conn, Incarnation, Process};
use crate::queue::millis;

/// The number of worker threads of a gateway.
const THREADS: usize = 2;
/// The interval between reports.
const REPORT_INTERVAL_MS: u64 = 2_000;
/// Bounds of the delay before a retry.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// The gateway of one node: the process while it runs.
pub(crate) struct Gateway {
    node: NodeId,
    pub(crate) membership: Membership,
    pub(crate) running: Option<Running>,
}

/// A running gateway.
pub(crate) struct Running {
    incarnation: Incarnation,
    core: Core,
    gateway_state: GatewayState,
    pub(crate) threads: [Option<Arc<RouteTable>>; THREADS],
    pub(crate) requests: BTreeMap<u64, Request>,
    conn: Option<Conn>,
    connect_backoff: Backoff,
    /// A report is in flight.
    reporting: bool,
    /// Another report is due as soon as the one in flight is answered.
    report_due: bool,
    report_backoff: Backoff,
    report_token: u64,
}

/// A request in flight.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    thread: usize,
    pub(crate) instance: InstanceId,
}

impl Gateway {
    pub(crate) fn new(node: NodeId) -> Gateway {
        let membership = membership(Daemon::Gateway, &node);
        Gateway { node, membership, running: None }
    }

    pub(crate) fn start(&mut self, env: &mut Environment) {
        if self.running.is_some() {
            return;
        }
        let incarnation = env.number();
        self.running = Some(Running {
            incarnation,
            core: Core::new(THREADS),
            gateway_state: GatewayState::default(),
            threads: Default::default(),
            requests: BTreeMap::new(),
            conn: None,
            connect_backoff: Backoff::new(
                RETRY_MIN,
                RETRY_MAX,
                ("follow", &self.node, incarnation),
            ),
            reporting: false,
            report_due: false,
            report_backoff: Backoff::new(RETRY_MIN, RETRY_MAX, ("report", &self.node, incarnation)),
            report_token: 0,
        });
        env.note(format_args!("{}: gateway starts", self.node));
        self.schedule(env, 1, GatewayEvent::Connect);
        self.schedule(env, 1, GatewayEvent::ReportDue(0));
        self.schedule(env, 100, GatewayEvent::RequestArrives);
    }

    /// Ends the process between two instructions.
    pub(crate) fn stop(&mut self, env: &mut Environment, why: &str) {
        let Some(running) = self.running.take() else { return };
        if let Some(conn) = running.conn {
            env.transport.close(conn);
        }
        env.scheduler.ended(&Process::Gateway(self.node.clone()));
        env.note(format_args!("{}: gateway {why}", self.node));
    }

    /// Handles an event. `accepts` says which instances accept a request from this gateway.
    pub(crate) fn handle(
        &mut self,
        env: &mut Environment,
        incarnation: Incarnation,
        event: GatewayEvent,
        accepts: &BTreeSet<InstanceId>,
    ) {
        let Some(running) = self.running_as(incarnation) else { return };
        match event {
            GatewayEvent::Connect => self.connect(env),
            GatewayEvent::ReportDue(token) if running.report_token == token => self.report(env),
            GatewayEvent::ReportDue(_) => {}
            GatewayEvent::RetryListeners => self.process(env, Event::Retry),
            GatewayEvent::Opened(address) => self.opened(env, address),
            GatewayEvent::Switch { thread, table } => self.switch(env, thread, table),
            GatewayEvent::RequestArrives => self.request_arrives(env, accepts),
            GatewayEvent::RequestEnds(request) => self.request_ends(env, request),
        }
    }

    /// A response arrives.
    pub(crate) fn response(
        &mut self,
        env: &mut Environment,
        incarnation: Incarnation,
        purpose: Purpose,
        reply: Reply,
    ) {
        if self.running_as(incarnation).is_none() {
            return;
        }
        let reply = checked(reply, &self.membership, env);
        let Some(running) = &mut self.running else { return };
        match (purpose, reply) {
            (Purpose::Register, Reply::Changeset(Ok(_))) => {
                self.call(env, Purpose::Follow, Call::Routes);
            }
            (Purpose::Follow, Reply::Stream(conn)) => {
                if !env.transport.attach(conn, incarnation) {
                    return self.reconnect(env);
                }
                running.conn = Some(conn);
                running.connect_backoff.reset();
                self.report(env);
            }
            (Purpose::Register | Purpose::Follow, _) => self.reconnect(env),
            (Purpose::Report(_), reply) => self.reported(env, &reply),
        }
    }

    /// A line of a stream arrives.
    pub(crate) fn line(
        &mut self,
        env: &mut Environment,
        incarnation: Incarnation,
        conn: Conn,
        line: Line,
    ) {
        let running = self.running_as(incarnation);
        let Some(running) = running.filter(|running| running.conn == Some(conn)) else { return };
        match line {
            Line::Routes(table) => {
                let mut table = RouteTable::clone(&table);
                if env.bug == Some(InjectedBug::StaleTable)
                    && env.chance(4)
                    && let Some(known) = &running.threads[0]
                {
                    table.listeners = known.listeners.clone();
                }
                self.process(env, Event::Table(table));
            }
            Line::End => {
                running.conn = None;
                self.reconnect(env);
            }
            Line::Assignments(_) => unreachable!("gateways follow routes"),
        }
    }

    fn running_as(&mut self, incarnation: Incarnation) -> Option<&mut Running> {
        self.running.as_mut().filter(|running| running.incarnation == incarnation)
    }

    fn schedule(&self, env: &mut Environment, span: u64, event: GatewayEvent) {
        let Some(running) = &self.running else { return };
        env.after(span, SimEvent::Gateway(self.node.clone(), running.incarnation, event));
    }

    fn call(&self, env: &mut Environment, purpose: Purpose, call: Call) {
        let Some(running) = &self.running else { return };
        let caller = Caller::Gateway(self.node.clone(), running.incarnation, purpose);
        let call = Call::OfDaemon(self.membership.position(), Box::new(call));
        env.call(Location::Node(self.node.clone()), caller, call);
    }

    fn connect(&self, env: &mut Environment) {
        let (node, address) = (self.node.clone(), format!("{}.example", self.node));
        let registration = Registration { node, address, agent: None };
        self.call(env, Purpose::Register, Call::Register(registration));
    }

    fn reconnect(&mut self, env: &mut Environment) {
        let Some(running) = &mut self.running else { return };
        let span = millis(running.connect_backoff.next_delay());
        if let Some(conn) = running.conn.take() {
            env.transport.close(conn);
        }
        self.schedule(env, span, GatewayEvent::Connect);
    }

    fn report(&mut self, env: &mut Environment) {
        let Some(running) = &mut self.running else { return };
        if running.reporting {
            running.report_due = true;
            return;
        }
        running.reporting = true;
        let gateway_state = running.gateway_state.clone();
        let failed = gateway_state.failed.into_iter();
        let omits_busy = env.bug == Some(InjectedBug::Busy);
        let report = GatewayReport {
            node: self.node.clone(),
            generation: gateway_state.generation,
            busy: if omits_busy { BTreeSet::new() } else { gateway_state.busy },
            failed: failed.map(|(listen, reason)| (Listen(listen), reason)).collect(),
            stuck: BTreeMap::new(),
        };
        self.call(env, Purpose::Report(0), Call::GatewayReport(report));
    }

    fn reported(&mut self, env: &mut Environment, reply: &Reply) {
        let Some(running) = &mut self.running else { return };
        running.reporting = false;
        let is_due = std::mem::take(&mut running.report_due);
        let is_connected = running.conn.is_some();
        let wait = match reply {
            Reply::Reported(Ok(_)) => {
                running.report_backoff.reset();
                REPORT_INTERVAL_MS
            }
            _ => millis(running.report_backoff.next_delay()),
        };
        running.report_token += 1;
        let token = running.report_token;
        let wait = if is_due { 0 } else { wait };
        self.schedule(env, wait, GatewayEvent::ReportDue(token));
        // Any response, even a rejection, shows that the connection works.
        if matches!(reply, Reply::Failed) && is_connected {
            self.reconnect(env);
        }
    }

    fn process(&mut self, env: &mut Environment, event: Event) {
        let Some(running) = &mut self.running else { return };
        for effect in running.core.handle(event) {
            match effect {
                Effect::Open(address) => {
                    let span = env.span(1..5);
                    self.schedule(env, span, GatewayEvent::Opened(address));
                }
                Effect::Switch(table) => {
                    for thread in 0..THREADS {
                        let span = env.span(0..30);
                        let table = Arc::clone(&table);
                        self.schedule(env, span, GatewayEvent::Switch { thread, table });
                    }
                }
                // No check of the watchdog is simulated.
                Effect::Isolate(_) | Effect::Restore(..) => {}
                Effect::StateChanged(gateway_state) => {
                    if let Some(running) = &mut self.running {
                        running.gateway_state = gateway_state;
                    }
                    self.report(env);
                }
            }
        }
    }

    fn opened(&mut self, env: &mut Environment, address: SocketAddr) {
        let event = match !env.healed && env.chance(20) {
            true => {
                let span = env.span(500..2_000);
                self.schedule(env, span, GatewayEvent::RetryListeners);
                Event::NotOpened(address, "address in use".into())
            }
            false => Event::Opened(address),
        };
        self.process(env, event);
    }

    /// A thread switches to another table between two requests.
    fn switch(&mut self, env: &mut Environment, thread: usize, table: Arc<RouteTable>) {
        let Some(running) = &mut self.running else { return };
        let known = running.threads[thread].as_ref().map_or(0, |table| table.generation);
        // A table that was overtaken on its way is ignored.
        if table.generation > known {
            running.threads[thread] = Some(table);
            self.followed(env, thread);
        }
    }

    /// A thread reports which table it follows, and its requests to instances outside that table.
    fn followed(&mut self, env: &mut Environment, thread: usize) {
        let Some(running) = &self.running else { return };
        let Some(table) = &running.threads[thread] else { return };
        let requests = running.requests.values().filter(|request| request.thread == thread);
        let leaving = requests.filter(|request| !has_backend(table, &request.instance));
        let busy = leaving.map(|request| request.instance.clone()).collect();
        let event = Event::Followed { thread, generation: table.generation, busy };
        self.process(env, event);
    }

    fn request_arrives(&mut self, env: &mut Environment, accepts: &BTreeSet<InstanceId>) {
        let span = env.span(20..400);
        self.schedule(env, span, GatewayEvent::RequestArrives);
        let thread = env.scheduler.rng.usize(0..THREADS);
        let Some(running) = &mut self.running else { return };
        let Some(table) = &running.threads[thread] else { return };
        let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
        let routes: Vec<_> = routes.filter(|route| !route.backends.is_empty()).collect();
        let Some(route) = env.scheduler.rng.choice(&routes) else { return };
        // A backend that refuses the connection is skipped, as in the real gateway.
        let mut backends: Vec<_> = route.backends.iter().map(|b| b.instance.clone()).collect();
        env.scheduler.rng.shuffle(&mut backends);
        let mut backends = backends.into_iter();
        let Some(instance) = backends.find(|instance| accepts.contains(instance)) else { return };
        let longest = if env.chance(15) { 12_000 } else { 300 };
        let span = env.span(1..longest);
        let request = env.number();
        running.requests.insert(request, Request { thread, instance });
        self.schedule(env, span, GatewayEvent::RequestEnds(request));
    }

    fn request_ends(&mut self, env: &mut Environment, request: u64) {
        let Some(running) = &mut self.running else { return };
        let Some(Request { thread, instance }) = running.requests.remove(&request) else { return };
        env.observe(Observation::RequestServed);
        let mut others = running.requests.values().filter(|other| other.thread == thread);
        let was_last = !others.any(|other| other.instance == instance);
        let table = running.threads[thread].as_ref();
        if was_last && table.is_some_and(|table| !has_backend(table, &instance)) {
            self.followed(env, thread);
        }
    }
}

/// Whether a table sends requests to an instance.
pub(crate) fn has_backend(table: &RouteTable, instance: &InstanceId) -> bool {
    let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
    routes.flat_map(|route| &route.backends).any(|backend| backend.instance == *instance)
}
