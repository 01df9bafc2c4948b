//! Serves one client connection: hyper reads requests and writes answers, `forward` finds the
//! answers, this file keeps the time limits and closes gracefully.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::Client;
use super::socket::Socket;
use crate::alarm::ticks;
use crate::forward::forward;
use crate::settings::Settings;
use crate::worker::Worker;

/// The head of a request may be this long.
const HEAD_MAX: usize = 64 * 1024;
/// So many requests may be under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
/// A connection that was asked to close and has nothing to do is closed after this long.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Runs the tasks of HTTP/2 streams on the thread of their connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnThisThread;

impl<F: Future + 'static> Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

/// What speaks HTTP with clients.
pub(crate) type Server = auto::Builder<OnThisThread>;

/// HTTP/1.1, or HTTP/2 if the client begins with its preface.
pub(crate) fn server() -> Server {
    let mut server = auto::Builder::new(OnThisThread);
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

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, client: Rc<Client>, stream: TcpStream) {
    let Settings { client_idle, head_timeout, .. } = *worker.settings;
    let (idle_ticks, head_ticks) = (ticks(client_idle), ticks(head_timeout));
    let socket = Socket::new(stream, client.activity.clone());
    let service = {
        let (worker, client) = (worker.clone(), client.clone());
        service_fn(move |request| forward(worker.clone(), client.clone(), request))
    };
    let alarm = worker.alarms.alarm();
    alarm.set(head_ticks);
    let mut closing = false;
    let mut connection = pin!(worker.server.serve_connection_with_upgrades(socket, service));
    poll_fn(|cx| {
        if client.leaving.get() && !closing {
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
        while alarm.poll(cx).is_ready() {
            match client.activity.left(idle_ticks, head_ticks) {
                Some(0) if closing || client.activity.is_reading() => return Poll::Ready(()),
                Some(0) => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                    alarm.set(ticks(CLOSE_GRACE));
                }
                Some(left) => alarm.set(left),
                None => alarm.set(idle_ticks.min(head_ticks)),
            }
        }
        if client.waker.borrow().is_none() {
            *client.waker.borrow_mut() = Some(cx.waker().clone());
        }
        // What went wrong with a client's connection is the client's affair.
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}
