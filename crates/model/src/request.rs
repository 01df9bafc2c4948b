//! The identity of requests, and the outcomes of recent ones.
//!
//! The number, the size and the age of the outcomes are limited. A request that is repeated after
//! its outcome has been dropped is executed again.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use crate::id::RequestKey;
use crate::outcome::Change;
use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::unit::{Millis, Timestamp};

/// Maximum number of outcomes.
const COUNT_MAX: usize = 10_000;
/// Maximum size of all outcomes together, as stored. The newest one is kept whatever its size.
const BYTES_MAX: usize = 4 << 20;
/// An outcome that is older is dropped when the next one is recorded.
const AGE_MAX: Millis = Millis::secs(24 * 60 * 60);

/// The identity of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    /// The key that the client chose.
    pub key: RequestKey,
    /// A hash of the content. A request with the same key and another content is rejected.
    pub digest: u64,
}

/// A request that was executed, and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutedRequest {
    /// Its position in the order of execution.
    pub number: u64,
    /// See [`RequestId::digest`].
    pub digest: u64,
    /// The author.
    pub by: Principal,
    /// When it was executed.
    pub at: Timestamp,
    /// Its response: the changes, or why it was rejected.
    pub outcome: Result<Vec<Change>, Refusal>,
}

/// The outcomes of recent requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    by_key: RedBlackTreeMapSync<RequestKey, Arc<ExecutedRequest>>,
    /// The key and the size in bytes of each request in `by_key`, by number.
    by_number: RedBlackTreeMapSync<u64, (RequestKey, usize)>,
    /// The sum of the sizes in `by_number`.
    bytes: usize,
}

impl Requests {
    pub(crate) fn get(&self, key: &RequestKey) -> Option<&ExecutedRequest> {
        self.by_key.get(key).map(Arc::as_ref)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &RequestKey> {
        self.by_key.keys()
    }

    /// Adds a request whose key and number no other has.
    pub(crate) fn insert(&mut self, key: RequestKey, request: ExecutedRequest) {
        let size = serde_json::to_vec(&request).map_or(0, |json| json.len()) + key.as_str().len();
        self.bytes += size;
        self.by_number.insert_mut(request.number, (key.clone(), size));
        self.by_key.insert_mut(key, Arc::new(request));
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.by_number.last().map_or(1, |(number, _)| number + 1)
    }

    /// Drops the oldest requests until the limits are met. Returns their keys.
    pub(crate) fn evict(&mut self, now: Timestamp) -> Vec<RequestKey> {
        let mut evicted = Vec::new();
        while let Some((number, (key, size))) = self.by_number.first() {
            let (number, key, size) = (*number, key.clone(), *size);
            let is_old = self.get(&key).is_none_or(|request| now.since(request.at) > AGE_MAX);
            let is_surplus = self.by_number.size() > COUNT_MAX || self.bytes > BYTES_MAX;
            if !(is_old || is_surplus) || self.by_number.size() == 1 {
                break;
            }
            self.by_number.remove_mut(&number);
            self.by_key.remove_mut(&key);
            self.bytes -= size;
            evicted.push(key);
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(number: u64, at: Timestamp, note_len: usize) -> (RequestKey, ExecutedRequest) {
        let change = Change {
            kind: "service".into(),
            name: "/web".into(),
            verdict: crate::outcome::ChangeKind::Updated,
            revision: None,
            run: None,
            frozen: None,
            deployment: None,
            note: Some("n".repeat(note_len)),
        };
        let (by, outcome) = (Principal::operator(), Ok(vec![change]));
        let key = format!("k{number}").parse().expect("a key");
        (key, ExecutedRequest { number, digest: 0, by, at, outcome })
    }

    fn numbers(requests: &Requests) -> (u64, u64, usize) {
        let first = requests.by_number.first().map_or(0, |(number, _)| *number);
        let last = requests.by_number.last().map_or(0, |(number, _)| *number);
        assert_eq!(requests.by_key.size(), requests.by_number.size());
        let sizes = requests.by_number.values().map(|(_, size)| *size);
        assert_eq!(sizes.sum::<usize>(), requests.bytes);
        (first, last, requests.by_number.size())
    }

    /// Adds `count` requests, one for each second from second 1, with a note of that length.
    fn filled(count: u64, note_len: usize) -> Requests {
        let mut requests = Requests::default();
        for _ in 0..count {
            let number = requests.next_number();
            let (key, request) = executed(number, Timestamp(number * 1000), note_len);
            requests.insert(key, request);
            requests.evict(Timestamp(number * 1000));
        }
        requests
    }

    #[test]
    fn the_oldest_outcomes_are_dropped_beyond_a_limit() {
        let count = COUNT_MAX as u64;
        assert_eq!(numbers(&filled(count, 0)), (1, count, COUNT_MAX));
        assert_eq!(numbers(&filled(count + 3, 0)), (4, count + 3, COUNT_MAX));
        let (first, last, kept) = numbers(&filled(100, 100 << 10));
        assert_eq!((last, first), (100, 101 - kept as u64));
        assert!((35..=40).contains(&kept), "{kept} outcomes of 100 KiB in 4 MiB");
        assert_eq!(numbers(&filled(3, BYTES_MAX)), (3, 3, 1), "the newest one stays");
    }

    #[test]
    fn outcomes_are_dropped_after_a_day() {
        let mut requests = filled(10, 0);
        let evicted = requests.evict(Timestamp(3_000).after(AGE_MAX));
        assert_eq!(evicted.len(), 2, "{evicted:?}");
        assert_eq!(numbers(&requests), (3, 10, 8));
    }
}
