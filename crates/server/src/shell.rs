//! The event loop around the core: passes events to the core and performs its effects. One task
//! owns the core; all others send messages to it through a [`Handle`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{error_chain, now};
use arc_swap::ArcSwap;
use model::{Daemon, Mismatch, NodeId, Proposal, RouteTable, Timestamp};
use store::Store;
use tokio::sync::{mpsc, oneshot, watch};

use crate::Error;
use crate::control::{
    Batch, Core, EVENTS_KEPT, Effect, Event, RequestError, Response, Snapshot, Ticket,
};
use crate::event_log::EventLog;
use crate::fence::Fence;
use crate::gateways::Gateways;
use crate::persist;
use crate::stall::StallDetector;

/// Maximum number of messages in the inbox. Beyond it, requests are rejected as `Failure::Busy`.
const INBOX: usize = 8192;
/// Maximum number of further messages that the loop receives before it takes a turn.
const TURN_MAX: usize = 4096;
/// Interval at which the snapshot is published even without changes, which keeps the times of the
/// last heartbeats up to date.
pub const REFRESH: Duration = Duration::from_secs(1);

/// Timeout for the responses to requests in flight when the server stops.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why the server did not process a request.
#[derive(Debug)]
pub enum Failure {
    /// The command was not carried out.
    RequestError(RequestError),
    /// The server has too many requests waiting.
    Busy,
    /// The server stops; whether the command was carried out is unknown.
    Stopping,
}

/// Receives every commit from the loop, which waits for it.
pub(crate) trait CommitObserver: Send {
    /// Called after each commit with its events and a snapshot that includes them.
    fn on_commit(&self, events: &[Arc<api::EventView>], snapshot: &Arc<Snapshot>);
}

/// A message to the loop.
enum Message {
    Proposal(Box<Proposal>),
    Report(api::Report),
    GatewayReport(api::GatewayReport),
    Refused(NodeId, Daemon, Mismatch),
}

/// The sending side of the loop's inbox, and the data that the loop publishes.
pub(crate) struct Handle {
    inbox: mpsc::Sender<(Message, oneshot::Sender<Response>)>,
    snapshot: ArcSwap<Snapshot>,
    pub(crate) routes: watch::Sender<Arc<RouteTable>>,
    assignments: Mutex<BTreeMap<NodeId, watch::Sender<u64>>>,
    pub(crate) events: EventLog,
    pub(crate) gateways: Gateways,
    /// Becomes true when the server stops, which ends all streams.
    pub(crate) stopping: watch::Sender<bool>,
    first_generation: u64,
}

impl Handle {
    /// The newest published snapshot of the durable state and the observations.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    async fn send(&self, message: Message) -> Result<Response, Failure> {
        let (response, mut responded) = oneshot::channel();
        self.inbox.try_send((message, response)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Busy,
            mpsc::error::TrySendError::Closed(_) => Failure::Stopping,
        })?;
        tokio::select! {
            biased;
            response = &mut responded => response.map_err(|_| Failure::Stopping),
            // The loop may have ended without receiving a message sent at that moment.
            () = self.inbox.closed() => match tokio::time::timeout(STOP_GRACE, responded).await {
                Ok(Ok(response)) => Ok(response),
                _ => Err(Failure::Stopping),
            },
        }
    }

    /// Applies a proposal. On success, its changes are durable.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<model::Changeset, Failure> {
        match self.send(Message::Proposal(Box::new(proposal))).await? {
            Response::Outcome(outcome) => outcome.map_err(Failure::RequestError),
            Response::Report(_) => unreachable!("a command is answered with its outcome"),
        }
    }

    async fn send_report(&self, message: Message) -> Result<api::ReportReply, Failure> {
        match self.send(message).await? {
            Response::Report(reply) => reply.map_err(Failure::RequestError),
            Response::Outcome(_) => unreachable!("a report is answered with a reply"),
        }
    }

    /// Passes an agent's report to the core.
    pub(crate) async fn report(&self, report: api::Report) -> Result<api::ReportReply, Failure> {
        self.send_report(Message::Report(report)).await
    }

    /// Passes a gateway's report to the core.
    pub(crate) async fn gateway_report(
        &self,
        report: api::GatewayReport,
    ) -> Result<api::ReportReply, Failure> {
        self.send_report(Message::GatewayReport(report)).await
    }

    /// Records that a daemon cannot follow this server.
    pub(crate) fn refused(&self, node: NodeId, daemon: Daemon, mismatch: Mismatch) {
        // Without a place in the inbox, it is recorded when the daemon calls again.
        let (response, _) = oneshot::channel();
        let _ = self.inbox.try_send((Message::Refused(node, daemon, mismatch), response));
    }

    /// Completes when the server stops.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // An error means that the server has stopped.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// Subscribes to the generation of a node's assignments, which changes whenever they do.
    pub(crate) fn follow_assignments(&self, node: &NodeId) -> watch::Receiver<u64> {
        let mut assignments = self.assignments.lock().unwrap_or_else(PoisonError::into_inner);
        let first = || watch::Sender::new(self.first_generation);
        assignments.entry(node.clone()).or_insert_with(first).subscribe()
    }
}

/// The event loop before it is run.
pub(crate) struct Shell {
    core: Core,
    handle: Arc<Handle>,
    store: Arc<dyn Store>,
    fence: Fence,
    inbox: mpsc::Receiver<(Message, oneshot::Sender<Response>)>,
    waiting: BTreeMap<Ticket, oneshot::Sender<Response>>,
    next_ticket: Ticket,
    wake_at: Option<Timestamp>,
    /// The write in progress.
    storing: Option<store::Pending<'static, store::TxnResult>>,
    stall: StallDetector,
    /// Events that were published in this turn. The observer receives them at its end.
    published: Vec<Arc<api::EventView>>,
    observer: Box<dyn CommitObserver>,
}

impl Shell {
    pub(crate) fn new(
        core: Core,
        events: Vec<api::EventView>,
        (store, fence): (Arc<dyn Store>, Fence),
        observer: Box<dyn CommitObserver>,
    ) -> (Shell, Arc<Handle>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let snapshot = core.snapshot();
        let handle = Arc::new(Handle {
            inbox: sender,
            first_generation: snapshot.state.meta().epoch << 32,
            snapshot: ArcSwap::from_pointee(snapshot),
            routes: watch::Sender::new(Arc::default()),
            assignments: Mutex::default(),
            events: EventLog::new(events, core.newest_event(), EVENTS_KEPT),
            gateways: Gateways::default(),
            stopping: watch::Sender::new(false),
        });
        let shell = Shell {
            core,
            handle: Arc::clone(&handle),
            store,
            fence,
            inbox,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            wake_at: None,
            storing: None,
            stall: StallDetector::new(REFRESH, now()),
            published: Vec::new(),
            observer,
        };
        (shell, handle)
    }

    /// Runs until the server stops, is deposed, or must reopen the store. When the server stops, all
    /// messages that were sent before still get their answers.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let stopped = self.handle.stopped();
        tokio::pin!(stopped);
        let mut refresh = tokio::time::interval(REFRESH);
        let mut turn = true;
        loop {
            if turn {
                self.perform(Event::Turn);
            }
            turn = true;
            let sleep = self
                .wake_at
                .map_or(Duration::from_secs(3600), |at| Duration::from_millis(at.since(now()).0));
            tokio::select! {
                stored = stored(&mut self.storing) => {
                    let event = stored_event(stored)?;
                    self.perform(event);
                }
                Some((message, response)) = self.inbox.recv() => {
                    self.receive(message, response);
                    for _ in 0..TURN_MAX {
                        let Ok((message, response)) = self.inbox.try_recv() else { break };
                        self.receive(message, response);
                    }
                }
                () = tokio::time::sleep(sleep) => {}
                _ = refresh.tick() => {
                    self.check_for_stall();
                    self.handle.snapshot.store(Arc::new(self.core.snapshot()));
                    turn = false;
                }
                () = &mut stopped => break,
            }
        }
        self.finish().await
    }

    /// Answers all messages in the inbox, which includes waiting for their writes.
    async fn finish(mut self) -> Result<(), Error> {
        self.inbox.close();
        while let Ok((message, response)) = self.inbox.try_recv() {
            self.receive(message, response);
        }
        loop {
            self.perform(Event::Turn);
            if self.waiting.is_empty() || self.storing.is_none() {
                return Ok(());
            }
            let event = stored_event(stored(&mut self.storing).await)?;
            self.perform(event);
        }
    }

    fn commit(&self, batch: Batch) -> store::Pending<'static, store::TxnResult> {
        let txn = persist::txn(batch).map(|txn| self.fence.guard(txn));
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            let txn = txn.map_err(|error| store::Error::Invalid { reason: error.to_string() })?;
            store.commit(txn).await
        })
    }

    fn receive(&mut self, message: Message, response: oneshot::Sender<Response>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket, response);
        let event = match message {
            Message::Proposal(proposal) => Event::Request { ticket, proposal },
            Message::Report(report) => Event::Report { ticket, report },
            Message::GatewayReport(report) => Event::GatewayReport { ticket, report },
            Message::Refused(node, daemon, mismatch) => {
                self.waiting.remove(&ticket);
                Event::Refused { node, daemon, mismatch }
            }
        };
        self.perform(event);
    }

    fn perform(&mut self, event: Event) {
        let is_turn = matches!(event, Event::Turn);
        self.perform_effects(event, is_turn);
        if is_turn && !self.published.is_empty() {
            // The published snapshot includes these events by now.
            let published = std::mem::take(&mut self.published);
            self.observer.on_commit(&published, &self.handle.snapshot());
        }
    }

    /// Reports to the core any span in which the server did not run, before the core counts that
    /// span as silence of daemons.
    fn check_for_stall(&mut self) {
        let now = now();
        if let Some(span) = self.stall.stalled_for(now) {
            tracing::warn!(ms = span.0, "the server was stalled, or its clock was set forward");
            let effects = self.core.handle(Event::Stalled { span }, now);
            debug_assert!(effects.is_empty(), "it only changes what silence means");
        }
    }

    fn perform_effects(&mut self, event: Event, is_turn: bool) {
        if is_turn {
            self.wake_at = None;
        }
        self.check_for_stall();
        for effect in self.core.handle(event, now()) {
            match effect {
                Effect::Store(batch) => {
                    self.storing = Some(self.commit(batch));
                }
                Effect::Response { ticket, response } => {
                    // The receiver is dropped if the client has stopped waiting.
                    let _ = self.waiting.remove(&ticket).map(|waiting| waiting.send(response));
                }
                Effect::Routes(table) => {
                    self.handle.routes.send_replace(table);
                }
                Effect::Assignments { generation, nodes } => {
                    let assignments = &self.handle.assignments;
                    let assignments = assignments.lock().unwrap_or_else(PoisonError::into_inner);
                    for node in nodes {
                        if let Some(sender) = assignments.get(&node) {
                            sender.send_replace(generation);
                        }
                    }
                }
                Effect::Publish(snapshot) => self.handle.snapshot.store(Arc::new(snapshot)),
                Effect::PublishEvent(event) => {
                    let model::Event { about, what, .. } = &event.event;
                    tracing::debug!(kind = what.kind(), subject = %about, "{what}");
                    let event = Arc::new(event);
                    self.published.push(Arc::clone(&event));
                    self.handle.events.push(event);
                }
                Effect::WakeAt(at) => self.wake_at = Some(at),
            }
        }
    }
}

/// Returns the result of the write in progress; never completes if there is none.
async fn stored(
    storing: &mut Option<store::Pending<'static, store::TxnResult>>,
) -> Result<store::TxnResult, store::Error> {
    match storing {
        None => std::future::pending().await,
        Some(pending) => {
            let result = pending.await;
            *storing = None;
            result
        }
    }
}

fn stored_event(stored: Result<store::TxnResult, store::Error>) -> Result<Event, Error> {
    match stored {
        Ok(store::TxnResult::Committed(revision)) => Ok(Event::Stored { revision: revision.0 }),
        // The fence is the only condition of a transaction.
        Ok(store::TxnResult::Conflict { .. }) => Err(Error::Deposed),
        // A failed flush has written an unknown part of its data. The store must be reopened to
        // find out.
        Err(error @ (store::Error::Poisoned { .. } | store::Error::Closed)) => Err(error.into()),
        Err(error) => {
            let message = error_chain(&error);
            tracing::error!(
                error = message,
                "the store refused a batch; nothing of it has happened"
            );
            Ok(Event::StoreFailed { message })
        }
    }
}
