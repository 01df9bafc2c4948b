//! The rest of a request's body that no backend reads: either it is small, then it is read and
//! dropped and the connection stays usable, or the connection closes after the response.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};

use super::state::RequestGuard;

/// Maximum size of a rest that is discarded, in bytes.
const DISCARD_MAX: u64 = 256 * 1024;
/// Timeout for the client to send it.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// The rest of a request's body.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) body: Incoming,
    /// Its size in bytes; `u64::MAX` if that is unknown or the client may never send it.
    pub(crate) size: u64,
}

/// Whether a connection can be used again after a response before a rest of this size was read.
pub(crate) fn can_discard(size: u64) -> bool {
    size <= DISCARD_MAX
}

impl Rest {
    /// Discards it, or gives it up: hyper then closes the connection after the response.
    pub(crate) fn discard(self, guard: &RequestGuard) {
        // A stream of HTTP/2 ends by itself.
        if guard.is_http_2() {
            return;
        }
        if !can_discard(self.size) {
            guard.expect_more_input();
            return;
        }
        let (mut body, guard) = (self.body, guard.clone());
        tokio::task::spawn_local(async move {
            let read = async {
                while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
                body.is_end_stream()
            };
            if !tokio::time::timeout(DISCARD_TIMEOUT, read).await.unwrap_or(false) {
                guard.expect_more_input();
            }
        });
    }
}
