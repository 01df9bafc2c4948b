//! Ends of runs: by themselves, by the kernel, by a stop, by another client; and the containers
//! that remain.

use std::time::{Duration, Instant};

use agent::drivers::Driver as _;
use serde_json::json;

use crate::engine::Engine;
use crate::harness::{Harness, WAIT_MAX, of};

#[tokio::test]
async fn an_oom_kill_is_reported_as_such() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let launch = harness.launch(0, 1, "eat", json!({"resources": {"memory": "16MiB"}}));
    harness.driver.start(launch.clone());
    harness.started(&launch.piece.instance, 1).await;
    let exit = harness.exit(&launch.piece.instance, 1).await;
    assert_eq!((exit.signal(), exit.to_string().as_str()), (Some(9), "out of memory: limit 16MiB"));
}

#[tokio::test]
async fn a_stop_sends_the_stop_signal_first() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.run(0, 1, "wait").await;
    // The program must have installed its signal handler before the signal is sent.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    harness.stop(&instance, 1, WAIT_MAX);
    assert_eq!(harness.exit(&instance, 1).await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_ignored_stop_signal_leads_to_a_kill_after_the_grace_period() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.run(0, 1, "hang").await;
    let began = Instant::now();
    harness.stop(&instance, 1, Duration::from_millis(700));
    let exit = harness.exit(&instance, 1).await;
    assert_eq!((exit.signal(), exit.to_string().as_str()), (Some(9), "killed by signal 9"));
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_paused_container_can_be_stopped() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.run(0, 1, "wait").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let filter = format!("label=muster.instance={instance}");
    let id = harness.engine.docker(&["ps", "-q", "--filter", &filter]);
    harness.engine.docker(&["pause", &id]);
    harness.stop(&instance, 1, WAIT_MAX);
    assert_eq!(harness.exit(&instance, 1).await.code(), Some(0));
}

#[tokio::test]
async fn a_suspended_run_is_found_resumed_and_stopped() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.run(0, 1, "wait").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let run = of(&instance).run(1);
    for _ in 0..2 {
        harness.driver.suspend(&run, true).await.unwrap();
    }
    harness.restart();
    assert!(harness.adopt().await.unwrap()[0].suspended);
    for _ in 0..2 {
        harness.driver.suspend(&run, false).await.unwrap();
    }
    assert!(!harness.adopt().await.unwrap()[0].suspended);
    harness.driver.suspend(&run, true).await.unwrap();
    harness.stop(&instance, 1, WAIT_MAX);
    assert_eq!(harness.exit(&instance, 1).await.code(), Some(0), "it has received the signal");
    assert_eq!(harness.driver.suspend(&run, true).await, Err("it does not run".into()));
}

#[tokio::test]
async fn a_start_in_progress_is_cancelled() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    for slot in 0..8 {
        let instance = harness.start(slot, 1, "wait");
        if slot % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(20 * u64::from(slot))).await;
        }
        harness.stop(&instance, 1, Duration::ZERO);
    }
    for slot in 0..8 {
        let instance = harness.instance(slot);
        match harness.event_of(&instance, 1).await {
            agent::drivers::DriverEvent::NotStarted { driver_unavailable, .. } => {
                assert!(!driver_unavailable)
            }
            agent::drivers::DriverEvent::Started { .. } => drop(harness.exit(&instance, 1).await),
            event => panic!("{event:?}"),
        }
        harness.driver.forget(&of(&instance));
    }
    harness.containers_are(&[]).await;
    assert_eq!(harness.events(), []);
}

#[tokio::test]
async fn stopping_an_unknown_run_succeeds() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.instance(0);
    harness.stop(&instance, 4, WAIT_MAX);
    assert!(!harness.failure(&instance, 4).await.1);
}

#[tokio::test]
async fn external_changes_of_a_container_are_reported() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.run(0, 1, "wait").await;
    let filter = format!("label=muster.instance={instance}");
    let id = harness.engine.docker(&["ps", "-q", "--filter", &filter]);
    harness.engine.docker(&["kill", &id]);
    assert_eq!(harness.exit(&instance, 1).await.to_string(), "killed by signal 9");

    // When another client restarts the container, the driver removes it.
    harness.engine.docker(&["start", &id]);
    harness.containers_are(&[]).await;

    let instance = harness.run(0, 2, "wait").await;
    let id = harness.engine.docker(&["ps", "-q", "--filter", &filter]);
    harness.engine.docker(&["rm", "-f", &id]);
    assert_eq!(harness.exit(&instance, 2).await.signal(), Some(9));
    assert_eq!(harness.events(), []);
}

#[tokio::test]
async fn the_previous_run_is_kept_until_the_instance_is_removed() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    for run in 1..=4 {
        let instance = harness.run(0, run, "exit 1").await;
        harness.exit(&instance, run).await;
    }
    harness.containers_are(&["0.1-r3 exited", "0.1-r4 exited"]).await;
    harness.driver.forget(&of(&harness.instance(0)));
    harness.containers_are(&[]).await;
}

#[tokio::test]
async fn a_new_agent_adopts_containers_of_the_previous_one() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let running = harness.run(0, 1, "wait").await;
    let ending = harness.run(1, 3, "sleep 1; exit 5").await;
    let begun = harness.run(2, 1, "exit 2").await;
    harness.exit(&begun, 1).await;
    harness.run(2, 2, "wait").await;
    harness.restart();
    let ended = format!("label=muster.instance={ending}");
    let deadline = Instant::now() + WAIT_MAX;
    while !harness.engine.docker(&["ps", "-q", "--filter", &ended]).is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let found = harness.adopt().await.unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|found| {
            (&found.piece.instance, found.piece.run, found.exit.as_ref().map(|e| e.to_string()))
        })
        .collect();
    assert_eq!(
        seen,
        [(&running, 1, None), (&ending, 3, Some("exit code 5".to_string())), (&begun, 2, None)]
    );
    assert!(found[1].exit.as_ref().unwrap().at > found[1].started_at);
    assert_eq!(harness.adopt().await.unwrap(), found);

    // Adopted runs are watched, stopped and restarted as before.
    harness.stop(&running, 1, WAIT_MAX);
    assert_eq!(harness.exit(&running, 1).await.code(), Some(0));
    harness.run(1, 4, "wait").await;
    let expected =
        ["0.1-r1 exited", "1.1-r3 exited", "1.1-r4 running", "2.1-r1 exited", "2.1-r2 running"];
    harness.containers_are(&expected).await;
    assert_eq!(harness.events(), []);
}
