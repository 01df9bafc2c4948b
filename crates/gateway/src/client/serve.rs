//! Serves one client connection: hyper reads requests and writes responses, `forward` produces the
//! responses, and this module enforces the timeouts and closes gracefully.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::socket::Socket;
use super::state::{Client, LINGER_TIMEOUT};
use crate::forward::forward;
use crate::progress::{Progress, Task};
use crate::settings::Settings;
use crate::timer::ticks;
use crate::worker::Worker;

/// Maximum size of the head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// Maximum number of concurrent requests on one HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
/// Timeout for an idle connection to close after it was asked to.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Runs the tasks of HTTP/2 streams on the thread of their connection.
#[derive(Debug, Clone)]
pub(crate) struct LocalExecutor(Arc<Progress>);

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        let progress = self.0.clone();
        tokio::task::spawn_local(async move { drop(progress.track(Task::Stream, future).await) });
    }
}

/// The HTTP server side of hyper.
pub(crate) type Server = auto::Builder<LocalExecutor>;

/// A server for HTTP/1.1, and for HTTP/2 if the client begins with its preface.
pub(crate) fn server(progress: &Arc<Progress>) -> Server {
    let mut server = auto::Builder::new(LocalExecutor(progress.clone()));
    server.http1().max_buf_size(HEAD_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX as u32)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    server
}

/// Serves a connection until it closes.
pub(crate) async fn serve(
    server: &Server,
    worker: Rc<Worker>,
    client: Rc<Client>,
    stream: TcpStream,
) {
    let Settings { client_idle, head_timeout, .. } = *worker.settings;
    let (idle_ticks, head_ticks) = (ticks(client_idle), ticks(head_timeout));
    let socket = Socket::new(stream, client.activity.clone());
    let (timer, progress) = (worker.timers.timer(), worker.progress.clone());
    let task = Task::Client(client.peer);
    let service = {
        let client = client.clone();
        service_fn(move |request| forward(worker.clone(), client.clone(), request))
    };
    timer.set(head_ticks);
    let (mut is_closing, mut is_lingering) = (false, false);
    let mut connection = pin!(server.serve_connection_with_upgrades(socket, service));
    poll_fn(|cx| {
        if client.is_closing.get() && !is_closing {
            is_closing = true;
            connection.as_mut().graceful_shutdown();
        }
        while timer.poll(cx).is_ready() {
            match client.activity.ticks_left(idle_ticks, head_ticks) {
                Some(0) if is_closing || client.activity.closes_at_once() => {
                    return Poll::Ready(());
                }
                Some(0) => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                    timer.set(ticks(CLOSE_GRACE));
                }
                Some(left) => timer.set(left),
                None => timer.set(idle_ticks.min(head_ticks)),
            }
        }
        if client.waker.borrow().is_none() {
            *client.waker.borrow_mut() = Some(cx.waker().clone());
        }
        // Errors of a client's connection are not errors of the gateway: they are not logged.
        let polled = progress.during(task, || connection.as_mut().poll(cx)).map(drop);
        if !is_lingering && client.activity.is_lingering() {
            is_lingering = true;
            timer.set(ticks(LINGER_TIMEOUT));
        }
        polled
    })
    .await;
}
