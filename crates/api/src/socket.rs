//! Socket options of all connections to and between daemons: a connection must not outlive its
//! peer.
//!
//! Keep-alive probes detect a peer that vanished. They do not detect a peer that no longer reads,
//! because its kernel acknowledges them; a stream to it would block forever, and the code above the
//! socket only waits until it can write again. `TCP_USER_TIMEOUT` covers that case.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A client that acknowledges nothing of what was written for this long is disconnected.
const STALLED: Duration = Duration::from_secs(60);
/// Idle time before the first keep-alive probe.
const IDLE: Duration = Duration::from_secs(30);
/// Interval of further probes.
const AGAIN: Duration = Duration::from_secs(10);
/// Number of unanswered probes after which the connection closes.
const TIMES: u32 = 3;

/// Sets the options of an accepted connection. A kernel that rejects them only detects a lost peer
/// later.
pub(crate) fn tune(stream: &TcpStream) {
    // Every message is written in one piece: waiting for more output would only delay it.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_user_timeout(Some(STALLED));
    let keep_alive = TcpKeepalive::new().with_time(IDLE).with_interval(AGAIN).with_retries(TIMES);
    let _ = socket.set_tcp_keepalive(&keep_alive);
}

/// A connector that sets the options of new connections.
pub(crate) fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    connector.set_keepalive(Some(IDLE));
    connector.set_keepalive_interval(Some(AGAIN));
    connector.set_keepalive_retries(Some(TIMES));
    connector
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_to_a_vanished_peer_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (_client, (stream, _)) = (client.unwrap(), accepted.unwrap());
        tune(&stream);
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(STALLED));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), AGAIN);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), TIMES);
    }
}
