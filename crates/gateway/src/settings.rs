//! The numbers a gateway works by. The defaults are for a gateway of a small cluster; each says
//! what goes wrong without it.

use std::num::NonZeroUsize;
use std::time::Duration;

/// The numbers a gateway works by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many threads serve, each with its own connections; by default one per core.
    pub threads: usize,
    /// After this long a backend that does not accept a connection counts as unreachable.
    pub connect_timeout: Duration,
    /// A request whose first backend was unreachable is tried elsewhere for this long. Without it,
    /// 50 silent backends would be waited for one by one.
    pub retry_timeout: Duration,
    /// After this long without the first byte of an answer to a request that was sent, or
    /// without a further piece of a request that is being sent, the request has failed.
    pub answer_timeout: Duration,
    /// Client connections without a request are closed after this long.
    pub client_idle: Duration,
    /// A client that takes longer to send the head of a request is cut off (slowloris).
    pub head_timeout: Duration,
    /// Connections to backends that are not used for this long are closed. Shorter than what
    /// common servers grant (Node.js: 5 s), so that they rarely close one while it is being used.
    pub backend_idle: Duration,
    /// So many unused connections are kept for each backend and thread.
    pub backend_idle_max: usize,
    /// So many client connections, tunnels among them, are accepted at a time; further ones wait
    /// in the kernel. Fewer if the limit of open files is too low for them and their backends.
    pub clients_max: usize,
    /// When told to stop, requests under way have this long to finish.
    pub stop_grace: Duration,
    /// Where the choice among equal backends starts; equal seeds choose equally.
    pub seed: u64,
}

/// Open files that are neither a client's connection nor a backend's: listeners, the server.
const FILES_RESERVED: u64 = 96;

impl Settings {
    /// The same with what cannot be corrected: a thread at least, and no more clients than there
    /// are files for. Each needs two; without the bound, clients would be accepted whose
    /// requests can reach no backend.
    pub(crate) fn possible(self, files_max: Option<u64>) -> Self {
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
            answer_timeout: Duration::from_secs(60),
            client_idle: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            backend_idle: Duration::from_secs(4),
            backend_idle_max: 512,
            clients_max: 50_000,
            stop_grace: Duration::from_secs(10),
            seed: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_clients_than_files_for_them_and_their_backends() {
        let clients_max = |files| Settings::default().possible(files).clients_max;
        assert_eq!(clients_max(None), 50_000);
        assert_eq!(clients_max(Some(1_048_576)), 50_000);
        assert_eq!(clients_max(Some(1024)), (1024 - 96) / 2);
        assert_eq!(clients_max(Some(20)), 0, "then one for each thread, all the same");
    }
}
