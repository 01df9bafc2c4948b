//! Responses that break off: the client gets everything that came before, then the error.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A backend that responds with these pieces and then closes the connection.
async fn breaking(pieces: &'static [&'static str]) -> Service {
    Service::raw(move |mut stream, _| async move {
        read_head(&mut stream).await;
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await
}

const BROKEN: [&[&str]; 4] = [
    &["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst;", "second;"],
    &["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst;second;"],
    &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nd\r\nfirst;second;\r\nzz\r\n"],
    &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst;\r\n", "7\r\nsecond;\r\n"],
];

#[tokio::test]
async fn bytes_before_a_broken_connection_arrive_in_order() {
    for pieces in BROKEN {
        let service = breaking(pieces).await;
        let gateway = Gateway::before(&[service.address]).await;
        for _ in 0..20 {
            let response = get(gateway.address, "/", "").await;
            assert!(response.starts_with("HTTP/1.1 200 OK"), "{pieces:?}: {response:?}");
            assert!(!response.ends_with("0\r\n\r\n"), "it is not complete: {response:?}");
            assert!(response.contains("first;") && response.contains("second;"), "{response:?}");
        }
    }
}

#[tokio::test]
async fn a_break_right_after_the_head_keeps_the_status() {
    for text in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
    ] {
        let service = Service::scripted(1, text).await;
        let gateway = Gateway::before(&[service.address]).await;
        for _ in 0..20 {
            let response = get(gateway.address, "/", "").await;
            assert!(response.starts_with("HTTP/1.1 200 OK"), "{text}: {response:?}");
            assert!(!response.ends_with("0\r\n\r\n"), "{text}: {response:?}");
        }
    }
}

#[tokio::test]
async fn bytes_before_a_broken_connection_arrive_over_http_2() {
    for pieces in BROKEN {
        let service = breaking(pieces).await;
        let gateway = Gateway::before(&[service.address]).await;
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        for _ in 0..20 {
            let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
            let response = within(sender.send_request(request)).await.unwrap();
            assert_eq!(response.status(), 200);
            let (mut body, mut seen) = (response.into_body(), Vec::new());
            let error = loop {
                match within(body.frame()).await.expect("it breaks off") {
                    Ok(frame) => seen.extend_from_slice(&frame.into_data().unwrap()),
                    Err(error) => break error,
                }
            };
            assert_eq!(String::from_utf8_lossy(&seen), "first;second;", "{pieces:?}: {error:?}");
        }
    }
}

/// hyper has a part of it in its buffer when the response breaks off.
#[tokio::test]
async fn a_slow_client_gets_everything_before_the_break() {
    const SIZE: usize = 3_000_000;
    let service = Service::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream.write_all(&vec![b'x'; SIZE]).await.unwrap();
    })
    .await;
    let gateway = Gateway::before(&[service.address]).await;
    within(async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        read_head(&mut stream).await;
        let (mut size, mut buffer) = (0, vec![0; 300_000]);
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            size += count;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(size, SIZE);
    })
    .await;
}
