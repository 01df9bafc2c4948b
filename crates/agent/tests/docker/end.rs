//! Ends of runs: by themselves, by the kernel, by a stop, by another client; and the containers
//! that remain.

use std::time::{Duration, Instant};

use agent::drivers::Driver as _;
use serde_json::json;

use crate::engine::Engine;
use crate::rig::{PATIENCE, Rig, of};

#[tokio::test]
async fn a_run_that_takes_too_much_memory_is_told_as_such() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    let launch = rig.launch(0, 1, "eat", json!({"resources": {"memory": "16MiB"}}));
    rig.driver.start(launch.clone());
    rig.started(&launch.piece.instance, 1).await;
    let exit = rig.exit(&launch.piece.instance, 1).await;
    assert_eq!((exit.signal(), exit.to_string().as_str()), (Some(9), "out of memory: limit 16MiB"));
}

#[tokio::test]
async fn a_stop_is_polite_first() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    let instance = rig.run(0, 1, "wait").await;
    // The program must have installed its signal handler before the signal is sent.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    rig.stop(&instance, 1, PATIENCE);
    assert_eq!(rig.exit(&instance, 1).await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stop_that_is_not_heard_kills_after_the_grace() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    let instance = rig.run(0, 1, "hang").await;
    let began = Instant::now();
    rig.stop(&instance, 1, Duration::from_millis(700));
    let exit = rig.exit(&instance, 1).await;
    assert_eq!((exit.signal(), exit.to_string().as_str()), (Some(9), "killed by signal 9"));
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_paused_container_can_be_stopped() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    let instance = rig.run(0, 1, "wait").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let filter = format!("label=muster.instance={instance}");
    let id = rig.engine.docker(&["ps", "-q", "--filter", &filter]);
    rig.engine.docker(&["pause", &id]);
    rig.stop(&instance, 1, PATIENCE);
    assert_eq!(rig.exit(&instance, 1).await.code(), Some(0));
}

#[tokio::test]
async fn a_start_under_way_is_given_up() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    for slot in 0..8 {
        let instance = rig.start(slot, 1, "wait");
        if slot % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(20 * u64::from(slot))).await;
        }
        rig.stop(&instance, 1, Duration::ZERO);
    }
    for slot in 0..8 {
        let instance = rig.instance(slot);
        match rig.told_of(&instance, 1).await {
            agent::drivers::DriverEvent::NotStarted { driver_away, .. } => assert!(!driver_away),
            agent::drivers::DriverEvent::Started { .. } => drop(rig.exit(&instance, 1).await),
            told => panic!("{told:?}"),
        }
        rig.driver.forget(&of(&instance));
    }
    rig.containers_are(&[]).await;
    assert_eq!(rig.told(), []);
}

#[tokio::test]
async fn a_stop_of_nothing_is_answered() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    let instance = rig.instance(0);
    rig.stop(&instance, 4, PATIENCE);
    assert!(!rig.failure(&instance, 4).await.1);
}

#[tokio::test]
async fn what_others_do_to_a_container_is_told() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    let instance = rig.run(0, 1, "wait").await;
    let filter = format!("label=muster.instance={instance}");
    let id = rig.engine.docker(&["ps", "-q", "--filter", &filter]);
    rig.engine.docker(&["kill", &id]);
    assert_eq!(rig.exit(&instance, 1).await.to_string(), "killed by signal 9");

    // When another client restarts the container, the driver removes it.
    rig.engine.docker(&["start", &id]);
    rig.containers_are(&[]).await;

    let instance = rig.run(0, 2, "wait").await;
    let id = rig.engine.docker(&["ps", "-q", "--filter", &filter]);
    rig.engine.docker(&["rm", "-f", &id]);
    assert_eq!(rig.exit(&instance, 2).await.signal(), Some(9));
    assert_eq!(rig.told(), []);
}

#[tokio::test]
async fn the_run_before_is_kept_until_the_instance_is_forgotten() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    for run in 1..=4 {
        let instance = rig.run(0, run, "exit 1").await;
        rig.exit(&instance, run).await;
    }
    rig.containers_are(&["0.1-r3 exited", "0.1-r4 exited"]).await;
    rig.driver.forget(&of(&rig.instance(0)));
    rig.containers_are(&[]).await;
}

#[tokio::test]
async fn a_new_agent_finds_what_the_old_one_has_started() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut rig = Rig::new(engine).await;
    let running = rig.run(0, 1, "wait").await;
    let ending = rig.run(1, 3, "sleep 1; exit 5").await;
    let begun = rig.run(2, 1, "exit 2").await;
    rig.exit(&begun, 1).await;
    rig.run(2, 2, "wait").await;
    rig.restart();
    let ended = format!("label=muster.instance={ending}");
    let deadline = Instant::now() + PATIENCE;
    while !rig.engine.docker(&["ps", "-q", "--filter", &ended]).is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let found = rig.adopt().await.unwrap();
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
    assert_eq!(rig.adopt().await.unwrap(), found);

    // Adopted runs are watched, stopped and restarted as before.
    rig.stop(&running, 1, PATIENCE);
    assert_eq!(rig.exit(&running, 1).await.code(), Some(0));
    rig.run(1, 4, "wait").await;
    let expected =
        ["0.1-r1 exited", "1.1-r3 exited", "1.1-r4 running", "2.1-r1 exited", "2.1-r2 running"];
    rig.containers_are(&expected).await;
    assert_eq!(rig.told(), []);
}
