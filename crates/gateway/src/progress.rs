//! What a thread is doing. The thread writes it, the watchdog reads it from another thread: a thread
//! that is stuck in a loop cannot report that itself.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::Poll;

/// The progress of one thread.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Increases whenever the thread has run its timers.
    beats: AtomicU32,
    /// The running task: a constant below.
    task: AtomicU8,
    /// The address of its client: two halves of an IPv6 address, and the port.
    client: [AtomicU64; 3],
}

const OTHER: u8 = 0;
const CLIENT: u8 = 1;
const STREAM: u8 = 2;
const TUNNEL: u8 = 3;

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Serving the connection of a client.
    Client(SocketAddr),
    /// Serving a stream of some HTTP/2 connection.
    Stream,
    /// Copying bytes after a switch of protocols.
    Tunnel,
    /// Anything else.
    Other,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Client(address) => write!(f, "a connection of {address}"),
            Task::Stream => f.write_str("a stream of HTTP/2"),
            Task::Tunnel => f.write_str("an upgraded connection"),
            Task::Other => f.write_str("a task of its own"),
        }
    }
}

impl Progress {
    /// Notes that the thread has run its timers.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of beats. The thread is stuck while it does not change.
    pub(crate) fn beats(&self) -> u32 {
        self.beats.load(Ordering::Relaxed)
    }

    /// The running task. While the thread is not stuck the answer may be a mixture of two.
    pub(crate) fn task(&self) -> Task {
        match self.task.load(Ordering::Relaxed) {
            CLIENT => {
                let [high, low, port] = [0, 1, 2].map(|i| self.client[i].load(Ordering::Relaxed));
                let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
                Task::Client(SocketAddr::new(IpAddr::V6(ip).to_canonical(), port as u16))
            }
            STREAM => Task::Stream,
            TUNNEL => Task::Tunnel,
            _ => Task::Other,
        }
    }

    fn begin(&self, task: Task) {
        let kind = match task {
            Task::Client(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let ip = u128::from(ip);
                let parts = [(ip >> 64) as u64, ip as u64, u64::from(address.port())];
                for (to, part) in self.client.iter().zip(parts) {
                    to.store(part, Ordering::Relaxed);
                }
                CLIENT
            }
            Task::Stream => STREAM,
            Task::Tunnel => TUNNEL,
            Task::Other => OTHER,
        };
        self.task.store(kind, Ordering::Relaxed);
    }

    /// Notes `task` while a step of it runs.
    pub(crate) fn during<T>(&self, task: Task, step: impl FnOnce() -> T) -> T {
        self.begin(task);
        let done = step();
        self.task.store(OTHER, Ordering::Relaxed);
        done
    }

    /// Notes `task` whenever `future` runs.
    pub(crate) async fn track<F: Future>(&self, task: Task, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| -> Poll<F::Output> {
            self.during(task, || Pin::as_mut(&mut future).poll(cx))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_known_while_it_runs() {
        let progress = Progress::default();
        for address in ["10.0.0.9:5000", "[2001:db8::7]:65535"] {
            let task = Task::Client(address.parse().unwrap());
            assert_eq!(progress.during(task, || progress.task()), task);
            assert_eq!(progress.task(), Task::Other);
        }
        assert_eq!(progress.during(Task::Tunnel, || progress.task()), Task::Tunnel);
    }
}
