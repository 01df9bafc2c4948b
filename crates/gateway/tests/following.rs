//! The daemon with a server: registers, follows, reports, and keeps serving without the server.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use api::{Caller, GatewayReport, Membership, path};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::{Daemon, Registration, RouteTable};
use muster_gateway::Options;
use support::*;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A server with the gateway's part of the API.
struct Server {
    address: SocketAddr,
    tables: watch::Sender<RouteTable>,
    registered: mpsc::UnboundedReceiver<Registration>,
    reports: mpsc::UnboundedReceiver<GatewayReport>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(address: Option<SocketAddr>, table: RouteTable) -> Server {
        let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tables, table) = watch::channel(table);
        let (register, registered) = mpsc::unbounded_channel();
        let (report, reports) = mpsc::unbounded_channel();
        let shared = Arc::new((table, register, report));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let shared = shared.clone();
                    async move {
                        let path = request.uri().path().to_string();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let (tables, register, report) = &*shared;
                        let response: BoxBody<Bytes, Infallible> = match path.as_str() {
                            path::REGISTER => {
                                let _ = register.send(serde_json::from_slice(&body).unwrap());
                                Full::from(r#"{"resync":false}"#).boxed()
                            }
                            path::ROUTES_REPORT => {
                                let _ = report.send(serde_json::from_slice(&body).unwrap());
                                Full::from(r#"{"resync":false}"#).boxed()
                            }
                            path::ROUTES => {
                                let mut tables = tables.clone();
                                tables.mark_changed();
                                let lines = futures_util::stream::unfold(tables, |mut t| async {
                                    t.changed().await.ok()?;
                                    let mut line = serde_json::to_vec(&*t.borrow_and_update());
                                    line.as_mut().unwrap().extend_from_slice(b"\n\n");
                                    Some((Ok(Frame::data(Bytes::from(line.unwrap()))), t))
                                });
                                BodyExt::boxed(StreamBody::new(lines))
                            }
                            _ => panic!("{path} is not known"),
                        };
                        Ok::<_, Infallible>(Response::new(response))
                    }
                });
                connections.spawn(async move {
                    let server = hyper::server::conn::http1::Builder::new();
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Server { address, tables, registered, reports, task }
    }

    async fn report(&mut self, ready: impl Fn(&GatewayReport) -> bool) -> GatewayReport {
        within(async {
            loop {
                let report = self.reports.recv().await.unwrap();
                if ready(&report) {
                    return report;
                }
            }
        })
        .await
    }

    /// Stops it and closes all its connections.
    async fn stop(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

/// A gateway that has not met a server.
fn membership() -> Membership {
    let (daemon, node) = (Daemon::Gateway, "n1".parse().unwrap());
    Membership::forgetful(Caller { daemon, node, id: "a".into(), position: None }, None)
}

#[tokio::test]
async fn follows_reports_and_keeps_serving_without_the_server() {
    let (one, two) = tokio::join!(Service::mirror("one"), Service::mirror("two"));
    let listen = free_address();
    let mut server = Server::start(None, table(3, listen, vec![all(&[one.address])])).await;
    let options = Options {
        server: format!("http://{}", server.address),
        node: "n1".parse().unwrap(),
        address: "127.0.0.1".into(),
        threads: Some(2),
        #[cfg(debug_assertions)]
        spin_on: None,
        membership: membership(),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(muster_gateway::run(options, async move { drop(stopped.await) }));
    let registration = within(server.registered.recv()).await.unwrap();
    assert_eq!((registration.node.as_str(), registration.agent), ("n1", None));
    let report = server.report(|report| report.generation == 3).await;
    assert!(report.busy.is_empty() && report.failed.is_empty() && report.node.as_str() == "n1");
    assert!(get(listen, "/", "").await.contains("one GET /"));
    server.tables.send_replace(table(4, listen, vec![all(&[two.address])]));
    server.report(|report| report.generation == 4).await;
    assert!(get(listen, "/", "").await.contains("two GET /"));
    // Without a server the gateway keeps the last table; it ignores an older table from a server
    // that is not up to date.
    let address = server.stop().await;
    assert!(get(listen, "/", "").await.contains("two GET /"));
    let stale = table(2, listen, vec![all(&[one.address])]);
    let mut server = Server::start(Some(address), stale).await;
    within(server.registered.recv()).await.unwrap();
    server.report(|report| report.generation == 4).await;
    assert!(get(listen, "/", "").await.contains("two GET /"));
    server.tables.send_replace(table(5, listen, vec![all(&[one.address])]));
    server.report(|report| report.generation == 5).await;
    assert!(get(listen, "/", "").await.contains("one GET /"));
    stop.send(()).unwrap();
    within(running).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(listen).await.is_err());
}

#[tokio::test]
async fn an_invalid_url_of_the_server_is_an_error() {
    let options = Options {
        server: "localhost:4040".into(),
        node: "n1".parse().unwrap(),
        address: "127.0.0.1".into(),
        threads: Some(1),
        #[cfg(debug_assertions)]
        spin_on: None,
        membership: membership(),
    };
    let error = muster_gateway::run(options, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, muster_gateway::Error::Server(_)), "{error}");
}
