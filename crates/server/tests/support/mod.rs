//! A server in this process, on a free port and a directory of its own, and helpers for requests.
#![allow(dead_code, reason = "each test file uses another part of it")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use api::{ApplyReply, ApplyRequest, Client, Error, ErrorBody, Report, Source, path};
use model::{InstanceId, NodeId, Status};
use muster_server::Options;
use muster_server::adapter::Adapters;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    /// The listeners of adapters.
    pub(crate) adapters: Vec<(&'static str, SocketAddr)>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), muster_server::Error>>,
}

fn options(data_dir: &Path) -> Options {
    Options {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: data_dir.into(),
        lost_after: Options::LOST_AFTER,
        accept_data_loss: false,
        host_names: vec!["muster.example".into()],
    }
}

impl Server {
    /// Starts a server without adapters.
    pub(crate) async fn start(data_dir: &Path) -> Server {
        Server::start_with(data_dir, Adapters::default).await
    }

    /// Starts a server with the adapters that `adapters` makes.
    pub(crate) async fn start_with(data_dir: &Path, adapters: fn() -> Adapters) -> Server {
        loop {
            match Server::launch(data_dir, adapters()).await {
                // The previous server was killed and has not released the store yet.
                Err(muster_server::Error::Store(muster_server::StoreError::Locked { .. })) => {
                    tokio::task::yield_now().await;
                }
                started => return started.expect("the server starts"),
            }
        }
    }

    pub(crate) async fn try_start(data_dir: &Path) -> Result<Server, muster_server::Error> {
        Server::launch(data_dir, Adapters::default()).await
    }

    /// Starts a server with these adapters on a directory that no other server has used.
    pub(crate) async fn start_once(data_dir: &Path, adapters: Adapters) -> Server {
        Server::launch(data_dir, adapters).await.expect("the server starts")
    }

    async fn launch(data_dir: &Path, adapters: Adapters) -> Result<Server, muster_server::Error> {
        let (bound, addresses) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let options = options(data_dir);
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            muster_server::run(options, adapters, bound, stopped).await
        });
        let Ok(addresses) = addresses.await else {
            return Err(running.await.unwrap().expect_err("a server that runs is bound"));
        };
        let address = addresses.address;
        let client = Client::new(&format!("http://{address}")).unwrap();
        Ok(Server { client, address, adapters: addresses.adapters, stop: Some(stop), running })
    }

    /// Stops the server gracefully.
    pub(crate) async fn stop(mut self) -> Result<(), muster_server::Error> {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.running).await.unwrap()
    }

    /// Kills the server between two instructions, as far as one process permits.
    pub(crate) async fn kill(mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
    }

    pub(crate) async fn apply(&self, text: &str) -> Result<ApplyReply, Error> {
        self.apply_as("file.yaml", text, false).await
    }

    pub(crate) async fn apply_as(
        &self,
        name: &str,
        text: &str,
        plan: bool,
    ) -> Result<ApplyReply, Error> {
        let sources = vec![Source { name: name.into(), text: text.into() }];
        self.client.post(path::APPLY, &ApplyRequest { sources, plan, retry: false }).await
    }

    /// Everything that readers see, except times and heartbeats.
    pub(crate) async fn shown(&self) -> serde_json::Value {
        let mut shown = Vec::new();
        for path in [path::SERVICES, path::INSTANCES, path::DEPLOYMENTS, path::GATEWAYS] {
            let mut document = self.client.get::<serde_json::Value>(path).await.unwrap();
            without_remaining_time(&mut document);
            shown.push(document);
        }
        shown.into()
    }

    /// Registers an agent that reports that nothing runs: from then on its node takes instances.
    pub(crate) async fn register(&self, node: &str) -> Result<serde_json::Value, Error> {
        self.register_at(node, "127.0.0.1").await
    }

    pub(crate) async fn register_at(
        &self,
        node: &str,
        address: &str,
    ) -> Result<serde_json::Value, Error> {
        let registration = json!({
            "node": node,
            "address": address,
            "agent": {
                "port": 4041,
                "capacity": {"cpu": 100, "memory": "100GiB"},
                "labels": {},
                "capabilities": [],
                "ports": [20000, 29999],
            },
        });
        let registered = self.client.post(path::REGISTER, &registration).await?;
        self.report(node, true, Vec::new()).await?;
        Ok(registered)
    }

    pub(crate) async fn report(
        &self,
        node: &str,
        whole: bool,
        instances: Vec<(InstanceId, Status)>,
    ) -> Result<serde_json::Value, Error> {
        let node: NodeId = node.parse().unwrap();
        let path = path::with(path::NODE_REPORT, node.as_str());
        self.client
            .post(&path, &Report { node, life: 0, number: 0, generation: 0, whole, instances })
            .await
    }

    /// Sends a request as given; returns the status, the head and the body.
    pub(crate) async fn raw(&self, request: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may respond before it has read the whole request.
        let _ = stream.write_all(request).await;
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response).await;
        let response = String::from_utf8_lossy(&response).into_owned();
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or(0), head.to_ascii_lowercase(), body.into())
    }

    /// A request without a body.
    pub(crate) async fn request(&self, method: &str, path: &str) -> (u16, String, String) {
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        self.raw(request.as_bytes()).await
    }

    /// A request with a body.
    pub(crate) async fn send_as(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, String, String) {
        let len = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}"
        );
        self.raw(request.as_bytes()).await
    }

    /// A request with a body that is rejected with a Muster error.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> (u16, ErrorBody) {
        let (status, _, body) = self.send_as(method, path, body).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
}

fn without_remaining_time(document: &mut serde_json::Value) {
    match document {
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_remaining_time),
        serde_json::Value::Object(fields) => {
            fields.remove("deadline_in");
            fields.values_mut().for_each(without_remaining_time);
        }
        _ => {}
    }
}

/// A service of processes.
pub(crate) fn service(name: &str, instances: u32) -> String {
    format!(
        "service: {name}\ninstances: {instances}\nprocess: {{ command: [run] }}\n\
         ports: [{{ name: http }}]\nresources: {{ cpu: 0.01, memory: 1MiB }}\n"
    )
}

/// The error body of a rejected request.
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> ErrorBody {
    match outcome {
        Err(Error::Refused(body)) => body,
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits for a future that must complete within a minute.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it takes too long")
}

/// The status of an instance that runs and passes all checks.
pub(crate) fn ready() -> Status {
    let at = model::Timestamp(1);
    let mut status = Status::new(model::Phase::Running, at);
    (status.run, status.started_at, status.ready) = (1, Some(at), true);
    status
}
