//! A gateway without file descriptors. Alone in its file because the limit applies to the process.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use std::os::fd::AsRawFd as _;

use rustix::process::{Resource, getrlimit, setrlimit};
use support::*;

#[tokio::test]
async fn a_gateway_without_descriptors_reports_its_own_error_and_recovers() {
    let mirror = Service::mirror("m").await;
    let backends = route("/app", &[(0, mirror.address), (1, mirror.address)]);
    let gateway = Gateway::start(settings(), vec![backends]).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(within(client.get("/")).await.unwrap().0, 404, "it is accepted");
    let limit = getrlimit(Resource::Nofile);
    let lowest_free = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    let none = rustix::process::Rlimit { current: Some(lowest_free as u64), ..limit };
    setrlimit(Resource::Nofile, none).unwrap();
    let refused = within(client.get("/app")).await;
    setrlimit(Resource::Nofile, limit).unwrap();
    let (status, message) = refused.unwrap();
    let message = String::from_utf8_lossy(&message);
    assert_eq!(status, 503, "{message}");
    assert!(message.contains("the gateway lacks resources: Too many open files"), "{message}");
    assert_eq!(within(client.get("/app")).await.unwrap().0, 200);
}
