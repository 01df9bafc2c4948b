//! One probe of one instance: a GET request, a connection, or a command. Each probe opens a new
//! connection and has a single timeout.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::error_chain;
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use model::{HttpProbe, PortRef, Probe, endpoint};
use tokio::net::TcpStream;

use crate::core::Outcome;
use crate::drivers::{CommandOutcome, Driver, Launch};

/// A timeout that is noticed this much too late means that the agent itself was overloaded.
const LATE_MAX: Duration = Duration::from_millis(500);
/// The maximum number of bytes read of a response. The body is read because a connection whose
/// response is not read to the end would linger on the instance's side; only the status matters.
const BODY_BYTES_MAX: usize = 256 << 10;

/// Runs a probe.
pub(super) async fn probe(
    driver: Arc<dyn Driver>,
    launch: Launch,
    address: String,
    probe: Probe,
    timeout: Duration,
) -> Outcome {
    let begun = Instant::now();
    let outcome = match &probe {
        Probe::Command(command) => {
            let outcome = driver.command(&launch, command, timeout).await;
            command_outcome(outcome, timeout)
        }
        Probe::Tcp(tcp) => {
            limited(timeout, async { connect(&launch, &address, &tcp.port).await.map(|_| ()) })
                .await
        }
        Probe::Http(http) => limited(timeout, get(&launch, &address, http)).await,
    };
    let late = begun.elapsed().saturating_sub(timeout);
    match outcome {
        Outcome::Fail(cause) if late > LATE_MAX + timeout / 2 => {
            Outcome::CannotRun(format!("the agent had no time to look: {cause}"))
        }
        outcome => outcome,
    }
}

fn command_outcome(outcome: CommandOutcome, timeout: Duration) -> Outcome {
    match outcome {
        CommandOutcome::Ended { code: 0, .. } => Outcome::Pass,
        CommandOutcome::Ended { code, output } if output.is_empty() => {
            Outcome::Fail(format!("exit code {code}"))
        }
        CommandOutcome::Ended { code, output } => {
            Outcome::Fail(format!("exit code {code}: {output}"))
        }
        CommandOutcome::TimedOut => Outcome::Fail(format!("not done within {timeout:?}")),
        CommandOutcome::CannotRun(why) => Outcome::CannotRun(why),
    }
}

async fn limited(timeout: Duration, work: impl Future<Output = Result<(), Outcome>>) -> Outcome {
    match tokio::time::timeout(timeout, work).await {
        Ok(Ok(())) => Outcome::Pass,
        Ok(Err(outcome)) => outcome,
        Err(_) => Outcome::Fail(format!("no response within {timeout:?}")),
    }
}

async fn connect(launch: &Launch, address: &str, port: &PortRef) -> Result<TcpStream, Outcome> {
    let index = launch.spec.port_index(port);
    let Some(port) = index.and_then(|index| launch.ports.get(index)) else {
        return Err(Outcome::CannotRun(format!("it has no port `{port}`")));
    };
    let failed = |error: io::Error| {
        let cause = format!("{}: {error}", endpoint(address, *port));
        if is_own(&error) { Outcome::CannotRun(cause) } else { Outcome::Fail(cause) }
    };
    let stream = TcpStream::connect((address, *port)).await.map_err(failed)?;
    // Best effort: without it the request may only be delayed.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Whether an error is local to the agent's machine and thus no statement about the instance.
fn is_own(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    own.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

async fn get(launch: &Launch, address: &str, probe: &HttpProbe) -> Result<(), Outcome> {
    let path = probe.path.text();
    let path: Uri =
        path.parse().map_err(|error| Outcome::Fail(format!("`{path}` is not a path: {error}")))?;
    let stream = connect(launch, address, &probe.port).await?;
    let host = match stream.peer_addr() {
        Ok(peer) => endpoint(address, peer.port()),
        Err(_) => address.to_string(),
    };
    let broken = |error: hyper::Error| Outcome::Fail(error_chain(&error));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")))
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Outcome::Fail(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.map_err(broken)?.data_ref().map_or(0, Bytes::len);
            if bytes > BODY_BYTES_MAX {
                break;
            }
        }
        Ok(status)
    };
    // The connection drives the exchange and is dropped with this future. Its end is not
    // conclusive: a response may have arrived with it, and otherwise the exchange returns the
    // error.
    let carried = async {
        let _ = connection.await;
        std::future::pending().await
    };
    let status: u16 = tokio::select! {
        biased;
        status = exchange => status?,
        () = carried => 0,
    };
    let passes = match probe.statuses.is_empty() {
        true => (200..400).contains(&status),
        false => probe.statuses.contains(&status),
    };
    if passes { Ok(()) } else { Err(Outcome::Fail(format!("answered {status}"))) }
}
