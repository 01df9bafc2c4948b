//! The server side of the API, for every daemon that has one: accepts connections and serves a
//! router. Connections without a request are closed, and bodies are bounded (`body.rs`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::body::{Bodies, Bounded};
use crate::socket;

/// Timeout for the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(60);

/// Serves `router` until `stop` completes, then finishes the requests in flight. Handlers may
/// extract `ConnectInfo<SocketAddr>`.
pub async fn serve(mut listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let graceful = GracefulShutdown::new();
    let bodies = Bodies::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        // Axum's `accept` waits when the process has no file descriptors left.
        let (stream, client) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut stop => break,
        };
        socket::tune(&stream);
        let first_request = Arc::new(Notify::new());
        let (router, on_request) =
            (TowerToHyperService::new(router.clone()), Arc::clone(&first_request));
        let bodies = bodies.clone();
        let answer = service_fn(move |mut request: Request<Incoming>| {
            on_request.notify_one();
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(client));
            let share = bodies.share();
            let bounded = |body| Body::new(Bounded::new(body, Arc::clone(&share)));
            let response = router.call(request.map(bounded));
            async move {
                let response = response.await;
                // What the handler made of the body is in memory until it responds.
                drop(share);
                response
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), answer).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            tokio::pin!(connection);
            // hyper has no timeout while it detects the HTTP version of the first request.
            tokio::select! {
                // Errors of a client's connection are not errors of the daemon.
                _ = &mut connection => return,
                () = first_request.notified() => {}
                () = tokio::time::sleep(HEAD_MAX) => return,
            }
            let _ = connection.await;
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_connection_without_a_request_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client =
            |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.to_string() };
        let router = Router::new().route("/", get(client));
        tokio::spawn(serve(listener, router, std::future::pending()));
        let mut sockets = Vec::new();
        // The response to the last one shows that the others were accepted; it is idle then.
        for sent in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nho", "GET / HTTP/1.1\r\n\r\n"] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(sent.as_bytes()).await.unwrap();
            sockets.push(socket);
        }
        let mut idle = sockets.pop().unwrap();
        let me = idle.local_addr().unwrap().to_string();
        let mut answer = Vec::new();
        while !answer.ends_with(me.as_bytes()) {
            assert_ne!(idle.read_buf(&mut answer).await.unwrap(), 0);
        }
        sockets.push(idle);
        tokio::time::pause();
        for mut socket in sockets {
            // Some are closed silently, others after a 408 response.
            let ended = tokio::time::timeout(HEAD_MAX * 2, socket.read_to_end(&mut answer)).await;
            let _ = ended.expect("it is closed");
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let begun = Arc::new(Notify::new());
        let on_request = Arc::clone(&begun);
        let read = |body: Body| async move {
            on_request.notify_one();
            let read = axum::body::to_bytes(body, 1 << 20).await;
            crate::error_chain(&read.unwrap_err())
        };
        let router = Router::new().route("/", axum::routing::post(read));
        tokio::spawn(serve(listener, router, std::future::pending()));
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
        begun.notified().await;
        tokio::time::pause();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("the body did not arrive within 60 s"), "{answer}");
    }

    #[tokio::test]
    async fn requests_in_flight_are_finished_before_the_server_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, go_on, stop) = <(Arc<Notify>, Arc<Notify>, Arc<Notify>)>::default();
        let slow = {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            move || async move {
                begun.notify_one();
                go_on.notified().await;
                "done"
            }
        };
        let stopped = Arc::clone(&stop);
        let router = Router::new().route("/", get(slow));
        let serving =
            tokio::spawn(serve(listener, router, async move { stopped.notified().await }));
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        begun.notified().await;
        stop.notify_one();
        let (mut answer, mut refused) = (String::new(), false);
        while !refused {
            refused = TcpStream::connect(address).await.is_err();
            tokio::task::yield_now().await;
        }
        go_on.notify_one();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        serving.await.unwrap();
    }
}
