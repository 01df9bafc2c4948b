//! Requests that two parsers could read differently are rejected or rewritten.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A backend that records every byte it receives.
async fn recorder() -> (Service, Arc<Mutex<Vec<u8>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let service = Service::raw(move |mut stream, requests| {
        let noted = noted.clone();
        async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let ends = {
                    let mut noted = noted.lock().unwrap();
                    noted.extend_from_slice(&buffer[..count]);
                    noted.ends_with(b"\r\n\r\n") || noted.ends_with(b"end")
                };
                if ends {
                    requests.fetch_add(1, Ordering::SeqCst);
                    let good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    stream.write_all(good).await.unwrap();
                }
            }
        }
    })
    .await;
    (service, seen)
}

/// Sends `text`; returns the status of the first response (0 if none) and the bytes that reached the
/// backend.
async fn attempt(text: &str) -> (u16, String) {
    let (service, seen) = recorder().await;
    let gateway = Gateway::before(&[service.address]).await;
    let response = exchange(gateway.address, text).await;
    let status = response.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    (status, seen)
}

#[tokio::test]
async fn ambiguous_requests_are_rejected() {
    for text in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nend",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nend",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nend",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nend",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET foo HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET foo:80 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/../b\r\n\r\n",
        "GET http://user@b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\0: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\rz: 1\r\n\r\n",
        "GET / HTTP/3.1\r\nhost: a\r\n\r\n",
        "CONNECT b:80 HTTP/1.1\r\nhost: b:80\r\n\r\n",
    ] {
        let (status, seen) = attempt(text).await;
        assert!(matches!(status, 0 | 400 | 405 | 501), "{status}: {}", text.escape_debug());
        assert_eq!(seen, "", "{}", text.escape_debug());
    }
}

#[tokio::test]
async fn a_length_of_a_chunked_request_is_dropped_and_the_connection_closes() {
    let text = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                3\r\nend\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let (status, seen) = attempt(text).await;
    assert_eq!(status, 200);
    assert!(
        seen.contains("transfer-encoding: chunked") && !seen.contains("content-length"),
        "{seen}"
    );
    assert!(!seen.contains("smuggled"), "{seen}");
}

#[tokio::test]
async fn the_host_of_the_request_line_takes_precedence() {
    let text = "GET http://b/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let (status, seen) = attempt(text).await;
    assert_eq!(status, 200);
    assert!(
        seen.starts_with("GET /x HTTP/1.1\r\nhost: b\r\n") && !seen.contains("host: a"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_body_cannot_become_a_request() {
    // Two requests where the first one's chunk sizes are wrong: the second is never seen.
    let text = "POST /one HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                -1\r\nend\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let (_, seen) = attempt(text).await;
    assert!(!seen.contains("smuggled"), "{seen}");
    // Unread rest of a refused request.
    let text =
        "POST / HTTP/1.1\r\ncontent-length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n..";
    let (status, seen) = attempt(text).await;
    assert_eq!((status, seen.as_str()), (400, ""));
}

#[tokio::test]
async fn heads_that_are_too_large_are_rejected() {
    let text = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    let (status, seen) = attempt(&text).await;
    assert!(matches!(status, 0 | 431), "{status}");
    assert_eq!(seen, "");
}
