//! The time that the driver takes compared with the bare daemon. It is printed and only loosely
//! checked, since exact figures belong to the benchmarks.

use std::time::{Duration, Instant};

use agent::drivers::{Driver as _, DriverEvent};
use bollard::models::{ContainerCreateBody, HostConfig};
use serde_json::json;

use crate::engine::{Engine, IMAGE};
use crate::harness::Harness;

/// Creates and starts containers through the library alone, four at a time.
async fn bare(engine: &Engine, count: usize) -> Duration {
    let path = engine.host.clone().unwrap_or_else(|| "unix:///var/run/docker.sock".into());
    let docker = bollard::Docker::connect_with_unix(&path, 60, bollard::API_DEFAULT_VERSION);
    let docker = docker.unwrap().negotiate_version().await.unwrap();
    let began = Instant::now();
    let starts = (0..count).map(|_| async {
        let config = HostConfig { network_mode: Some("host".into()), ..Default::default() };
        let body = ContainerCreateBody {
            image: Some(IMAGE.into()),
            cmd: Some(vec!["wait".into()]),
            host_config: Some(config),
            ..Default::default()
        };
        let id = docker.create_container(None, body).await.unwrap().id;
        docker.start_container(&id, None).await.unwrap();
        id
    });
    use futures_util::StreamExt as _;
    let ids: Vec<_> = futures_util::stream::iter(starts).buffer_unordered(4).collect().await;
    let took = began.elapsed();
    let all: Vec<_> = ["rm", "-f"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    engine.docker(&all);
    took
}

async fn driven(engine: &Engine, count: usize) -> Duration {
    let mut harness = Harness::new(engine.clone()).await;
    let began = Instant::now();
    for slot in 0..count {
        harness.driver.start(harness.launch(slot as u32, 1, "wait", json!({})));
    }
    for slot in 0..count {
        let instance = harness.instance(slot as u32);
        let event = harness.event_of(&instance, 1).await;
        assert!(matches!(event, DriverEvent::Started { .. }), "{event:?}");
    }
    began.elapsed()
}

#[tokio::test]
async fn the_driver_adds_little_to_the_time_of_the_daemon() {
    let Some(engine) = Engine::of_machine() else { return };
    let count = std::env::var("MUSTER_SPEED_COUNT").ok().and_then(|count| count.parse().ok());
    let count = count.unwrap_or(10);
    // One warm-up of each.
    bare(&engine, 3).await;
    driven(&engine, 3).await;
    let (bare, driven) = (bare(&engine, count).await, driven(&engine, count).await);
    println!("{count} containers: {bare:?} by the bare daemon, {driven:?} by the driver");
    assert!(driven < bare * 2 + Duration::from_secs(2), "{driven:?} beside {bare:?}");
}
