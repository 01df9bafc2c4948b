//! Starts whose files are still being written. A stop that arrives meanwhile must cancel the start:
//! the driver does not know of the run yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::Piece;
use tokio_util::sync::CancellationToken;

/// The starts in preparation, shared by the loop and the tasks that prepare them.
#[derive(Debug, Clone, Default)]
pub(super) struct Preparations(Arc<Mutex<BTreeMap<Piece, CancellationToken>>>);

impl Preparations {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Piece, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a preparation begins; the token is cancelled with it.
    pub(super) fn begin(&self, piece: Piece) -> CancellationToken {
        let token = CancellationToken::new();
        self.all().insert(piece, token.clone());
        token
    }

    /// Cancels the preparation of `piece`; returns whether there is one. The task that prepares it
    /// reports that the run has not started.
    pub(super) fn cancel(&self, piece: &Piece) -> bool {
        let all = self.all();
        let token = all.get(piece);
        token.inspect(|token| token.cancel()).is_some()
    }

    /// Ends the preparation of `piece`. Calls `start` unless it was cancelled, and returns whether
    /// it did. No stop can arrive in between, so the driver receives each stop after its start.
    pub(super) fn end(&self, piece: &Piece, start: impl FnOnce()) -> bool {
        let mut all = self.all();
        let starts = all.remove(piece).is_some_and(|token| !token.is_cancelled());
        if starts {
            start();
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_was_cancelled_during_its_preparation_does_not_happen() {
        let preparations = Preparations::default();
        let run = |run| Piece {
            instance: "/web~0.1".parse().unwrap(),
            resource: "main".parse().unwrap(),
            run,
        };
        let mut starts = Vec::new();
        for number in [1, 2] {
            preparations.begin(run(number));
        }
        assert!(preparations.cancel(&run(1)) && !preparations.cancel(&run(3)));
        for number in [1, 2] {
            preparations.end(&run(number), || starts.push(number));
        }
        assert_eq!(starts, [2]);
        assert!(!preparations.cancel(&run(2)), "its stop is for the driver");
    }
}
