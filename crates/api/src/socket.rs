//! What is asked of the kernel for each connection between daemons, and of people to them: that no
//! connection outlives the other side.
//!
//! Whoever vanishes without a word is asked for after a while, and found gone. Whoever is there and
//! does not read is not found so, since its kernel answers for it: a stream that is written to it
//! would stand still for ever. Nothing above the socket sees this, since it waits until the socket
//! takes more.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A client that takes nothing of what was written to it for so long is cut off.
const STALLED: Duration = Duration::from_secs(60);
/// A connection is idle for so long before the other side is asked whether it is still there,
const IDLE: Duration = Duration::from_secs(30);
/// again after so long,
const AGAIN: Duration = Duration::from_secs(10);
/// and so often before it counts as gone.
const TIMES: u32 = 3;

/// Asks for it, where a connection is taken. A kernel that refuses has a connection that is slower
/// to end, and no worse.
pub(crate) fn tune(stream: &TcpStream) {
    // Every message is written whole: waiting for more to send would only delay it.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_user_timeout(Some(STALLED));
    let keep_alive = TcpKeepalive::new().with_time(IDLE).with_interval(AGAIN).with_retries(TIMES);
    let _ = socket.set_tcp_keepalive(&keep_alive);
}

/// Asks for it, where connections are made.
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
    async fn a_connection_without_another_side_ends() {
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
