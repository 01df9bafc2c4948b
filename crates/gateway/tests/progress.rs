//! No request occupies a thread: other requests on the same thread are served meanwhile.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_gateway::Settings;
use support::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A gateway with one thread: a loop without an end blocks every other request.
async fn one_thread(routes: Vec<model::TableRoute>) -> Gateway {
    Gateway::start(Settings { threads: 1, ..settings() }, routes).await
}

/// A backend that reads the head of a request and nothing of its body.
async fn never_reading() -> Service {
    Service::raw(|mut stream, requests| async move {
        read_head(&mut stream).await;
        requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn heads_larger_than_the_output_buffer_are_forwarded() {
    let mirror = Service::mirror("m").await;
    let gateway = one_thread(vec![all(&[mirror.address])]).await;
    for size in [15_000, 16 * 1024, 17_000, 33_000, 60_000] {
        let cookie = format!("cookie: {}\r\n", "a".repeat(size));
        let response = get(gateway.address, "/", &cookie).await;
        assert!(response.starts_with("HTTP/1.1 200"), "{size}: {response:.40}");
        let response = get(gateway.address, "/", "").await;
        assert!(response.starts_with("HTTP/1.1 200"), "after {size}: {response:.40}");
    }
}

/// Writes until the gateway stops reading.
async fn fill(stream: &mut TcpStream, piece: &[u8]) -> usize {
    let mut sent = 0;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(300), stream.write_all(piece)).await
    {
        written.unwrap();
        sent += piece.len();
    }
    sent
}

#[tokio::test]
async fn small_chunks_to_a_backend_that_does_not_read_wait() {
    let (slow, mirror) = tokio::join!(never_reading(), Service::mirror("m"));
    let routes = vec![route("/slow", &[(0, slow.address)]), all(&[mirror.address])];
    let gateway = one_thread(routes).await;
    within(async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = "POST /slow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let sent = fill(&mut stream, &b"1\r\nx\r\n".repeat(1000)).await;
        assert!(sent < 64 << 20, "the gateway buffers {sent} bytes");
        let response = get(gateway.address, "/", "").await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response:.40}");
    })
    .await;
}

#[tokio::test]
async fn small_frames_of_http_2_to_a_backend_that_does_not_read_wait() {
    let (slow, mirror) = tokio::join!(never_reading(), Service::mirror("m"));
    let routes = vec![route("/slow", &[(0, slow.address)]), all(&[mirror.address])];
    let gateway = one_thread(routes).await;
    within(async {
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        // `h2` ends a connection with many frames of fewer bytes.
        let pieces = std::iter::repeat_n(Bytes::from_static(&[b'x'; 1000]), 10_000);
        let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let upload = sender.send_request(Request::post("http://a/slow").body(body).unwrap());
        let upload = tokio::spawn(upload);
        while slow.requests() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            let response = get(gateway.address, "/", "").await;
            assert!(response.starts_with("HTTP/1.1 200"), "{response:.40}");
        }
        assert!(!upload.is_finished());
    })
    .await;
}
