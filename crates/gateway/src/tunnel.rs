//! A connection after a switch of protocols (WebSocket and others): copies bytes in both directions
//! until both sides have closed.

use bytes::BytesMut;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Copies bytes between a client and a backend; `input` was already read from the backend.
pub(crate) async fn tunnel(client: OnUpgrade, mut backend: TcpStream, input: BytesMut) {
    let Ok(client) = client.await else { return };
    let mut client = TokioIo::new(client);
    if client.write_all(&input).await.is_ok() {
        // An error on either side ends the tunnel; HTTP is over, so it cannot be reported.
        drop(tokio::io::copy_bidirectional(&mut client, &mut backend).await);
    }
}
