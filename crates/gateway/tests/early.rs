//! Responses before the request is read: the connection stays usable, or says that it closes and
//! is not reset before the client has read the response.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::sync::atomic::Ordering;

use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A backend that responds to `/early` as soon as it has the head of a request, and then closes
/// the connection.
async fn hasty() -> Service {
    Service::raw(|mut stream, requests| async move {
        loop {
            let head = read_head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            requests.fetch_add(1, Ordering::SeqCst);
            let early = head.starts_with("POST /early");
            let response = match early {
                true => "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig",
                false => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            };
            stream.write_all(response.as_bytes()).await.unwrap();
            if early {
                return;
            }
        }
    })
    .await
}

async fn read_response(stream: &mut TcpStream, body: &str) -> String {
    let head = read_head(stream).await;
    let mut rest = vec![0; body.len()];
    stream.read_exact(&mut rest).await.unwrap();
    assert_eq!(rest, body.as_bytes(), "{head}");
    head
}

const NEXT: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// 40 of 40, wherever the body is cut.
#[tokio::test]
async fn the_next_request_succeeds_after_an_early_response() {
    let service = hasty().await;
    let gateway = Gateway::before(&[service.address]).await;
    within(async {
        for number in 0..40 {
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            let head = b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let before = [0, 1, 500, 999][number % 4];
            stream.write_all(&vec![b'x'; before]).await.unwrap();
            let head = read_response(&mut stream, "big").await;
            assert!(head.starts_with("HTTP/1.1 413") && !head.contains("connection:"), "{head}");
            stream.write_all(&vec![b'x'; 1000 - before]).await.unwrap();
            stream.write_all(NEXT).await.unwrap();
            let head = read_response(&mut stream, "ok").await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_early_response_to_a_large_upload_announces_the_close_and_arrives() {
    let service = hasty().await;
    let gateway = Gateway::before(&[service.address]).await;
    let (sized, chunked) = ("content-length: 9000000", "transfer-encoding: chunked");
    for framing in [sized, chunked] {
        within(async {
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            let head = format!("POST /early HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // The client reads the response only after it has sent a part of the body.
            for _ in 0..10 {
                let piece = match framing == sized {
                    true => vec![b'x'; 40_000],
                    false => [&b"9c40\r\n"[..], &[b'x'; 40_000], b"\r\n"].concat(),
                };
                stream.write_all(&piece).await.unwrap();
            }
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            assert!(response.starts_with("HTTP/1.1 413"), "{response}");
            assert!(response.contains("connection: close\r\n"), "{response}");
            assert!(response.ends_with("\r\n\r\nbig"), "{response}");
        })
        .await;
    }
}

#[tokio::test]
async fn responses_of_the_gateway_itself_keep_the_connection_or_announce_its_close() {
    let service = hasty().await;
    let gateway = Gateway::start(settings(), vec![route("/app", &[(0, service.address)])]).await;
    within(async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = "POST /none HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 404") && !head.contains("connection:"), "{head}");
        stream.write_all(b"hello").await.unwrap();
        stream
            .write_all(b"GET /app HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("HTTP/1.1 200 OK"), "{rest}");
    })
    .await;
    // A client that was not asked to continue may never send the body.
    let text =
        "POST /none HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let response = exchange(gateway.address, text).await;
    assert!(response.starts_with("HTTP/1.1 404"), "{response}");
    assert!(response.contains("connection: close\r\n"), "{response}");
}

/// hyper rejects it before it is complete.
#[tokio::test]
async fn the_rejection_of_a_head_reaches_the_client() {
    let service = hasty().await;
    let gateway = Gateway::before(&[service.address]).await;
    for _ in 0..20 {
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(300_000));
        let response = exchange(gateway.address, &text).await;
        assert!(response.starts_with("HTTP/1.1 431"), "{response}");
    }
}
