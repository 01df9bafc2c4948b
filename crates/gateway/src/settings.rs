//! Timeouts and limits of a gateway. The defaults suit a small cluster.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Timeouts and limits of a gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Number of threads, each with its own connections; by default one per core.
    pub threads: usize,
    /// Timeout for a backend to accept a connection; after that it is unreachable.
    pub connect_timeout: Duration,
    /// Timeout for further attempts after the first backend was unreachable. Without it, a request
    /// could wait for the connect timeout of 50 silent backends one after the other.
    pub retry_timeout: Duration,
    /// Timeout for the first byte of a response, and for each further piece of a request that is
    /// being sent.
    pub response_timeout: Duration,
    /// Timeout of client connections without a request.
    pub client_idle: Duration,
    /// Timeout for a client to send the head of a request: limits clients that send it slowly to
    /// keep connections occupied (slowloris).
    pub head_timeout: Duration,
    /// Timeout of idle connections to backends. It is shorter than that of common servers
    /// (Node.js: 5 s), so that a server rarely closes one that a request has just been sent on.
    pub backend_idle: Duration,
    /// Maximum number of idle connections for each backend and thread.
    pub backend_idle_max: usize,
    /// Maximum number of client connections, including tunnels; further ones wait in the kernel.
    /// Reduced if the limit of open files is too low for them and their backends.
    pub clients_max: usize,
    /// Timeout for requests in flight when the gateway stops.
    pub stop_grace: Duration,
    /// Seed of the selection among equal backends; equal seeds select equally.
    pub seed: u64,
    /// The path of requests that occupy their thread forever: a fault for tests of the watchdog.
    #[cfg(debug_assertions)]
    pub spin_on: Option<String>,
}

/// Open files that are no connection of a client or to a backend: listeners, the server.
const FILES_RESERVED: u64 = 96;

impl Settings {
    /// Raises `threads` to one and reduces `clients_max` to the limit of open files. Each client
    /// needs two files; without the bound, clients would be accepted whose requests can reach no
    /// backend.
    pub(crate) fn within_limits(self, files_max: Option<u64>) -> Self {
        let threads = self.threads.max(1);
        let pairs = files_max.map(|files| files.saturating_sub(FILES_RESERVED) / 2);
        let pairs = pairs.and_then(|pairs| usize::try_from(pairs).ok()).unwrap_or(usize::MAX);
        if pairs < self.clients_max {
            tracing::warn!(clients_max = pairs, "the limit of open files allows few clients");
        }
        Self { threads, clients_max: self.clients_max.min(pairs), ..self }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            connect_timeout: Duration::from_secs(2),
            retry_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(60),
            client_idle: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            backend_idle: Duration::from_secs(4),
            backend_idle_max: 512,
            clients_max: 50_000,
            stop_grace: Duration::from_secs(10),
            seed: 1,
            #[cfg(debug_assertions)]
            spin_on: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_limited_by_the_files_for_them_and_their_backends() {
        let clients_max = |files| Settings::default().within_limits(files).clients_max;
        assert_eq!(clients_max(None), 50_000);
        assert_eq!(clients_max(Some(1_048_576)), 50_000);
        assert_eq!(clients_max(Some(1024)), (1024 - 96) / 2);
        assert_eq!(clients_max(Some(20)), 0, "each thread still accepts one");
    }
}
