//! A server that assigns instances, and an agent that follows it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use api::{Assigned, Assignment, Assignments, Report, ReportReply};
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::StreamExt;
use model::{Given, InstanceId, Registration, Status};
use muster_agent::{Error, Options};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{LIMIT, eventually};

/// The requests that a server has received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) registrations: Vec<Registration>,
    pub(crate) statuses: BTreeMap<InstanceId, Status>,
    pub(crate) reports: Vec<Report>,
}

/// A server that sends assignments and records requests.
pub(crate) struct Server {
    pub(crate) received: Arc<Mutex<Received>>,
    pub(crate) wanted: watch::Sender<Assignments>,
    pub(crate) port: u16,
    serving: Option<JoinHandle<()>>,
    closing: watch::Sender<u32>,
}

type Shared = (Arc<Mutex<Received>>, watch::Receiver<Assignments>, watch::Receiver<u32>);

impl Server {
    pub(crate) async fn new() -> Server {
        let nothing = Assignments {
            generation: 1,
            whole: true,
            set: vec![],
            removed: vec![],
            explicit: false,
            unreadable: vec![],
        };
        let mut server = Server {
            received: Arc::default(),
            wanted: watch::Sender::new(nothing),
            port: 0,
            serving: None,
            closing: watch::Sender::new(0),
        };
        server.open().await;
        server
    }

    pub(crate) async fn open(&mut self) {
        let address = ("127.0.0.1", self.port);
        let listener = TcpListener::bind(address).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let shared: Shared =
            (self.received.clone(), self.wanted.subscribe(), self.closing.subscribe());
        let router = Router::new()
            .route(api::path::REGISTER, post(register))
            .route(api::path::NODE_ASSIGNMENTS, get(assignments))
            .route(api::path::NODE_REPORT, post(report))
            .with_state(shared);
        let mut closing = self.closing.subscribe();
        self.serving = Some(tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                _ = closing.changed() => {}
            }
        }));
    }

    /// Closes all connections and stops responding.
    pub(crate) async fn close(&mut self) {
        self.closing.send_modify(|count| *count += 1);
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap();
        }
    }

    pub(crate) fn want(&self, set: Vec<Assignment>) {
        self.wanted.send_modify(|wanted| {
            wanted.generation += 1;
            wanted.set = set;
        });
    }

    pub(crate) fn status(&self, instance: &InstanceId) -> Option<Status> {
        self.received.lock().unwrap().statuses.get(instance).cloned()
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        instance: &InstanceId,
        mut is: impl FnMut(&Status) -> bool,
    ) -> Status {
        eventually(what, || self.status(instance).filter(&mut is)).await
    }
}

async fn register(
    State((received, ..)): State<Shared>,
    Json(registration): Json<Registration>,
) -> Json<serde_json::Value> {
    received.lock().unwrap().registrations.push(registration);
    Json(json!({}))
}

async fn assignments(State((_, wanted, mut closing)): State<Shared>) -> Body {
    let documents =
        futures_util::stream::unfold((wanted, true), |(mut wanted, first)| async move {
            if !first {
                wanted.changed().await.ok()?;
            }
            let mut line = serde_json::to_vec(&*wanted.borrow_and_update()).unwrap();
            line.push(b'\n');
            Some((Ok::<_, std::io::Error>(Bytes::from(line)), (wanted, false)))
        });
    closing.mark_unchanged();
    let closed = async move { closing.changed().await };
    Body::from_stream(Box::pin(documents.take_until(Box::pin(closed))))
}

async fn report(
    State((received, ..)): State<Shared>,
    Json(report): Json<Report>,
) -> Json<ReportReply> {
    let mut received = received.lock().unwrap();
    if report.whole {
        received.statuses.clear();
    }
    received.statuses.extend(report.instances.iter().cloned());
    received.reports.push(report);
    Json(ReportReply::default())
}

pub(crate) fn options(port: u16, dir: &Path, ephemeral: bool) -> Options {
    Options {
        server: format!("http://127.0.0.1:{port}"),
        node: "n1".parse().unwrap(),
        data_dir: dir.join("agent"),
        address: "127.0.0.1".into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        capacity: None,
        labels: BTreeMap::new(),
        capabilities: Default::default(),
        ports: model::PORTS,
        docker: None,
        fetch_local: true,
        adopt_cluster: None,
        ephemeral,
        keeper_exe: super::keeper_exe(dir),
    }
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) dir: Arc<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) running: Option<JoinHandle<Result<(), Error>>>,
}

impl Agent {
    pub(crate) fn start(server: &Server, dir: &Arc<TempDir>, ephemeral: bool) -> Agent {
        let options = options(server.port, dir.path(), ephemeral);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let running = Some(tokio::spawn(muster_agent::run(options, shutdown)));
        Agent { dir: dir.clone(), stop: Some(stop), running }
    }

    pub(crate) async fn end(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let running = self.running.take().unwrap();
        tokio::time::timeout(LIMIT, running).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn path(&self, instance: &InstanceId, name: &str) -> std::path::PathBuf {
        self.dir.path().join("agent/instances").join(instance.slug()).join(name)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

/// Terminates the processes that a test has left running.
pub(crate) struct Cleanup(pub(crate) Arc<TempDir>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        super::end_all(&self.0.path().join("agent/keeper"));
    }
}

pub(crate) fn setup() -> (Arc<TempDir>, Cleanup) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    (dir.clone(), Cleanup(dir))
}

pub(crate) fn assignment(name: &str, mut document: serde_json::Value) -> Assignment {
    document["service"] = json!(format!("/{name}"));
    let goal = match document.as_object_mut().unwrap().remove("goal") {
        Some(_) => Assigned::Stop,
        None => Assigned::Run,
    };
    Assignment {
        instance: InstanceId::new(format!("/{name}").parse().unwrap(), 0, 1),
        revision: 1,
        revision_created_at: model::Timestamp(0),
        goal,
        given: Given::default(),
        frozen: false,
        frozen_resources: Default::default(),
        paused: false,
        retries: 0,
        env: Default::default(),
        spec: Arc::new(serde_json::from_value(document).unwrap()),
    }
}
