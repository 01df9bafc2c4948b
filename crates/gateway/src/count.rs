//! How often routes were used. Each thread counts for itself; a reader adds up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::table::RouteName;

/// How often a route was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteCounts {
    /// Requests that it got.
    pub requests: u64,
    /// Requests that the gateway answered with 502, 503 or 504 itself.
    pub failures: u64,
    /// Further tries, after a backend that could not be reached.
    pub retries: u64,
}

/// One thread's counts of one route. One writer: plain loads and stores do, without a locked
/// instruction for each request.
#[derive(Debug, Default)]
pub(crate) struct Count {
    requests: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl Count {
    pub(crate) fn requested(&self) {
        add(&self.requests);
    }

    pub(crate) fn failed(&self) {
        add(&self.failures);
    }

    pub(crate) fn retried(&self) {
        add(&self.retries);
    }
}

/// All counts of one thread. Locked when tables change or somebody reads, never by a request.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<RouteName, Arc<Count>>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RouteName, Arc<Count>>> {
        // Counts are right even if a thread has panicked while it held them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts of the routes of a table, in its order; those of other routes are forgotten.
    pub(crate) fn follow<'a>(
        &self,
        routes: impl Iterator<Item = &'a RouteName>,
    ) -> Vec<Arc<Count>> {
        let mut all = self.lock();
        let before = std::mem::take(&mut *all);
        routes
            .map(|name| {
                let count = before.get(name).cloned().unwrap_or_default();
                all.entry(name.clone()).or_insert(count).clone()
            })
            .collect()
    }

    /// Adds these counts to others.
    pub(crate) fn add_to(&self, sums: &mut BTreeMap<RouteName, RouteCounts>) {
        for (name, count) in &*self.lock() {
            let sum = sums.entry(name.clone()).or_default();
            sum.requests += count.requests.load(Ordering::Relaxed);
            sum.failures += count.failures.load(Ordering::Relaxed);
            sum.retries += count.retries.load(Ordering::Relaxed);
        }
    }
}
