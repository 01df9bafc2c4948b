//! The connection to the daemon: requests with timeouts, and whether the daemon responds.
//!
//! A [`Client`] makes requests over one connection. Each request has a timeout and fails at once
//! when the connection is given up, so that no caller waits for a daemon that is known to be
//! unreachable. [`super::follow`] opens and gives up connections.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Timeout of requests to which the daemon responds from memory.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of operations that the daemon performs one after the other, such as starts: a busy
/// daemon takes long.
pub(super) const WORK_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of a ping; a daemon that exceeds it is unreachable.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(8);

const SOCKET: &str = "/var/run/docker.sock";
/// The client's own timeout, in seconds, until a response begins. It must allow for pulls, whose
/// response begins only when the registry has responded.
const RESPONSE_TIMEOUT_S: u64 = 300;

/// Why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Error {
    /// The daemon does not respond, so the state of the requested object is unknown.
    #[error("the Docker daemon at {address} does not respond: {reason}")]
    Unavailable { address: String, reason: String },
    /// The daemon rejected the request.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// The daemon sent a response that the client does not understand.
    #[error("the response of the Docker daemon could not be read")]
    Unclear(#[source] Arc<bollard::errors::Error>),
}

impl Error {
    /// Whether the requested object does not exist.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Error::Refused { status: 404, .. })
    }

    /// Whether the request conflicts with the current state of the object.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Error::Refused { status: 409, .. })
    }

    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Error::Unavailable { .. })
    }
}

/// Whether the daemon responds.
#[derive(Debug, Clone)]
enum State {
    /// The first attempt to connect is in progress.
    Trying,
    Up(Client),
    Unavailable(Error),
}

/// The daemon, reachable or not.
#[derive(Debug)]
pub(super) struct Daemon {
    address: String,
    state: watch::Sender<State>,
    is_responding: watch::Sender<bool>,
}

impl Daemon {
    /// The daemon at `host`: an address as in `DOCKER_HOST`, or the path of a socket.
    pub(super) fn new(host: Option<&str>) -> Daemon {
        let host = host.map(str::trim).filter(|host| !host.is_empty()).unwrap_or(SOCKET);
        Daemon {
            address: host.strip_prefix("unix://").unwrap_or(host).to_string(),
            state: watch::channel(State::Trying).0,
            is_responding: watch::channel(false).0,
        }
    }

    pub(super) fn is_responding(&self) -> watch::Receiver<bool> {
        self.is_responding.subscribe()
    }

    /// The error for a daemon that does not respond, with the reason.
    pub(super) fn unavailable(&self, reason: String) -> Error {
        Error::Unavailable { address: self.address.clone(), reason }
    }

    /// Connects to the daemon and negotiates the API version. Does not change the state yet.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let unavailable = |reason: String| self.unavailable(reason);
        if self.address.contains("://") {
            let reason = "only Unix sockets are supported: give unix:///path/to/docker.sock";
            return Err(unavailable(reason.into()));
        }
        let path = PathBuf::from(&self.address);
        let docker = bollard::Docker::connect_with_unix(
            &path.to_string_lossy(),
            RESPONSE_TIMEOUT_S,
            bollard::API_DEFAULT_VERSION,
        );
        let client = |docker| Client {
            docker,
            address: self.address.clone().into(),
            abandoned: CancellationToken::new(),
        };
        let first = client(docker.map_err(|error| unavailable(advise(root(&error))))?);
        let negotiated = first.docker.clone().negotiate_version();
        Ok(client(first.call(PING_TIMEOUT, negotiated).await?))
    }

    /// Records that the daemon responds; requests use `client` from now on.
    pub(super) fn set_available(&self, client: &Client) {
        self.state.send_replace(State::Up(client.clone()));
        if !self.is_responding.send_replace(true) {
            tracing::info!(address = self.address, "the Docker daemon is available");
        }
    }

    /// Records that the daemon does not respond: requests in flight fail, and further ones fail at
    /// once.
    pub(super) fn set_unavailable(&self, error: Error) {
        let was_reported = matches!(*self.state.borrow(), State::Unavailable(_));
        if !was_reported {
            tracing::warn!("{error}");
        }
        if let State::Up(client) = self.state.send_replace(State::Unavailable(error)) {
            client.abandoned.cancel();
        }
        self.is_responding.send_replace(false);
    }

    /// Returns a client if the daemon responds. Waits only for the very first attempt to connect.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| !matches!(state, State::Trying)).await;
        match state.as_deref() {
            Ok(State::Up(client)) => Ok(client.clone()),
            Ok(State::Unavailable(error)) => Err(error.clone()),
            Ok(State::Trying) | Err(_) => {
                Err(self.unavailable("it has not been reached yet".into()))
            }
        }
    }

    /// Returns a client as soon as the daemon responds.
    pub(super) async fn client_in_time(&self) -> Client {
        let mut state = self.state.subscribe();
        loop {
            if let State::Up(client) = &*state.borrow_and_update() {
                return client.clone();
            }
            if state.changed().await.is_err() {
                // The driver is being dropped, and cancels the task that waits here.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Requests over one connection to the daemon.
#[derive(Debug, Clone)]
pub(super) struct Client {
    docker: bollard::Docker,
    address: Arc<str>,
    abandoned: CancellationToken,
}

impl Client {
    /// The library's client, which builds the requests for [`Client::call`].
    pub(super) fn docker(&self) -> &bollard::Docker {
        &self.docker
    }

    /// Completes when this connection is given up.
    pub(super) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }

    /// Waits for a response for at most `limit`.
    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            response = tokio::time::timeout(limit, call) => match response {
                Ok(response) => response.map_err(|error| self.convert_error(error)),
                Err(_) => Err(self.unavailable(format!("no response within {} s", limit.as_secs()))),
            },
            () = self.abandoned.cancelled() => Err(self.unavailable("the connection was lost".into())),
        }
    }

    pub(super) fn unavailable(&self, reason: String) -> Error {
        Error::Unavailable { address: self.address.to_string(), reason }
    }

    /// Converts an error of the library.
    pub(super) fn convert_error(&self, error: bollard::errors::Error) -> Error {
        use bollard::errors::Error as Library;
        match error {
            Library::DockerResponseServerError { status_code, message } => {
                Error::Refused { status: status_code, message: message.trim().to_string() }
            }
            // A pull can fail in the middle of a response that began successfully.
            Library::DockerStreamError { error } => Error::Refused { status: 500, message: error },
            Library::RequestTimeoutError => {
                self.unavailable(format!("no response within {RESPONSE_TIMEOUT_S} s"))
            }
            Library::HyperLegacyError { .. }
            | Library::HyperResponseError { .. }
            | Library::IOError { .. }
            | Library::SocketNotFoundError(_) => self.unavailable(advise(root(&error))),
            other => Error::Unclear(Arc::new(other)),
        }
    }
}

/// The message of the innermost cause; the outer ones add no information.
fn root(error: &bollard::errors::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = inner.to_string();
        cause = inner.source();
    }
    words
}

fn advise(reason: String) -> String {
    let hint = if reason.contains("Permission denied") {
        "run the agent as root or as a member of the group `docker`"
    } else if reason.contains("No such file") || reason.contains("Socket not found") {
        "is it installed and started?"
    } else if reason.contains("Connection refused") {
        "is it started?"
    } else {
        return reason;
    };
    format!("{reason}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_absent_daemon_is_unavailable_with_advice() {
        let check = |host: Option<&str>, address: &str| {
            assert_eq!(Daemon::new(host).address, address);
        };
        check(None, SOCKET);
        check(Some(""), SOCKET);
        check(Some("unix:///run/d.sock"), "/run/d.sock");
        check(Some("/run/d.sock"), "/run/d.sock");

        let error = Daemon::new(Some("tcp://10.0.0.1:2375")).connect().await.unwrap_err();
        assert!(
            error.is_unavailable() && error.to_string().contains("only Unix sockets"),
            "{error}"
        );
        let error = Daemon::new(Some("/nonexistent/d.sock")).connect().await.unwrap_err();
        assert!(error.is_unavailable() && error.to_string().contains("is it installed"), "{error}");
    }

    #[tokio::test]
    async fn calls_to_a_daemon_known_to_be_unavailable_fail_at_once() {
        let daemon = Daemon::new(Some("/nonexistent/d.sock"));
        let error = daemon.connect().await.unwrap_err();
        let mut is_responding = daemon.is_responding();
        daemon.set_unavailable(error);
        assert!(daemon.client().await.unwrap_err().is_unavailable());
        assert!(!*is_responding.borrow_and_update());
    }
}
