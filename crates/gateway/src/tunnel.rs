//! What becomes of a request that switched protocols (WebSocket and others): bytes both ways
//! until both sides have closed.

use bytes::BytesMut;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Carries bytes between a client and a backend; `input` was read from the backend before.
pub(crate) async fn tunnel(client: OnUpgrade, mut backend: TcpStream, input: BytesMut) {
    let Ok(client) = client.await else { return };
    let mut client = TokioIo::new(client);
    if client.write_all(&input).await.is_ok() {
        // A side that breaks off ends the tunnel; there is nothing to add to that.
        drop(tokio::io::copy_bidirectional(&mut client, &mut backend).await);
    }
}
