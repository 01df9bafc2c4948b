//! Shared by the tests of the gateway: scripted backends, tables, raw clients.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(missing_docs, unreachable_pub, reason = "used by the tests of this crate only")]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::{Backend, InstanceId, Listen, Listener, RouteTable, TableRoute};
use muster_gateway::{GatewayState, Proxy, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longer than any correct test waits.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Fails a test that hangs.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("the test hangs")
}

/// An address that refuses connections.
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

pub fn settings() -> Settings {
    Settings { threads: 2, stop_grace: Duration::from_secs(5), ..Settings::default() }
}

pub fn instance(slot: usize) -> InstanceId {
    InstanceId::new("/shop/web".parse().unwrap(), slot.try_into().unwrap(), 1)
}

/// A route for `path` to backends `(slot, address)`.
pub fn route(path: &str, backends: &[(usize, SocketAddr)]) -> TableRoute {
    let backends = backends
        .iter()
        .map(|(slot, address)| Backend { instance: instance(*slot), address: address.to_string() });
    TableRoute {
        hosts: Default::default(),
        path: path.into(),
        service: "/shop/web".parse().unwrap(),
        backends: backends.collect(),
        empty_because: None,
    }
}

pub fn table(generation: u64, listen: SocketAddr, routes: Vec<TableRoute>) -> RouteTable {
    let (gateway, trust) = ("shop".parse().unwrap(), Default::default());
    let listener = Listener { gateway, listen: Listen(listen), trust, routes };
    RouteTable { generation, listeners: vec![listener] }
}

/// A proxy with one listener.
pub struct Gateway {
    pub proxy: Proxy,
    pub address: SocketAddr,
    generation: AtomicUsize,
}

impl Gateway {
    /// A proxy with its own threads, on real time.
    pub async fn start(settings: Settings, routes: Vec<TableRoute>) -> Gateway {
        Self::with(Proxy::start(settings).unwrap(), routes).await
    }

    /// A proxy within the local runtime of the test, on the time of that runtime.
    pub async fn local(settings: Settings, routes: Vec<TableRoute>) -> Gateway {
        Self::with(Proxy::start_local(settings), routes).await
    }

    async fn with(proxy: Proxy, routes: Vec<TableRoute>) -> Gateway {
        let gateway = Gateway { proxy, address: free_address(), generation: AtomicUsize::new(0) };
        let gateway_state = gateway.switch(routes).await;
        assert!(gateway_state.failed.is_empty(), "{gateway_state:?}");
        gateway
    }

    /// With one route to these backends.
    pub async fn before(backends: &[SocketAddr]) -> Gateway {
        Self::start(settings(), vec![all(backends)]).await
    }

    /// Switches to these routes and waits until all new requests follow them.
    pub async fn switch(&self, routes: Vec<TableRoute>) -> GatewayState {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        self.proxy.switch(table(generation, self.address, routes));
        self.gateway_state(|gateway_state| gateway_state.generation >= generation).await
    }

    pub async fn gateway_state(&self, ready: impl FnMut(&GatewayState) -> bool) -> GatewayState {
        within(self.proxy.gateway_state().wait_for(ready)).await.unwrap().clone()
    }
}

/// One route for all requests to these backends.
pub fn all(backends: &[SocketAddr]) -> TableRoute {
    let backends: Vec<_> = backends.iter().copied().enumerate().collect();
    route("/", &backends)
}

/// A backend. Dropping it closes its port and all its connections.
pub struct Service {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Service {
    /// Each connection is handled by `handle`.
    pub async fn raw<F>(
        handle: impl Fn(TcpStream, Arc<AtomicUsize>) -> F + Send + 'static,
    ) -> Service
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let counters = (requests.clone(), Arc::<AtomicUsize>::clone(&connections));
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        counters.1.fetch_add(1, Ordering::SeqCst);
                        served.spawn(handle(stream, counters.0.clone()));
                    }
                    Some(_) = served.join_next() => {}
                }
            }
        });
        Service { address, requests, connections, task }
    }

    /// `reply` responds to each request.
    pub async fn http<F, B>(
        reply: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Service
    where
        F: Future<Output = Response<B>> + Send + 'static,
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::raw(move |stream, requests| {
            let reply = reply.clone();
            let service = service_fn(move |request| {
                requests.fetch_add(1, Ordering::SeqCst);
                let answered = reply(request);
                async { Ok::<_, Infallible>(answered.await) }
            });
            async move {
                let server = hyper::server::conn::http1::Builder::new();
                let connection = server.serve_connection(TokioIo::new(stream), service);
                drop(connection.with_upgrades().await);
            }
        })
        .await
    }

    /// Responds with its name, the request line and the headers.
    pub async fn mirror(name: &'static str) -> Service {
        Self::http(move |request| async move {
            let mut text = format!("{name} {} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            Response::new(Full::new(Bytes::from(text)))
        })
        .await
    }

    /// Switches to a protocol that echoes all bytes.
    pub async fn switching() -> Service {
        Self::http(|mut request: Request<Incoming>| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..count]).await.unwrap();
                }
            });
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
            response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
            response.headers_mut().insert("sec-websocket-accept", HeaderValue::from_static("k"));
            response
        })
        .await
    }

    /// Responds to the `nth` request of each connection with the bytes of `reply` and closes it;
    /// responds to earlier requests with 200.
    pub async fn scripted(nth: usize, reply: &'static str) -> Service {
        Self::raw(move |mut stream, requests| async move {
            for number in 1..=nth {
                if read_head(&mut stream).await.is_empty() {
                    return;
                }
                requests.fetch_add(1, Ordering::SeqCst);
                let good = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let text = if number == nth { reply } else { good };
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        })
        .await
    }

    /// Closes its port and all its connections.
    pub async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A backend that neither accepts nor refuses connections: its accept queue is full.
pub struct Silent {
    pub address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
}

impl Silent {
    pub async fn start() -> Silent {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = listener.unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        let moment = Duration::from_millis(100);
        while let Ok(stream) = tokio::time::timeout(moment, TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        Silent { address, _listener: listener, _queued: queued }
    }
}

/// Reads until the empty line or the end of the connection; returns the bytes read.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Sends `text` and reads until the other side closes.
pub async fn exchange(address: SocketAddr, text: &str) -> String {
    within(async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        // A reset after the response ends the connection like a close.
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8_lossy(&reply).into_owned()
    })
    .await
}

/// `GET` on a new connection, with additional header lines `more`.
pub async fn get(address: SocketAddr, path: &str, more: &str) -> String {
    let text =
        format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n{more}\r\n");
    exchange(address, &text).await
}

/// A client that keeps its connection open.
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<(u16, Bytes)> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    pub async fn get(&mut self, path: &str) -> hyper::Result<(u16, Bytes)> {
        let request = Request::get(path).header("host", "shop.example");
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub async fn post(&mut self, path: &str, body: &'static str) -> hyper::Result<(u16, Bytes)> {
        let request = Request::post(path).header("host", "shop.example");
        self.send(request.body(Full::from(body)).unwrap()).await
    }
}
