//! Opens listening sockets.
//!
//! Each thread has its own socket for each listener (`SO_REUSEPORT`): the kernel distributes new
//! connections among them and no thread wakes another.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};

use rustix::io::Errno;
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
        let address = bindable(listen);
        let held = self.0.get(&listen.port()).and_then(Weak::upgrade).map(HeldPort);
        let port = match held {
            // At another address, or by threads that have not closed their sockets yet.
            Some(port) => port,
            None => {
                // With `SO_REUSEPORT` two processes of one user may listen on the same port and
                // would each get a part of the connections. Binding a socket without it fails if
                // another process listens.
                socket(address)?.bind(&address.into())?;
                HeldPort::default()
            }
        };
        let open_one = |_| {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
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
    if listen.ip() == Ipv6Addr::UNSPECIFIED {
        // The default depends on the system.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// The address to bind for `listen`: all addresses are those of IPv4 where there is no IPv6.
fn bindable(listen: SocketAddr) -> SocketAddr {
    let missing =
        |error: &io::Error| error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error());
    match listen.ip() == Ipv6Addr::UNSPECIFIED && socket(listen).as_ref().is_err_and(missing) {
        true => SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port())),
        false => listen,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_port_on_all_addresses_accepts_both_families() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, free.port()));
        let sockets = Ports::default().open(listen, 1).unwrap();
        assert_eq!(sockets[0].listen, listen);
        TcpStream::connect(free).unwrap();
        if bindable(listen) == listen && std::net::TcpListener::bind("[::1]:0").is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, free.port())).unwrap();
        }
    }
}
