//! Requests as backends receive them, and responses as clients receive them.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

#[tokio::test]
async fn routes_by_host_then_path() {
    let (exact, wild, api, any) = tokio::join!(
        Service::mirror("exact"),
        Service::mirror("wild"),
        Service::mirror("api"),
        Service::mirror("any"),
    );
    let with_host = |host: &str, service: &Service| {
        let mut route = all(&[service.address]);
        route.hosts.insert(host.into());
        route
    };
    let routes = vec![
        all(&[any.address]),
        route("/api", &[(1, api.address)]),
        with_host("*.example", &wild),
        with_host("shop.example", &exact),
    ];
    let gateway = Gateway::start(settings(), routes).await;
    let check = async |host: &str, path: &str, expected: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let reply = exchange(gateway.address, &text).await;
        assert!(reply.contains(&format!("\r\n\r\n{expected} GET {path}\n")), "{host}: {reply}");
    };
    check("SHOP.example:8080", "/api/x?y=1", "exact").await;
    check("other.example", "/api", "wild").await;
    check("other.test", "/api", "api").await;
    check("other.test", "/apis", "any").await;
    gateway.proxy.stop().await;
}

#[tokio::test]
async fn sets_the_forwarding_fields() {
    let mirror = Service::mirror("m").await;
    let gateway = Gateway::before(&[mirror.address]).await;
    let more = "x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\nkeep-alive: 3\r\n";
    let reply = get(gateway.address, "/a", more).await;
    let port = gateway.address.port();
    let expected = format!(
        "m GET /a\nhost: shop.example\nx-forwarded-for: 9.9.9.9, 127.0.0.1\n\
         x-forwarded-proto: http\nx-forwarded-host: shop.example\nx-forwarded-port: {port}\n"
    );
    assert!(reply.ends_with(&format!("\r\n\r\n{expected}")), "{reply}");
    assert!(!reply.to_lowercase().contains("via:"), "{reply}");
}

#[tokio::test]
async fn the_forwarding_fields_of_a_trusted_proxy_are_kept() {
    let mirror = Service::mirror("m").await;
    let gateway = Gateway::before(&[mirror.address]).await;
    let more = "x-forwarded-for: 6.6.6.6, 1.1.1.1, 10.0.0.2\r\nx-forwarded-proto: https\r\n";
    let own = "x-forwarded-for: 6.6.6.6, 1.1.1.1, 10.0.0.2, 127.0.0.1\nx-forwarded-proto: http\n";
    let reply = get(gateway.address, "/", more).await;
    assert!(reply.contains(own), "{reply}");
    let mut table = table(9, gateway.address, vec![all(&[mirror.address])]);
    table.listeners[0].trust = ["127.0.0.1", "10.0.0.0/8"].map(|t| t.parse().unwrap()).into();
    gateway.proxy.switch(table);
    gateway.gateway_state(|gateway_state| gateway_state.generation == 9).await;
    let reply = get(gateway.address, "/", more).await;
    let kept = "x-forwarded-for: 1.1.1.1, 10.0.0.2, 127.0.0.1\nx-forwarded-proto: https\n";
    assert!(reply.contains(kept) && !reply.contains("x-forwarded-port"), "{reply}");
}

#[tokio::test]
async fn fields_with_underscores_are_forwarded_unless_they_imitate_those_of_the_gateway() {
    let mirror = Service::mirror("m").await;
    let gateway = Gateway::before(&[mirror.address]).await;
    let more = "x_request_id: 7\r\nx_forwarded_for: 9.9.9.9\r\nx-forwarded_proto: https\r\n\
                content_length: 3\r\n";
    let reply = get(gateway.address, "/", more).await;
    assert!(reply.contains("\nx_request_id: 7\n"), "{reply}");
    for imitation in ["9.9.9.9", "https", "content_length"] {
        assert!(!reply.contains(imitation), "{imitation}: {reply}");
    }
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let mirror = Service::mirror("m").await;
    let settings = muster_gateway::Settings { threads: 1, ..settings() };
    let gateway = Gateway::start(settings, vec![all(&[mirror.address])]).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.unwrap().0, 200);
        assert_eq!(client.post("/", "body").await.unwrap().0, 200);
    }
    assert_eq!((mirror.requests(), mirror.connections()), (100, 1));
}

#[tokio::test]
async fn http_1_0_clients_and_head_requests() {
    let mirror = Service::mirror("m").await;
    let gateway = Gateway::before(&[mirror.address]).await;
    let reply = exchange(gateway.address, "GET /old HTTP/1.0\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.0 200") && reply.contains("m GET /old"), "{reply}");
    // HTTP/1.1 requires a host.
    let address = gateway.address;
    assert!(reply.contains(&format!("\nhost: {address}\n")), "{reply}");
    assert!(reply.contains(&format!("\nx-forwarded-host: {address}\n")), "{reply}");
    let text = "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let reply = exchange(gateway.address, text).await;
    assert!(reply.contains("content-length: ") && reply.ends_with("\r\n\r\n"), "{reply}");
    assert!(!reply.contains("content-length: 0"), "{reply}");
}

#[tokio::test]
async fn speaks_http_2_with_clients() {
    let mirror = Service::mirror("m").await;
    let gateway = Gateway::before(&[mirror.address]).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let requests = (0..100).map(|number| {
        let mut sender = sender.clone();
        async move {
            let request = Request::post(format!("http://shop.example/{number}"))
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .body(Full::<Bytes>::from("hello"))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = str::from_utf8(&body).unwrap().to_string();
            assert!(body.starts_with(&format!("m POST /{number}\nhost: shop.example\n")), "{body}");
            assert!(body.contains("cookie: a=1; b=2\ncontent-length: 5\n"), "{body}");
        }
    });
    within(futures_util::future::join_all(requests)).await;
    assert_eq!(mirror.requests(), 100);
}

/// Echoes the body of a request, piece by piece, and its trailers.
async fn echo() -> Service {
    Service::http(|request: Request<Incoming>| async move {
        let framing = request.headers().get("transfer-encoding").cloned();
        let mut response = Response::new(request.into_body());
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        if let Some(framing) = framing {
            response.headers_mut().insert("x-framing", framing);
        }
        response
    })
    .await
}

#[tokio::test]
async fn bodies_stream_both_ways_with_trailers() {
    let echo = echo().await;
    let gateway = Gateway::before(&[echo.address]).await;
    within(async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head =
            "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut seen = String::new();
        for piece in ["one", "two", "three"] {
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            stream.write_all(chunk.as_bytes()).await.unwrap();
            // The piece is back before the next one is sent: nothing waits for the whole.
            while !seen.contains(piece) {
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "{seen}");
                seen.push_str(str::from_utf8(&buffer[..count]).unwrap());
            }
        }
        let last = b"0\r\nexpect: 100-continue\r\nhost: b\r\nx-sum: 11\r\n\r\n";
        stream.write_all(last).await.unwrap();
        while !seen.ends_with("0\r\nx-sum: 11\r\n\r\n") {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{seen}");
            seen.push_str(str::from_utf8(&buffer[..count]).unwrap());
        }
        assert!(seen.contains("x-framing: chunked"), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn large_bodies_arrive_complete() {
    let echo = echo().await;
    let gateway = Gateway::before(&[echo.address]).await;
    let body: Bytes = (0..5_000_000u32).map(|n| (n / 7) as u8).collect::<Vec<_>>().into();
    let mut client = Client::connect(gateway.address).await;
    let request = Request::post("/").header("host", "a").body(Full::new(body.clone())).unwrap();
    let (status, back) = within(client.send(request)).await.unwrap();
    assert_eq!(status, 200);
    assert!(back == body, "{} bytes came back", back.len());
    // Of unknown length, over HTTP/2.
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let pieces: Vec<_> = body.chunks(70_001).map(Bytes::copy_from_slice).collect();
    let frames = futures_util::stream::iter(pieces).map(|p| Ok::<_, Infallible>(Frame::data(p)));
    let request = Request::post("http://a/").body(StreamBody::new(frames)).unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    let back = within(response.into_body().collect()).await.unwrap().to_bytes();
    assert!(back == body, "{} bytes came back", back.len());
}

#[tokio::test]
async fn trailers_of_responses_reach_http_2_clients() {
    let service = Service::http(|_| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        trailers.insert("x-forwarded-for", HeaderValue::from_static("9.9.9.9"));
        let frames = [Frame::data(Bytes::from("data")), Frame::trailers(trailers)];
        let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
        let mut response = Response::new(StreamBody::new(frames));
        let declared = HeaderValue::from_static("x-sum, x-forwarded-for");
        response.headers_mut().insert("trailer", declared);
        response
    })
    .await;
    let gateway = Gateway::before(&[service.address]).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/").header("te", "trailers").body(Empty::<Bytes>::new());
    let response = within(sender.send_request(request.unwrap())).await.unwrap();
    let body = within(response.into_body().collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    assert_eq!(body.trailers().unwrap().len(), 1);
    assert_eq!(body.to_bytes(), "data");
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let echo = echo().await;
    let gateway = Gateway::before(&[echo.address]).await;
    within(async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head =
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"hello").await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"hello");
    })
    .await;
}

#[tokio::test]
async fn tunnels_web_sockets_and_counts_them_until_they_close() {
    let service = Service::switching().await;
    let gateway = Gateway::before(&[service.address]).await;
    within(async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\n\
                    upgrade: websocket\r\n\r\nearly";
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-accept: k"));
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"early");
        let gateway_state = gateway.switch(vec![all(&[])]).await;
        assert_eq!(gateway_state.busy, [instance(0)].into());
        stream.write_all(b"again").await.unwrap();
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"again");
        drop(stream);
        gateway.gateway_state(|gateway_state| gateway_state.busy.is_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_to_http_2_is_not_forwarded() {
    let mirror = Service::mirror("m").await;
    let gateway = Gateway::before(&[mirror.address]).await;
    let more = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n";
    let reply = get(gateway.address, "/", more).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(!reply.contains("upgrade:") && !reply.contains("http2-settings"), "{reply}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn slow_and_idle_clients_are_disconnected() {
    let mirror = Service::mirror("m").await;
    let settings = muster_gateway::Settings {
        head_timeout: Duration::from_secs(10),
        client_idle: Duration::from_secs(15),
        ..settings()
    };
    let gateway = Gateway::local(settings, vec![all(&[mirror.address])]).await;
    // The head never ends, though a piece of it arrives every second.
    let slow = async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap();
        let (begun, mut buffer) = (Instant::now(), [0; 64]);
        let mut pieces = tokio::time::interval(Duration::from_secs(1));
        let read = loop {
            tokio::select! {
                read = stream.read(&mut buffer) => break read.unwrap_or(0),
                _ = pieces.tick() => {
                    let _ = stream.write_all(b"x: y\r\n").await;
                }
            }
        };
        assert_eq!(read, 0, "it gets no response");
        begun.elapsed().as_secs_f64()
    };
    let idle = async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let begun = Instant::now();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        assert!(!reply.is_empty());
        begun.elapsed().as_secs_f64()
    };
    let (slow, idle) = within(async { tokio::join!(slow, idle) }).await;
    assert!((10.0..11.0).contains(&slow), "{slow}");
    assert!((15.0..16.0).contains(&idle), "{idle}");
}
