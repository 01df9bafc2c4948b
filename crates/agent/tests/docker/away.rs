//! An unreachable, killed and hanging daemon. Each test has its own daemon.

use std::time::{Duration, Instant};

use agent::drivers::{CommandOutcome, Driver as _};
use rustix::process::Signal;

use crate::engine::Private;
use crate::rig::{PATIENCE, Rig, of};

#[tokio::test]
async fn a_daemon_that_comes_later_is_found() {
    let Some(mut private) = Private::absent() else { return };
    let mut rig = Rig::unadopted(private.engine(), None);
    assert!(rig.adopt().await.unwrap_err().contains("does not answer"));
    let instance = rig.start(0, 1, "wait");
    let (message, away) = rig.failure(&instance, 1).await;
    assert!(away && message.contains("is it installed and started?"), "{message}");
    assert!(matches!(rig.command(0, 1, "exit 0").await, CommandOutcome::CannotRun(_)));

    // A stop of a run that may exist waits until the daemon has listed its containers.
    let stopped = rig.instance(1);
    rig.stop(&stopped, 1, PATIENCE);
    private.launch();
    rig.answers(true).await;
    assert_eq!(rig.adopt().await.unwrap(), []);
    assert!(!rig.failure(&stopped, 1).await.1);
}

#[tokio::test]
async fn what_ended_while_the_daemon_was_dead_is_told_when_it_is_back() {
    let Some(mut private) = Private::start() else { return };
    let mut rig = Rig::new(private.engine()).await;
    rig.answers(true).await;
    let one = rig.run(0, 1, "wait").await;
    let two = rig.run(1, 1, "wait").await;
    let forgotten = rig.run(2, 1, "exit 0").await;
    rig.exit(&forgotten, 1).await;

    private.kill();
    rig.answers(false).await;
    // Requested while the daemon is unreachable, performed when it responds again.
    rig.stop(&two, 1, Duration::from_secs(1));
    rig.driver.forget(&of(&forgotten));
    let three = rig.start(3, 1, "wait");
    assert!(rig.failure(&three, 1).await.1);
    assert_eq!(rig.told(), []);

    private.launch();
    rig.answers(true).await;
    // A daemon that starts without `live-restore` terminates the containers of its predecessor.
    rig.exit(&one, 1).await;
    rig.exit(&two, 1).await;
    let found = rig.adopt().await.unwrap();
    let ended: Vec<_> = found.iter().map(|f| (&f.piece.instance, f.exit.is_some())).collect();
    assert_eq!(ended, [(&one, true), (&two, true)]);
    rig.run(0, 2, "wait").await;
    rig.exit_of_next(&one).await;
    rig.containers_are(&["0.1-r1 exited", "0.1-r2 exited", "1.1-r1 exited"]).await;
    assert_eq!(rig.told(), []);
}

#[tokio::test]
async fn a_hanging_daemon_holds_nobody_up() {
    let Some(private) = Private::start() else { return };
    let mut rig = Rig::new(private.engine()).await;
    let one = rig.run(0, 1, "sleep 3; exit 4").await;
    private.signal(Signal::STOP);
    let began = Instant::now();
    let two = rig.start(1, 1, "wait");
    let (message, away) = rig.failure(&two, 1).await;
    assert!(away && began.elapsed() < Duration::from_secs(30), "{message}");
    rig.answers(false).await;
    assert!(matches!(rig.command(0, 1, "exit 0").await, CommandOutcome::CannotRun(_)));
    rig.stop(&one, 1, PATIENCE);

    private.signal(Signal::CONT);
    rig.answers(true).await;
    assert_eq!(rig.exit(&one, 1).await.to_string(), "exit code 4");
    // The container that the daemon has created for the failed start must be removed.
    rig.containers_are(&["0.1-r1 exited"]).await;
    rig.run(1, 2, "wait").await;
}
