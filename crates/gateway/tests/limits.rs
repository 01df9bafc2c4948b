//! The limit on concurrent clients.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use muster_gateway::Settings;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn for_one_client() -> Settings {
    Settings { threads: 1, clients_max: 1, ..settings() }
}

#[tokio::test]
async fn a_tunnel_takes_the_slot_of_a_client_until_it_closes() {
    let service = Service::switching().await;
    let gateway = Gateway::start(for_one_client(), vec![all(&[service.address])]).await;
    within(async {
        let mut tunnel = TcpStream::connect(gateway.address).await.unwrap();
        let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        tunnel.write_all(head.as_bytes()).await.unwrap();
        assert!(read_head(&mut tunnel).await.starts_with("HTTP/1.1 101"));
        let mut other = TcpStream::connect(gateway.address).await.unwrap();
        other.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..100 {
            // Each echoed byte passes through the thread that would accept the other client.
            tunnel.write_all(b"x").await.unwrap();
            tunnel.read_exact(&mut [0]).await.unwrap();
        }
        assert_eq!(service.requests(), 1, "the other client waits in the kernel");
        drop(tunnel);
        assert!(read_head(&mut other).await.starts_with("HTTP/1.1 101"));
    })
    .await;
}
