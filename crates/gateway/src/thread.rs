//! The main loop of one thread: runs a [`Worker`] as the proxy commands.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::accept::Acceptor;
use crate::core::Event;
use crate::ports::Listener;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::table::Compiled;
use crate::timer::TICK;
use crate::worker::Worker;

/// A command from the proxy to a thread. Commands are carried out in their order.
pub(crate) enum Command {
    Follow(Arc<Compiled>),
    Open(Listener),
    Stop,
}

/// Runs a worker until [`Command::Stop`] or until `commands` closes. Must be called
/// within a `LocalRuntime`, which the caller drops to end the remaining tasks of the worker.
pub(crate) async fn run(
    thread: usize,
    settings: Arc<Settings>,
    progress: Arc<Progress>,
    events: UnboundedSender<Event>,
    mut commands: UnboundedReceiver<Command>,
) {
    let grace = settings.stop_grace;
    let worker = Worker::new(thread, settings, progress, events);
    let acceptor = Acceptor::new(worker.clone());
    let ticker = worker.clone();
    tokio::task::spawn_local(async move {
        let mut ticks = tokio::time::interval(TICK);
        for tick in 0u64.. {
            ticks.tick().await;
            ticker.timers.tick();
            ticker.progress.beat();
            if tick % 4 == 0 {
                ticker.sweep();
            }
        }
    });
    while let Some(command) = commands.recv().await {
        match command {
            Command::Follow(table) => worker.follow(table),
            Command::Open(listener) => acceptor.open(listener),
            Command::Stop => {
                if tokio::time::timeout(grace, worker.stop()).await.is_err() {
                    tracing::warn!(thread, "requests were cut off: they took too long to finish");
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::ports::Ports;

    /// A busy thread may find both commands at once.
    #[tokio::test(flavor = "local")]
    async fn a_listener_that_is_removed_before_its_task_runs_closes() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = Ports::default().open(free, 1).unwrap().remove(0);
        let (command, commands) = unbounded_channel();
        let (events, _received) = unbounded_channel();
        assert!(command.send(Command::Open(listener)).is_ok());
        assert!(command.send(Command::Follow(Arc::default())).is_ok());
        let running = run(0, Arc::default(), Arc::default(), events, commands);
        let closed = async {
            while tokio::net::TcpStream::connect(free).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = running => panic!("it was not stopped"),
            () = closed => {}
        }
    }
}
