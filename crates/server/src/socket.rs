//! What is asked of the kernel for each connection.
//!
//! A stream that is written to a client who does not read would stand still for ever: its client
//! answers for itself, so that the connection is never found dead. Nothing above the socket sees
//! this, since it waits until the socket takes more.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// A client that takes nothing of what was written to it for so long is cut off.
const STALLED: Duration = Duration::from_secs(60);

/// Asks for it. A kernel that refuses has a connection that is slower to end, and no worse.
pub(crate) fn tune(stream: &mut TcpStream) {
    // Every message is written whole: waiting for more to send would only delay it.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&*stream).set_tcp_user_timeout(Some(STALLED));
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_takes_nothing_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (_client, (mut stream, _)) = (client.unwrap(), accepted.unwrap());
        tune(&mut stream);
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(STALLED));
    }
}
