//! An unreachable, killed and hanging daemon. Each test has its own daemon.

use std::time::{Duration, Instant};

use agent::drivers::{CommandOutcome, Driver as _};
use rustix::process::Signal;

use crate::engine::Private;
use crate::harness::{Harness, WAIT_MAX, of};

#[tokio::test]
async fn a_daemon_that_starts_later_is_detected() {
    let Some(mut private) = Private::absent() else { return };
    let mut harness = Harness::unadopted(private.engine(), None);
    assert!(harness.adopt().await.unwrap_err().contains("does not respond"));
    let instance = harness.start(0, 1, "wait");
    let (message, unavailable) = harness.failure(&instance, 1).await;
    assert!(unavailable && message.contains("is it installed and started?"), "{message}");
    assert!(matches!(harness.command(0, 1, "exit 0").await, CommandOutcome::CannotRun(_)));

    // A stop of a run that may exist waits until the daemon has listed its containers.
    let stopped = harness.instance(1);
    harness.stop(&stopped, 1, WAIT_MAX);
    private.launch();
    harness.is_responding(true).await;
    assert_eq!(harness.adopt().await.unwrap(), []);
    assert!(!harness.failure(&stopped, 1).await.1);
}

#[tokio::test]
async fn exits_during_a_daemon_outage_are_reported_after_it() {
    let Some(mut private) = Private::start() else { return };
    let mut harness = Harness::new(private.engine()).await;
    harness.is_responding(true).await;
    let one = harness.run(0, 1, "wait").await;
    let two = harness.run(1, 1, "wait").await;
    let forgotten = harness.run(2, 1, "exit 0").await;
    harness.exit(&forgotten, 1).await;

    private.kill();
    harness.is_responding(false).await;
    // Requested while the daemon is unreachable, performed when it responds again.
    harness.stop(&two, 1, Duration::from_secs(1));
    harness.driver.forget(&of(&forgotten));
    let three = harness.start(3, 1, "wait");
    assert!(harness.failure(&three, 1).await.1);
    assert_eq!(harness.events(), []);

    private.launch();
    harness.is_responding(true).await;
    // A daemon that starts without `live-restore` terminates the containers of its predecessor.
    harness.exit(&one, 1).await;
    harness.exit(&two, 1).await;
    let found = harness.adopt().await.unwrap();
    let ended: Vec<_> = found.iter().map(|f| (&f.piece.instance, f.exit.is_some())).collect();
    assert_eq!(ended, [(&one, true), (&two, true)]);
    harness.run(0, 2, "wait").await;
    harness.exit_of_next(&one).await;
    harness.containers_are(&["0.1-r1 exited", "0.1-r2 exited", "1.1-r1 exited"]).await;
    assert_eq!(harness.events(), []);
}

#[tokio::test]
async fn a_hanging_daemon_does_not_delay_process_instances() {
    let Some(private) = Private::start() else { return };
    let mut harness = Harness::new(private.engine()).await;
    let one = harness.run(0, 1, "sleep 3; exit 4").await;
    private.signal(Signal::STOP);
    let began = Instant::now();
    let two = harness.start(1, 1, "wait");
    let (message, unavailable) = harness.failure(&two, 1).await;
    assert!(unavailable && began.elapsed() < Duration::from_secs(30), "{message}");
    harness.is_responding(false).await;
    assert!(matches!(harness.command(0, 1, "exit 0").await, CommandOutcome::CannotRun(_)));
    harness.stop(&one, 1, WAIT_MAX);

    private.signal(Signal::CONT);
    harness.is_responding(true).await;
    assert_eq!(harness.exit(&one, 1).await.to_string(), "exit code 4");
    // The container that the daemon has created for the failed start must be removed.
    harness.containers_are(&["0.1-r1 exited"]).await;
    harness.run(1, 2, "wait").await;
}
