//! Commands in a run, and the output of runs.

use std::time::{Duration, Instant};

use agent::drivers::{CommandOutcome, Driver as _, OutputQuery};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::engine::Engine;
use crate::harness::{Harness, WAIT_MAX, of};

#[tokio::test]
async fn commands_run_inside_the_container() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let ended = |code, output: &str| CommandOutcome::Ended { code, output: output.into() };
    assert!(matches!(harness.command(0, 1, "exit 0").await, CommandOutcome::CannotRun(_)));
    let instance = harness.run(0, 1, "wait").await;
    assert_eq!(harness.command(0, 1, "exit 0").await, ended(0, ""));
    // The daemon reads the two streams concurrently, so their order is not defined.
    let both = harness.command(0, 1, "echo a; err b; exit 3").await;
    assert!(both == ended(3, "a\nb") || both == ended(3, "b\na"), "{both:?}");

    let began = Instant::now();
    assert_eq!(harness.command(0, 1, "hang").await, CommandOutcome::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // The command must be killed, not only abandoned.
    let filter = format!("label=muster.instance={instance}");
    let id = harness.engine.docker(&["ps", "-q", "--filter", &filter]);
    let deadline = Instant::now() + WAIT_MAX;
    while harness.engine.docker(&["top", &id]).contains("hang") {
        assert!(Instant::now() < deadline, "{}", harness.engine.docker(&["top", &id]));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(harness.events(), []);
}

#[tokio::test]
async fn output_spans_restarts_in_place() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.run(0, 1, "echo one; echo two").await;
    harness.exit(&instance, 1).await;
    harness.run(0, 2, "echo three; sleep 0.3; err four; wait").await;
    let deadline = Instant::now() + WAIT_MAX;
    while harness.output(0, None).await.lines().count() < 4 {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(harness.output(0, None).await, "one\ntwo\nthree\nfour\n");
    assert_eq!(harness.output(0, Some(3)).await, "two\nthree\nfour\n");
    assert_eq!(harness.output(0, Some(1)).await, "four\n");
    assert_eq!(harness.output(0, Some(0)).await, "");

    let read = async |stream, tail, count| {
        let query = OutputQuery { stream, tail, follow: true };
        let output = harness.driver.output(&of(&instance), query).await.unwrap();
        let read = output.take(count).map(|part| part.unwrap().to_vec()).collect::<Vec<_>>();
        String::from_utf8(timeout(WAIT_MAX, read).await.unwrap().concat()).unwrap()
    };
    assert_eq!(read(api::LogStream::Stderr, None, 1).await, "four\n");
    assert_eq!(read(api::LogStream::Stdout, Some(2), 2).await, "two\nthree\n");
}

#[tokio::test]
async fn a_followed_log_continues_with_the_next_run_and_ends_with_the_instance() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.run(0, 1, "echo one; sleep 0.5; echo two").await;
    let query = OutputQuery { stream: api::LogStream::All, tail: None, follow: true };
    let output = harness.driver.output(&of(&instance), query).await.unwrap();
    let read = tokio::spawn(output.map(|part| part.unwrap().to_vec()).collect::<Vec<_>>());
    harness.exit(&instance, 1).await;
    harness.run(0, 2, "echo three").await;
    harness.exit(&instance, 2).await;
    // The last output is in flight; removing the resource then ends the stream.
    tokio::time::sleep(Duration::from_millis(500)).await;
    harness.driver.forget(&of(&instance));
    let read = timeout(WAIT_MAX, read).await.unwrap().unwrap().concat();
    assert_eq!(String::from_utf8(read).unwrap(), "one\ntwo\nthree\n");
}
