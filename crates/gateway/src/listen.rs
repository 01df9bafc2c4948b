//! Opens listeners, and accepts on them.
//!
//! Each thread has its own socket for each listener (`SO_REUSEPORT`), so the kernel spreads new
//! connections and no thread wakes another.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::backend::connection::keep_alive;
use crate::client::Client;
use crate::client::serve::serve;
use crate::worker::Worker;

/// New connections that wait to be accepted, for each listener and thread.
const BACKLOG: i32 = 4096;
/// A client that takes nothing of what was sent for this long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait when the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// The ports that this process listens at, whatever the addresses.
#[derive(Debug, Default)]
pub(crate) struct Ports(BTreeMap<u16, Weak<()>>);

/// A thread's socket of a listener.
#[derive(Debug)]
pub(crate) struct Listener {
    listen: SocketAddr,
    // Closed before its port is given up: fields are dropped in this order.
    socket: std::net::TcpListener,
    port: Arc<()>,
}

impl Ports {
    /// Opens a listener once for each of so many threads.
    pub(crate) fn open(&mut self, listen: SocketAddr, threads: usize) -> io::Result<Vec<Listener>> {
        let held = self.0.get(&listen.port()).and_then(Weak::upgrade);
        let port = match held {
            // At another address, or by threads that have not closed this one yet.
            Some(port) => port,
            None => {
                // Two processes of one user may share a port with `SO_REUSEPORT`, and would each
                // get a part of the connections. A socket without it tells whether the port is
                // really free.
                socket(listen)?.bind(&listen.into())?;
                Arc::default()
            }
        };
        let open_one = |_| {
            let socket = socket(listen)?;
            socket.set_reuse_port(true)?;
            socket.bind(&listen.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(Listener { listen, socket: socket.into(), port: port.clone() })
        };
        let opened = (0..threads).map(open_one).collect::<io::Result<_>>()?;
        self.0.retain(|_, port| port.strong_count() > 0);
        self.0.insert(listen.port(), Arc::downgrade(&port));
        Ok(opened)
    }
}

fn socket(listen: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Begins to accept. From here on the worker knows the listener, so that a table without it closes
/// it even before the first connection is waited for.
pub(crate) fn begin_to_accept(worker: &Rc<Worker>, listener: Listener) {
    let Listener { listen, socket, port } = listener;
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%listen, %error, "cannot accept on the listener");
            return;
        }
    };
    let (worker, close, held) = (worker.clone(), worker.listens(listen), worker.hold());
    tokio::task::spawn_local(async move {
        accept(&worker, listen, listener, &close).await;
        drop((port, held));
    });
}

/// Accepts until told to close; what was accepted by the kernel before is still served.
async fn accept(worker: &Rc<Worker>, listen: SocketAddr, listener: TcpListener, close: &Notify) {
    loop {
        let next = async {
            worker.room().await;
            listener.accept().await
        };
        tokio::select! {
            biased;
            accepted = next => match accepted {
                Ok((stream, peer)) => begin(worker, listen, stream, peer, false),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%listen, %error, "cannot accept connections for a moment");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            () = close.notified() => break,
        }
    }
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        begin(worker, listen, stream, peer, true);
    }
}

/// Begins to serve a connection; a `last` one carries a single request.
fn begin(worker: &Rc<Worker>, listen: SocketAddr, stream: TcpStream, peer: SocketAddr, last: bool) {
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| keep_alive(&stream))
        .and_then(|()| SockRef::from(&stream).set_tcp_user_timeout(Some(SEND_TIMEOUT)));
    if prepared.is_err() {
        // Gone before it said anything.
        return;
    }
    let client = Rc::new(Client::new(listen, peer, worker.clock.clone()));
    client.last.set(last);
    let worker = worker.clone();
    let entered = worker.enter(client.clone());
    tokio::task::spawn_local(async move {
        serve(worker, client, stream).await;
        drop(entered);
    });
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
