//! Opens listening sockets.
//!
//! Each thread has its own socket for each listener (`SO_REUSEPORT`): the kernel distributes new
//! connections among them and no thread wakes another.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use socket2::{Domain, Protocol, Socket, Type};

/// Maximum number of connections that wait to be accepted, for each listener and thread.
pub(crate) const BACKLOG: i32 = 4096;

/// The ports that this process listens on, at any address. A port is held by its sockets.
#[derive(Debug, Default)]
pub(crate) struct Ports(BTreeMap<u16, Weak<()>>);

/// One thread's socket of a listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) listen: SocketAddr,
    // Fields are dropped in this order: the socket closes before its port is released.
    pub(crate) socket: std::net::TcpListener,
    /// The same socket, by which another thread can close it.
    pub(crate) twin: Arc<std::net::TcpListener>,
    pub(crate) port: HeldPort,
}

/// The port of an open socket. Dropped after the socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldPort(Arc<()>);

impl Ports {
    /// Opens a listener: one socket for each thread.
    pub(crate) fn open(&mut self, listen: SocketAddr, threads: usize) -> io::Result<Vec<Listener>> {
        let held = self.0.get(&listen.port()).and_then(Weak::upgrade).map(HeldPort);
        let port = match held {
            // At another address, or by threads that have not closed their sockets yet.
            Some(port) => port,
            None => {
                // With `SO_REUSEPORT` two processes of one user may listen on the same port and
                // would each get a part of the connections. Binding a socket without it fails if
                // another process listens.
                socket(listen)?.bind(&listen.into())?;
                HeldPort::default()
            }
        };
        let open_one = |_| {
            let socket = socket(listen)?;
            socket.set_reuse_port(true)?;
            socket.bind(&listen.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let socket = std::net::TcpListener::from(socket);
            let twin = Arc::new(socket.try_clone()?);
            Ok(Listener { listen, socket, twin, port: port.clone() })
        };
        let opened = (0..threads).map(open_one).collect::<io::Result<_>>()?;
        self.0.retain(|_, port| port.strong_count() > 0);
        self.0.insert(listen.port(), Arc::downgrade(&port.0));
        Ok(opened)
    }
}

fn socket(listen: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}
