//! The other end of the client: connections taken and requests answered, for every daemon that has
//! an API. Nobody keeps a connection without asking for anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
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

use crate::socket;

/// A connection on which the head of a request has not come for so long is closed.
const HEAD_MAX: Duration = Duration::from_secs(60);

/// Answers requests by `router` until `stop` is done, and then those that are under way. Handlers
/// may ask for `ConnectInfo<SocketAddr>`.
pub async fn serve(mut listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        // Axum's way of accepting waits out a lack of descriptors.
        let (stream, client) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut stop => break,
        };
        socket::tune(&stream);
        let asked = Arc::new(Notify::new());
        let (router, is_asked) = (TowerToHyperService::new(router.clone()), Arc::clone(&asked));
        let answer = service_fn(move |mut request: Request<Incoming>| {
            is_asked.notify_one();
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(client));
            router.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), answer).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            tokio::pin!(connection);
            // Before the first request it is not even known which version it speaks, which nothing
            // but this limits.
            tokio::select! {
                // How a connection ends is its client's affair.
                _ = &mut connection => return,
                () = asked.notified() => {}
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
    async fn nobody_keeps_a_connection_without_asking() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client =
            |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.to_string() };
        let router = Router::new().route("/", get(client));
        tokio::spawn(serve(listener, router, std::future::pending()));
        let mut sockets = Vec::new();
        // The last one has its answer once the others have been taken, and is idle then.
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
            // What was cut off is not spoken to, or told that it was late.
            let ended = tokio::time::timeout(HEAD_MAX * 2, socket.read_to_end(&mut answer)).await;
            let _ = ended.expect("it is closed");
        }
    }

    #[tokio::test]
    async fn who_has_asked_is_answered_at_the_end() {
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
