//! A thread that is stuck: it is detected, other threads serve, and the gateway can stop.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::time::Duration;

use muster_gateway::Settings;
use support::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

#[tokio::test]
async fn a_stuck_thread_is_reported_while_others_serve_and_the_gateway_stops() {
    let mirror = Service::mirror("m").await;
    let settings = Settings {
        threads: 2,
        stop_grace: Duration::from_secs(1),
        spin_on: Some("/spin".into()),
        ..Settings::default()
    };
    let gateway = Gateway::start(settings, vec![all(&[mirror.address])]).await;
    let mut spinning = TcpStream::connect(gateway.address).await.unwrap();
    let address = spinning.local_addr().unwrap();
    let begun = Instant::now();
    spinning.write_all(b"GET /spin HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let gateway_state =
        gateway.gateway_state(|gateway_state| !gateway_state.stuck.is_empty()).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let thread = *gateway_state.stuck.first().unwrap();
    assert_eq!(gateway.proxy.task_of(thread), format!("a connection of {address}"));
    // Without the stuck thread's sockets, the kernel gives all connections to the other one.
    for _ in 0..50 {
        let response = get(gateway.address, "/", "").await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    let begun = Instant::now();
    gateway.proxy.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
