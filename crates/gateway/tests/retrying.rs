//! Failing backends: requests are repeated where that is safe, and failures are reported.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use muster_gateway::Settings;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

fn one_thread() -> Settings {
    Settings { threads: 1, ..settings() }
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[tokio::test]
async fn a_request_that_reached_no_backend_is_sent_to_another_one() {
    let mirror = Service::mirror("m").await;
    let gateway = Gateway::before(&[free_address(), free_address(), mirror.address]).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.unwrap().0, 200);
        assert_eq!(client.post("/", "precious").await.unwrap().0, 200);
    }
    assert_eq!(mirror.requests(), 100);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_backend_that_cannot_be_reached_is_ejected() {
    let (silent, mirror) = tokio::join!(Silent::start(), Service::mirror("m"));
    let connect_timeout = Duration::from_secs(2);
    let settings = Settings { connect_timeout, ..settings() };
    let backends = [silent.address, mirror.address];
    let gateway = Gateway::local(settings, vec![all(&backends)]).await;
    let mut client = Client::connect(gateway.address).await;
    let begun = Instant::now();
    for _ in 0..50 {
        assert_eq!(client.get("/").await.unwrap().0, 200);
    }
    // The first request waits for the timeout, the others do not.
    let waited = begun.elapsed();
    assert!((connect_timeout..2 * connect_timeout).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn when_no_backend_can_be_reached_the_response_says_why() {
    let gateway = Gateway::before(&[free_address(), free_address()]).await;
    for _ in 0..3 {
        let answer = get(gateway.address, "/", "").await;
        assert_eq!(status(&answer), "503", "{answer}");
        assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
        assert!(answer.contains(r#"{"code":"unavailable","message":"no instance of /shop/web can be reached: /shop/web~"#), "{answer}");
        assert!(answer.contains("refused"), "{answer}");
    }
}

/// Backends of nodes that are down: they neither accept nor refuse connections.
#[tokio::test(flavor = "local", start_paused = true)]
async fn the_retry_timeout_limits_the_attempts_with_many_silent_backends() {
    let silent = Silent::start().await;
    let settings = Settings {
        connect_timeout: Duration::from_millis(200),
        retry_timeout: Duration::from_millis(300),
        ..settings()
    };
    let gateway = Gateway::local(settings, vec![all(&[silent.address; 20])]).await;
    let begun = Instant::now();
    let answer = get(gateway.address, "/", "").await;
    assert_eq!(status(&answer), "503", "{answer}");
    assert!(answer.contains("no connection within 200ms"), "{answer}");
    // Attempts begin after 0, 200 and 400 ms, and none after 500 ms.
    let waited = begun.elapsed().as_millis();
    assert!((600..700).contains(&waited), "{waited}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_backend_that_can_be_reached_again_gets_requests() {
    let mirror = Service::mirror("m").await;
    let down = free_address();
    let gateway = Gateway::local(settings(), vec![all(&[mirror.address, down])]).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.unwrap().0, 200);
    }
    let listener = tokio::net::TcpListener::bind(down).await.unwrap();
    let back = tokio::spawn(async move { drop(listener.accept().await) });
    within(async {
        while !back.is_finished() {
            client.get("/").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn routes_without_backends_and_no_routes_are_explained() {
    let mut empty = route("/empty", &[]);
    empty.empty_because = Some("2 of 2 instances are starting".into());
    let gateway = Gateway::start(settings(), vec![empty]).await;
    let answer = get(gateway.address, "/empty", "").await;
    assert_eq!(status(&answer), "503");
    let message = "/shop/web has no instance that serves: 2 of 2 instances are starting";
    assert!(answer.contains(message) && answer.contains("retry-after: 1"), "{answer}");
    let answer = get(gateway.address, "/other", "").await;
    assert_eq!(status(&answer), "404");
    assert!(answer.contains(r#"{"code":"not-found","message":"no route for"#), "{answer}");
}

/// The backend closes each connection after its first request.
#[tokio::test]
async fn a_stale_connection_is_no_failure() {
    let service = Service::scripted(1, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let gateway = Gateway::start(one_thread(), vec![all(&[service.address])]).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.unwrap().0, 200);
        assert_eq!(client.post("/", "precious").await.unwrap().0, 200);
    }
}

/// The backend reads the second request of a connection and closes it without a response.
#[tokio::test]
async fn a_lost_request_that_is_safe_to_repeat_is_repeated() {
    let service = Service::scripted(2, "").await;
    let gateway = Gateway::start(one_thread(), vec![all(&[service.address])]).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.unwrap().0, 200);
    }
    assert_eq!(service.requests(), 19, "each but the first was lost once, then repeated");
}

#[tokio::test]
async fn a_lost_request_that_is_not_safe_to_repeat_is_an_error() {
    let service = Service::scripted(2, "").await;
    let other = Service::mirror("m").await;
    let gateway = Gateway::start(one_thread(), vec![all(&[service.address])]).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.post("/", "precious").await.unwrap().0, 200);
    let (status, body) = client.post("/", "precious").await.unwrap();
    assert_eq!(status, 502);
    let message = r#"{"code":"bad-gateway","message":"/shop/web~0.1: it closed the connection without a response"}"#;
    assert_eq!(body, message);
    assert_eq!((service.requests(), other.requests()), (2, 0));
}

#[tokio::test]
async fn a_request_that_crashes_backends_is_repeated_only_once() {
    let (a, b, c) =
        tokio::join!(Service::scripted(1, ""), Service::scripted(1, ""), Service::scripted(1, ""));
    let backends = [a.address, b.address, c.address];
    let gateway = Gateway::start(one_thread(), vec![all(&backends)]).await;
    let answer = get(gateway.address, "/", "").await;
    assert_eq!(status(&answer), "502", "{answer}");
    assert_eq!(a.requests() + b.requests() + c.requests(), 2);
}

#[tokio::test]
async fn invalid_responses_are_not_forwarded() {
    for (text, reason) in [
        ("SSH-2.0-OpenSSH_9\r\n\r\n", "its response is not HTTP"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "contradictory"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: br\r\n\r\n", "transfer coding"),
        ("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", "without a request to do so"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "in the middle"),
    ] {
        let service = Service::scripted(1, text).await;
        let gateway = Gateway::before(&[service.address]).await;
        let answer = get(gateway.address, "/", "").await;
        assert_eq!(status(&answer), "502", "{text}: {answer}");
        assert!(answer.contains(reason), "{text}: {answer}");
    }
}

#[tokio::test]
async fn interim_responses_are_dropped_and_early_ones_forwarded() {
    let text =
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let service = Service::scripted(1, text).await;
    let gateway = Gateway::before(&[service.address]).await;
    let answer = get(gateway.address, "/", "").await;
    assert!(status(&answer) == "200" && !answer.contains("link"), "{answer}");
    // A response before the body of the request has arrived, and a close.
    let early = "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    let service = Service::scripted(1, early).await;
    let gateway = Gateway::before(&[service.address]).await;
    let text = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegin";
    let answer = exchange(gateway.address, text).await;
    assert_eq!(status(&answer), "413", "{answer}");
}

#[tokio::test]
async fn a_truncated_response_is_not_forwarded_as_a_complete_one() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let service = Service::scripted(1, text).await;
        let gateway = Gateway::before(&[service.address]).await;
        let mut client = Client::connect(gateway.address).await;
        assert!(within(client.get("/")).await.is_err(), "{text}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn backends_and_clients_time_out() {
    let service = Service::raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let settings = Settings { response_timeout: Duration::from_secs(5), ..settings() };
    let gateway = Gateway::local(settings, vec![all(&[service.address])]).await;
    let answer = get(gateway.address, "/", "").await;
    assert_eq!(status(&answer), "504", "{answer}");
    let text = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nbegin";
    let answer = exchange(gateway.address, text).await;
    assert_eq!(status(&answer), "408", "{answer}");
}

#[tokio::test]
async fn a_client_that_disconnects_ends_its_request_at_the_backend() {
    let (under_way, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let (count, told) = (under_way.clone(), seen.clone());
    let service = Service::raw(move |mut stream, _| {
        let (count, told) = (count.clone(), told.clone());
        async move {
            read_head(&mut stream).await;
            count.fetch_add(1, Ordering::SeqCst);
            told.notify_one();
            let _ = stream.read(&mut [0]).await;
            count.fetch_sub(1, Ordering::SeqCst);
            told.notify_one();
        }
    })
    .await;
    let gateway = Gateway::before(&[service.address]).await;
    within(async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        seen.notified().await;
        assert_eq!(under_way.load(Ordering::SeqCst), 1);
        let standing = gateway.switch(vec![all(&[])]).await;
        assert_eq!(standing.busy, [instance(0)].into());
        drop(stream);
        seen.notified().await;
        assert_eq!(under_way.load(Ordering::SeqCst), 0);
        gateway.standing(|standing| standing.busy.is_empty()).await;
    })
    .await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_backend_with_fewer_requests_in_flight_gets_more() {
    let slow = Service::http(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Response::new(Full::<Bytes>::from("slow"))
    })
    .await;
    let quick = Service::mirror("quick").await;
    let gateway = Gateway::local(settings(), vec![all(&[slow.address, quick.address])]).await;
    let hammer = (0..4).map(|_| async {
        let mut client = Client::connect(gateway.address).await;
        for _ in 0..30 {
            assert_eq!(client.get("/").await.unwrap().0, 200);
        }
    });
    within(futures_util::future::join_all(hammer)).await;
    assert_eq!(slow.requests() + quick.requests(), 120);
    assert!(quick.requests() > 2 * slow.requests(), "{} {}", quick.requests(), slow.requests());
}
