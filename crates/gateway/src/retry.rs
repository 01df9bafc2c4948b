//! Decides whether a request is sent to another backend after a failure.
//!
//! A request that no backend can have seen is sent to another one: to each at most once, and only
//! until the retry timeout. A request that a backend may have seen is repeated once, and only if
//! repeating it is safe: it has no body and its method is idempotent (RFC 9110 §9.2.2).

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use model::InstanceId;

use crate::backend::exchange::BackendFailure;
use crate::backend::pool::LiveBackend;

/// The attempts to send one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// Whether repeating the request is safe.
    pub(crate) is_repeatable: bool,
    /// Whether to open a new connection: the backend had closed a reused one.
    pub(crate) only_new: bool,
    /// The backends that failed. Empty for almost every request, and allocates nothing then.
    failed: Vec<Rc<LiveBackend>>,
    /// Why the last of them failed.
    reason: Option<String>,
    /// When attempts end; set by the first failure.
    deadline: Option<Instant>,
    /// The backend that may have seen the request, and how it failed. The request was repeated then,
    /// and must not be again.
    seen_by: Option<(Rc<LiveBackend>, BackendFailure)>,
}

impl Attempts {
    pub(crate) fn new(is_repeatable: bool) -> Self {
        let (failed, reason, deadline) = Default::default();
        Self { is_repeatable, only_new: false, failed, reason, deadline, seen_by: None }
    }

    /// Whether this request may be sent to a backend.
    pub(crate) fn allows(&self, backend: &Rc<LiveBackend>) -> bool {
        !self.failed.iter().any(|failed| Rc::ptr_eq(failed, backend))
    }

    /// Whether the time for further attempts is over.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Why the last backend could not be reached.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Notes that a backend could not be reached: the request is not sent to it again.
    pub(crate) fn unreachable(
        &mut self,
        backend: &Rc<LiveBackend>,
        reason: &str,
        timeout: Duration,
    ) {
        self.reason = Some(format!("{}: {reason}", backend.backend.instance));
        self.failed.push(backend.clone());
        self.deadline.get_or_insert_with(|| Instant::now() + timeout);
    }

    /// The backend that may have seen the request, and how it failed.
    pub(crate) fn seen_by(&self) -> Option<(&InstanceId, BackendFailure)> {
        self.seen_by.as_ref().map(|(backend, failure)| (&backend.backend.instance, *failure))
    }

    /// Whether the request may be sent again after `failure`.
    pub(crate) fn may_repeat(
        &mut self,
        backend: &Rc<LiveBackend>,
        failure: BackendFailure,
    ) -> bool {
        match failure {
            BackendFailure::ConnectionClosed { sent: false } => true,
            // Once, even if the connection was reused: a request that crashes backends must not
            // reach a third one.
            BackendFailure::ConnectionClosed { sent: true } => {
                let repeats = self.is_repeatable && self.seen_by.is_none();
                self.seen_by = Some((backend.clone(), failure));
                repeats
            }
            BackendFailure::TruncatedResponse
            | BackendFailure::InvalidResponse(_)
            | BackendFailure::Timeout => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Backend;

    use super::*;

    const LOST: BackendFailure = BackendFailure::ConnectionClosed { sent: true };
    const UNSENT: BackendFailure = BackendFailure::ConnectionClosed { sent: false };

    fn backend(instance: &str) -> Rc<LiveBackend> {
        let instance = instance.parse().unwrap();
        LiveBackend::new(&Backend { instance, address: "127.0.0.1:9".into() }, 1)
    }

    #[test]
    fn an_unsent_request_is_always_repeated_and_one_with_a_response_never() {
        let a = backend("/a~0.1");
        for is_repeatable in [true, false] {
            let mut attempts = Attempts::new(is_repeatable);
            assert!((0..5).all(|_| attempts.may_repeat(&a, UNSENT)));
            assert!(!attempts.may_repeat(&a, BackendFailure::Timeout));
            assert!(!attempts.may_repeat(&a, BackendFailure::TruncatedResponse));
            assert!(attempts.seen_by().is_none());
        }
    }

    #[test]
    fn a_request_that_a_backend_may_have_seen_is_repeated_once_if_that_is_safe() {
        let (a, b) = (backend("/a~0.1"), backend("/a~1.1"));
        let mut attempts = Attempts::new(false);
        assert!(!attempts.may_repeat(&a, LOST));
        let mut attempts = Attempts::new(true);
        assert!(attempts.may_repeat(&a, LOST));
        assert!(attempts.may_repeat(&b, UNSENT), "this one has not seen it");
        assert_eq!(attempts.seen_by(), Some((&a.backend.instance, LOST)));
        assert!(!attempts.may_repeat(&b, LOST));
    }

    #[tokio::test(start_paused = true)]
    async fn each_backend_gets_one_attempt_until_the_timeout() {
        let timeout = Duration::from_secs(3);
        let (a, b) = (backend("/a~0.1"), backend("/a~1.1"));
        let mut attempts = Attempts::new(true);
        assert!(attempts.allows(&a) && attempts.reason().is_none());
        attempts.unreachable(&a, "refused", timeout);
        assert!(!attempts.allows(&a) && attempts.allows(&b) && !attempts.is_over());
        tokio::time::advance(timeout / 2).await;
        attempts.unreachable(&b, "no route", timeout);
        assert_eq!(attempts.reason(), Some("/a~1.1: no route"));
        tokio::time::advance(timeout / 2).await;
        assert!(attempts.is_over(), "the first failure sets the deadline");
    }
}
