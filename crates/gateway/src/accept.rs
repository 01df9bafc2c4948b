//! Accepts connections and starts to serve them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::backend::connection::keep_alive;
use crate::client::serve::{Server, serve, server};
use crate::client::state::Client;
use crate::listeners::Accepting;
use crate::ports::{BACKLOG, Listener};
use crate::worker::Worker;

/// A client that acknowledges nothing of what was sent for this long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Delay before accepting again when the process has no file descriptors left.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Accepts connections for one worker.
#[derive(Debug)]
pub(crate) struct Acceptor {
    worker: Rc<Worker>,
    server: Server,
}

impl Acceptor {
    pub(crate) fn new(worker: Rc<Worker>) -> Rc<Self> {
        Rc::new(Self { server: server(&worker.progress), worker })
    }

    /// Starts a task that accepts connections. The worker knows the listener from here on, so a
    /// table without it closes it even before the task first runs.
    pub(crate) fn open(self: &Rc<Self>, listener: Listener) {
        let Listener { listen, socket, twin, port } = listener;
        let listener = match TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%listen, %error, "cannot accept on the listener");
                return;
            }
        };
        let (acceptor, accepting) = (self.clone(), self.worker.listeners.open(listen));
        tokio::task::spawn_local(async move {
            acceptor.accept(listen, listener, &accepting).await;
            drop((twin, port, accepting));
        });
    }

    /// Accepts until the listener must close. Connections that the kernel accepted before are still
    /// served.
    async fn accept(
        self: &Rc<Self>,
        listen: SocketAddr,
        listener: TcpListener,
        accepting: &Accepting,
    ) {
        loop {
            let next = async {
                self.worker.clients.slot_available().await;
                listener.accept().await
            };
            tokio::select! {
                biased;
                accepted = next => match accepted {
                    Ok((stream, peer)) => self.start(listen, stream, peer, false),
                    Err(error) if is_of_one_connection(&error) => {}
                    // The watchdog closed it, because this thread was stuck.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                    Err(error) => {
                        tracing::warn!(%listen, %error, "cannot accept connections for a moment");
                        tokio::time::sleep(RETRY_DELAY).await;
                    }
                },
                () = accepting.closed() => break,
            }
        }
        // The kernel is asked directly: tokio accepts only what its last poll of the system has seen.
        let Ok(listener) = listener.into_std() else { return };
        // Bounded, because clients may connect as fast as they are accepted.
        for _ in 0..BACKLOG {
            match listener.accept() {
                Ok((stream, peer)) => {
                    let stream =
                        stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    if let Ok(stream) = stream {
                        self.start(listen, stream, peer, true);
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => break,
            }
        }
    }

    /// Starts to serve a connection, for a single request if `only_one`.
    fn start(
        self: &Rc<Self>,
        listen: SocketAddr,
        stream: TcpStream,
        peer: SocketAddr,
        only_one: bool,
    ) {
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| keep_alive(&stream))
            .and_then(|()| SockRef::from(&stream).set_tcp_user_timeout(Some(SEND_TIMEOUT)));
        if prepared.is_err() {
            // The client has already disconnected.
            return;
        }
        let Ok(local) = stream.local_addr() else { return };
        let client = Rc::new(Client::new(listen, local, peer, self.worker.timers.clock()));
        client.only_one.set(only_one);
        let entered = self.worker.clients.enter(client.clone());
        let acceptor = self.clone();
        tokio::task::spawn_local(async move {
            serve(&acceptor.server, acceptor.worker.clone(), client, stream).await;
            drop(entered);
        });
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
