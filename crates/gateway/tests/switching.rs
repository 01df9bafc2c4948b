//! Tables that change under load: no request fails, and an instance that is reported as not busy has
//! no request in flight.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Response;
use http_body_util::Full;
use model::{Listen, Listener};
use muster_gateway::{Proxy, Settings};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A service whose every 50th response is slow.
async fn worker_service() -> Service {
    let turn = Arc::new(AtomicUsize::new(0));
    Service::http(move |_| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        async move {
            if turn.is_multiple_of(50) {
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            Response::new(Full::<Bytes>::from("done"))
        }
    })
    .await
}

/// The guarantee that draining rests on: no request is sent to a backend that the gateway reported
/// as removed and not busy, so killing it fails none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_backends_are_killed_after_the_report() {
    const CLIENTS: usize = 32;
    const REQUESTS: usize = 24_000;
    let first = worker_service().await;
    let second = worker_service().await;
    let mut backends = vec![(0, first), (1, second)];
    let addresses = |backends: &[(usize, Service)]| {
        let backends: Vec<_> = backends.iter().map(|(slot, s)| (*slot, s.address)).collect();
        vec![route("/", &backends)]
    };
    let gateway = Gateway::start(settings(), addresses(&backends)).await;
    let left = Arc::new(AtomicUsize::new(REQUESTS));
    let failed = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (left, failed, address) = (left.clone(), failed.clone(), gateway.address);
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut sent = 0;
            while left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
            {
                sent += 1;
                // Neither a POST nor a GET may fail; some use new connections.
                let response = match (sent + number) % 3 {
                    0 => client.post("/", "precious").await,
                    _ => client.get("/").await,
                };
                if !matches!(response, Ok((200, _))) {
                    failed.fetch_add(1, Ordering::SeqCst);
                    eprintln!("{response:?}");
                    client = Client::connect(address).await;
                } else if sent % 100 == 0 {
                    client = Client::connect(address).await;
                }
            }
        });
    }
    let all_sent = tokio::spawn({
        let over = over.clone();
        async move {
            while let Some(joined) = clients.join_next().await {
                joined.unwrap();
            }
            over.store(true, Ordering::SeqCst);
        }
    });
    let mut swaps = 0u32;
    let mut killed = Vec::new();
    let mut slot = 2;
    while !over.load(Ordering::SeqCst) {
        let fresh = worker_service().await;
        let (old, leaving) = backends.remove(0);
        backends.push((slot, fresh));
        slot += 1;
        gateway.switch(addresses(&backends)).await;
        swaps += 1;
        gateway.gateway_state(|gateway_state| !gateway_state.busy.contains(&instance(old))).await;
        // Killing it breaks its connections. Its port gets a listener that accepts nothing.
        let address = leaving.stop().await;
        killed.extend(TcpListener::bind(address).await);
    }
    within(all_sent).await.unwrap();
    assert_eq!(failed.load(Ordering::SeqCst), 0, "after {swaps} swaps");
    assert!(swaps >= 5, "only {swaps} swaps");
    assert!(!killed.is_empty());
    for listener in killed {
        assert!(listener.accept().now_or_never().is_none(), "a request was sent after the report");
    }
    gateway.proxy.stop().await;
}

#[tokio::test]
async fn a_removed_instance_is_busy_until_its_last_request_ends() {
    let release = Arc::new(tokio::sync::Notify::new());
    let waits = release.clone();
    let service = Service::http(move |_| {
        let waits = waits.clone();
        async move {
            waits.notified().await;
            Response::new(Full::<Bytes>::from("late"))
        }
    })
    .await;
    let other = Service::mirror("other").await;
    let gateway = Gateway::before(&[service.address]).await;
    let mut client = Client::connect(gateway.address).await;
    let pending_request = tokio::spawn(async move { client.get("/").await });
    within(async {
        while service.requests() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let gateway_state = gateway.switch(vec![route("/", &[(1, other.address)])]).await;
    assert_eq!(gateway_state.busy, [instance(0)].into());
    // Back in the table it is not busy; removed again, it is.
    let both = route("/", &[(1, other.address), (0, service.address)]);
    assert!(gateway.switch(vec![both]).await.busy.is_empty());
    let gateway_state = gateway.switch(vec![route("/", &[(1, other.address)])]).await;
    assert_eq!(gateway_state.busy, [instance(0)].into());
    let response = get(gateway.address, "/", "").await;
    assert!(response.contains("other GET /"), "{response}");
    release.notify_one();
    gateway.gateway_state(|gateway_state| gateway_state.busy.is_empty()).await;
    assert_eq!(within(pending_request).await.unwrap().unwrap(), (200, Bytes::from("late")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_listener_that_cannot_be_opened_is_reported_and_opened_later() {
    let mirror = Service::mirror("m").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken_address, good) = (taken.local_addr().unwrap(), free_address());
    let proxy = Proxy::start_local(settings());
    let mut both = table(1, good, vec![all(&[mirror.address])]);
    both.listeners.push(Listener {
        gateway: "other".parse().unwrap(),
        listen: Listen(taken_address),
        trust: Default::default(),
        routes: vec![all(&[mirror.address])],
    });
    proxy.switch(both);
    let mut gateway_state = proxy.gateway_state();
    let now = within(gateway_state.wait_for(|s| s.generation == 1)).await.unwrap().clone();
    assert!(now.failed[&taken_address].contains("in use"), "{now:?}");
    assert!(get(good, "/", "").await.contains("m GET /"));
    drop(taken);
    within(gateway_state.wait_for(|s| s.failed.is_empty())).await.unwrap();
    assert!(get(taken_address, "/", "").await.contains("m GET /"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn two_gateways_do_not_share_a_port() {
    let mirror = Service::mirror("m").await;
    let one = Gateway::local(settings(), vec![all(&[mirror.address])]).await;
    let two = Proxy::start_local(settings());
    two.switch(table(1, one.address, vec![all(&[mirror.address])]));
    let mut gateway_state = two.gateway_state();
    let now = within(gateway_state.wait_for(|s| s.generation == 1)).await.unwrap().clone();
    assert!(now.failed.contains_key(&one.address), "{now:?}");
    // Once the first one has stopped, the second one opens the port.
    one.proxy.stop().await;
    within(gateway_state.wait_for(|s| s.failed.is_empty())).await.unwrap();
    assert!(get(one.address, "/", "").await.contains("m GET /"));
}

/// The old address still holds the port when the new one is opened, so no connection is refused.
#[tokio::test]
async fn a_listener_changes_its_address_and_keeps_its_port() {
    let mirror = Service::mirror("m").await;
    let local = free_address();
    let everywhere = std::net::SocketAddr::from(([0, 0, 0, 0], local.port()));
    let proxy = Proxy::start(settings()).unwrap();
    let mut gateway_state = proxy.gateway_state();
    let some = |generation, listen| table(generation, listen, vec![all(&[mirror.address])]);
    for (generation, listen) in [(1, everywhere), (2, local)] {
        proxy.switch(some(generation, listen));
        let now =
            within(gateway_state.wait_for(|s| s.generation == generation)).await.unwrap().clone();
        assert!(now.failed.is_empty(), "{now:?}");
        assert!(get(local, "/", "").await.contains("m GET /"));
    }
    // Removed and added again before every thread has closed it.
    proxy.switch(model::RouteTable { generation: 3, listeners: Vec::new() });
    proxy.switch(some(4, local));
    let now = within(gateway_state.wait_for(|s| s.generation == 4)).await.unwrap().clone();
    assert!(now.failed.is_empty(), "{now:?}");
}

#[tokio::test]
async fn a_removed_listener_finishes_its_requests() {
    let release = Arc::new(tokio::sync::Notify::new());
    let waits = release.clone();
    let service = Service::http(move |_| {
        let waits = waits.clone();
        async move {
            waits.notified().await;
            Response::new(Full::<Bytes>::from("late"))
        }
    })
    .await;
    let gateway = Gateway::before(&[service.address]).await;
    within(async {
        let mut idle = TcpStream::connect(gateway.address).await.unwrap();
        let mut busy = TcpStream::connect(gateway.address).await.unwrap();
        busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        while service.requests() == 0 {
            tokio::task::yield_now().await;
        }
        gateway.proxy.switch(model::RouteTable { generation: 9, listeners: Vec::new() });
        gateway.gateway_state(|gateway_state| gateway_state.generation == 9).await;
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "the idle connection closes");
        release.notify_one();
        let mut response = String::new();
        busy.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("late"), "{response}");
        while TcpStream::connect(gateway.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The kernel completes connections before the process accepts them: their clients may have sent a
/// request already, and would be reset.
#[tokio::test(flavor = "local", start_paused = true)]
async fn connections_in_the_backlog_of_a_closing_listener_are_served() {
    use std::io::{Read as _, Write as _};
    let mirror = Service::mirror("m").await;
    // Without an await in between the gateway accepts none of them.
    let waiting = |address| {
        let connect = |_| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            stream
        };
        (0..100).map(connect).collect::<Vec<_>>()
    };
    let check = |clients: Vec<std::net::TcpStream>, status: &str| {
        for mut client in clients {
            let mut response = String::new();
            client.read_to_string(&mut response).unwrap();
            assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
            assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
        }
    };
    let gateway = Gateway::local(settings(), vec![all(&[mirror.address])]).await;
    let clients = waiting(gateway.address);
    gateway.proxy.stop().await;
    assert_eq!(mirror.requests(), clients.len());
    check(clients, "200");
    // A table without the listener has no route for them, but they get to know that.
    let gateway = Gateway::local(settings(), vec![all(&[mirror.address])]).await;
    let clients = waiting(gateway.address);
    gateway.proxy.switch(model::RouteTable { generation: 9, listeners: Vec::new() });
    gateway.gateway_state(|gateway_state| gateway_state.generation == 9).await;
    gateway.proxy.stop().await;
    check(clients, "404");
}

#[tokio::test]
async fn stopping_finishes_requests_within_the_grace() {
    let release = Arc::new(tokio::sync::Notify::new());
    let released = release.clone();
    let service = Service::http(move |request: http::Request<hyper::body::Incoming>| {
        let released = released.clone();
        async move {
            match request.uri().path() {
                "/forever" => std::future::pending().await,
                _ => released.notified().await,
            }
            Response::new(Full::<Bytes>::from("done"))
        }
    })
    .await;
    let settings = Settings { stop_grace: Duration::from_secs(1), ..settings() };
    let gateway = Gateway::start(settings, vec![all(&[service.address])]).await;
    let ask = async |path: &str| {
        let mut client = Client::connect(gateway.address).await;
        client.get(path).await
    };
    let stop = async {
        while service.requests() < 2 {
            tokio::task::yield_now().await;
        }
        // The request ends while the proxy is stopping.
        tokio::join!(gateway.proxy.stop(), async { release.notify_one() });
    };
    let (soon, forever, ()) = within(async { tokio::join!(ask("/"), ask("/forever"), stop) }).await;
    assert_eq!(soon.unwrap().0, 200);
    assert!(forever.is_err());
}

#[tokio::test]
async fn older_tables_are_ignored() {
    let (one, two) = tokio::join!(Service::mirror("one"), Service::mirror("two"));
    let gateway = Gateway::before(&[one.address]).await;
    gateway.proxy.switch(table(5, gateway.address, vec![all(&[two.address])]));
    gateway.proxy.switch(table(4, gateway.address, vec![all(&[one.address])]));
    gateway.gateway_state(|gateway_state| gateway_state.generation == 5).await;
    assert!(get(gateway.address, "/", "").await.contains("two GET /"));
}
