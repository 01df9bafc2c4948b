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

fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or(response)
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
async fn when_no_backend_is_reachable_the_response_has_the_reason() {
    let gateway = Gateway::before(&[free_address(), free_address()]).await;
    for _ in 0..3 {
        let response = get(gateway.address, "/", "").await;
        assert_eq!(status(&response), "503", "{response}");
        assert!(response.contains("retry-after: 1\r\n"), "{response}");
        assert!(response.contains(r#"{"code":"unavailable","message":"no instance of /shop/web can be reached: /shop/web~"#), "{response}");
        assert!(response.contains("refused"), "{response}");
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
    let response = get(gateway.address, "/", "").await;
    assert_eq!(status(&response), "503", "{response}");
    assert!(response.contains("no connection within 200ms"), "{response}");
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
    let response = get(gateway.address, "/empty", "").await;
    assert_eq!(status(&response), "503");
    let message = "/shop/web has no instance that serves: 2 of 2 instances are starting";
    assert!(response.contains(message) && response.contains("retry-after: 1"), "{response}");
    let response = get(gateway.address, "/other", "").await;
    assert_eq!(status(&response), "404");
    assert!(response.contains(r#"{"code":"not-found","message":"no route for"#), "{response}");
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
    let response = get(gateway.address, "/", "").await;
    assert_eq!(status(&response), "502", "{response}");
    assert_eq!(a.requests() + b.requests() + c.requests(), 2);
}

/// The connection was kept, so the backend may have closed it before it saw the request; but it
/// may also have seen it.
#[tokio::test]
async fn a_request_lost_on_a_kept_connection_is_repeated_only_once() {
    let turn = Arc::new(AtomicUsize::new(0));
    let service = Service::raw(move |mut stream, requests| {
        let is_first = turn.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            for number in 0.. {
                if read_head(&mut stream).await.is_empty() {
                    return;
                }
                requests.fetch_add(1, Ordering::SeqCst);
                if !(is_first && number == 0) {
                    return;
                }
                let good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(good).await.unwrap();
            }
        }
    })
    .await;
    let gateway = Gateway::start(one_thread(), vec![all(&[service.address])]).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.get("/").await.unwrap().0, 200);
    assert_eq!(client.get("/").await.unwrap().0, 502);
    assert_eq!(service.requests(), 3, "one, and the other one twice");
}

#[tokio::test]
async fn a_post_without_a_body_is_never_repeated() {
    for kept in [0, 1] {
        let (service, other) = tokio::join!(Service::scripted(kept + 1, ""), Service::mirror("m"));
        let gateway = Gateway::start(one_thread(), vec![all(&[service.address])]).await;
        let mut client = Client::connect(gateway.address).await;
        for _ in 0..kept {
            assert_eq!(client.post("/", "").await.unwrap().0, 200);
        }
        assert_eq!(client.post("/", "").await.unwrap().0, 502);
        assert_eq!((service.requests(), other.requests()), (kept + 1, 0));
    }
}

/// The kernel confirms that the backend had the request, so the backend was reached.
#[tokio::test]
async fn a_request_that_is_reset_is_a_bad_gateway() {
    let service = Service::raw(|mut stream, requests| async move {
        read_head(&mut stream).await;
        requests.fetch_add(1, Ordering::SeqCst);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let gateway = Gateway::start(one_thread(), vec![all(&[service.address])]).await;
    let response = get(gateway.address, "/", "").await;
    assert_eq!(status(&response), "502", "{response}");
    assert!(response.contains("it closed the connection without a response"), "{response}");
}

#[tokio::test]
async fn a_malformed_body_is_a_bad_request() {
    let service = Service::raw(|mut stream, _| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let gateway = Gateway::before(&[service.address]).await;
    for body in ["zz\r\n", "3\r\nabcd\r\n0\r\n\r\n", "5\r\nhelloX\n0\r\n\r\n", "-1\r\n"] {
        let text =
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let response = exchange(gateway.address, &text).await;
        assert_eq!(status(&response), "400", "{body}: {response}");
        assert!(response.contains("connection: close\r\n"), "{response}");
        assert!(response.contains("the body of the request is malformed"), "{response}");
    }
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
        let response = get(gateway.address, "/", "").await;
        assert_eq!(status(&response), "502", "{text}: {response}");
        assert!(response.contains(reason), "{text}: {response}");
    }
}

#[tokio::test]
async fn interim_responses_are_forwarded_in_order() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let service = Service::scripted(1, text).await;
    let gateway = Gateway::before(&[service.address]).await;
    let response = get(gateway.address, "/", "").await;
    let expected = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                    HTTP/1.1 200 OK\r\n";
    assert!(response.starts_with(expected) && response.ends_with("ok"), "{response}");
    let response = exchange(gateway.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(
        response.starts_with("HTTP/1.0 200 OK\r\n") && !response.contains("link"),
        "{response}"
    );
}

/// The headers of the request are gone by then, and the backend has seen it.
#[tokio::test]
async fn a_request_with_an_interim_response_is_not_repeated() {
    let service = Service::scripted(1, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n").await;
    let gateway = Gateway::start(one_thread(), vec![all(&[service.address])]).await;
    let response = get(gateway.address, "/", "").await;
    assert!(response.contains("HTTP/1.1 502 Bad Gateway"), "{response}");
    assert_eq!(service.requests(), 1);
    let endless = Service::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {}
    })
    .await;
    let gateway = Gateway::start(one_thread(), vec![all(&[endless.address])]).await;
    let response = get(gateway.address, "/", "").await;
    assert!(response.contains("too many interim responses"), "{response}");
}

#[tokio::test]
async fn a_response_before_the_body_has_arrived_is_forwarded() {
    let early = "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    let service = Service::scripted(1, early).await;
    let gateway = Gateway::before(&[service.address]).await;
    let text = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegin";
    let response = exchange(gateway.address, text).await;
    assert_eq!(status(&response), "413", "{response}");
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
    let response = get(gateway.address, "/", "").await;
    assert_eq!(status(&response), "504", "{response}");
    let text = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nbegin";
    let response = exchange(gateway.address, text).await;
    assert_eq!(status(&response), "408", "{response}");
}

#[tokio::test]
async fn a_client_that_disconnects_ends_its_request_at_the_backend() {
    let (in_flight, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let (count, seen_by_service) = (in_flight.clone(), seen.clone());
    let service = Service::raw(move |mut stream, _| {
        let (count, seen_by_service) = (count.clone(), seen_by_service.clone());
        async move {
            read_head(&mut stream).await;
            count.fetch_add(1, Ordering::SeqCst);
            seen_by_service.notify_one();
            let _ = stream.read(&mut [0]).await;
            count.fetch_sub(1, Ordering::SeqCst);
            seen_by_service.notify_one();
        }
    })
    .await;
    let gateway = Gateway::before(&[service.address]).await;
    within(async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        seen.notified().await;
        assert_eq!(in_flight.load(Ordering::SeqCst), 1);
        let gateway_state = gateway.switch(vec![all(&[])]).await;
        assert_eq!(gateway_state.busy, [instance(0)].into());
        drop(stream);
        seen.notified().await;
        assert_eq!(in_flight.load(Ordering::SeqCst), 0);
        gateway.gateway_state(|gateway_state| gateway_state.busy.is_empty()).await;
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
