//! The socket, the signals and the end of the service.
//!
//! Stopping is the point of this file, since deployments are judged by the requests they lose:
//!
//! 1. On SIGTERM or SIGINT, connections that the kernel has completed but the service has not accepted are accepted, then the
//!    listener closes: later clients are refused at once and can go elsewhere, none is reset.
//! 2. For [`LINGER`] open connections stay: a request already on its way is answered, with `Connection: close`.
//! 3. Then idle connections are closed and busy ones finish their response.
//!
//! Both signals have a handler from the start, which also makes them work for process 1 of a container, where the
//! kernel ignores a signal without one.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

use crate::{
    responder::{Responder, log},
    settings::Settings,
};

/// How long an open connection may still bring a request after the stop signal. HTTP/1 has no way to say "no more"
/// except in an answer, so a request may be on the wire while we decide to close.
const LINGER: Duration = Duration::from_millis(50);

/// When to give up on unfinished requests: above the longest health delay of the lab (5 s), below the ten seconds after
/// which container engines kill.
const DRAIN_MAX: Duration = Duration::from_secs(9);

/// Accepting fails for a while when file descriptors run out; trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Why the service ended other than by a signal.
#[derive(Debug)]
pub(crate) enum Error {
    /// The runtime could not be built.
    Runtime(io::Error),
    /// A signal handler could not be installed.
    Signal(io::Error),
    /// The port could not be had.
    Listen(SocketAddr, io::Error),
    /// `EXIT_AFTER_MS` has passed.
    ToldToExit(Duration),
    /// Clients still waited for an answer when the time to stop was over.
    CutOff(usize),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Runtime(error) => write!(f, "cannot start: {error}"),
            Self::Signal(error) => write!(f, "cannot listen for signals: {error}"),
            Self::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}; set PORT0 to a free port")
            }
            Self::ToldToExit(after) => {
                write!(f, "exiting as EXIT_AFTER_MS={} says", after.as_millis())
            }
            Self::CutOff(connections) => {
                write!(
                    f,
                    "{connections} connection(s) were still busy {} s after the stop signal",
                    DRAIN_MAX.as_secs()
                )
            }
        }
    }
}

/// Serves until a signal, or the settings, end it.
pub(crate) async fn serve(settings: Settings) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let address = SocketAddr::from(([0, 0, 0, 0], settings.port));
    let listen_failed = |error| Error::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(listen_failed)?;
    let port = listener.local_addr().map_err(listen_failed)?.port();
    log(format_args!(
        "This is simple service in version v{} listening on port {port}",
        settings.version
    ));

    let exit_requested = exit_after(settings.exit_after);
    tokio::pin!(exit_requested);
    let responder = Arc::new(Responder::new(settings));
    let connections = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => converse(stream, client, &responder, &connections),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            error = &mut exit_requested => return Err(error),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    stop(listener, &responder, connections).await
}

async fn exit_after(after: Option<Duration>) -> Error {
    match after {
        Some(after) => {
            tokio::time::sleep(after).await;
            Error::ToldToExit(after)
        }
        None => std::future::pending().await,
    }
}

fn converse(
    stream: TcpStream,
    client: SocketAddr,
    responder: &Arc<Responder>,
    connections: &GracefulShutdown,
) {
    // A client that is gone before its address could be read has nothing to ask.
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let responder = responder.clone();
    let service = service_fn(move |request| {
        let responder = responder.clone();
        async move { Ok::<_, std::convert::Infallible>(responder.respond(request, local, client).await) }
    });
    let watcher = connections.watcher();
    tokio::spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        // A connection that breaks is its client's business; there is nothing to answer any more.
        let _ = watcher.watch(connection).await;
    });
}

async fn stop(
    listener: TcpListener,
    responder: &Arc<Responder>,
    connections: GracefulShutdown,
) -> Result<(), Error> {
    responder.stop();
    // The runtime may not have heard of the newest connections yet; the non-blocking socket itself knows them all.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, client)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                converse(stream, client, responder, &connections);
            }
        }
    }
    if connections.count() > 0 {
        tokio::time::sleep(LINGER).await;
    }
    let open = connections.count();
    log(format_args!("stopping, {open} connection(s) open"));
    match tokio::time::timeout(DRAIN_MAX, connections.shutdown()).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::CutOff(open)),
    }
}
