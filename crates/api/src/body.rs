//! The bodies of requests, bounded in time and in bytes: a client that never ends its body, or thousands that send large
//! ones, must not use up the memory of a daemon. The size of a single body is limited by its handler.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// Timeout for a body as a whole: sixteen mebibytes at two megabits a second.
const BODY_MAX: Duration = Duration::from_secs(60);
/// The maximum size of the bodies of all requests in progress together.
const BYTES_MAX: usize = 256 << 20;

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the body did not arrive within {} s", BODY_MAX.as_secs())]
    Timeout,
    #[error("the requests in progress are larger than {} MiB together", BYTES_MAX >> 20)]
    Full,
    #[error("the connection failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The size of the bodies in progress.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bodies(Arc<AtomicUsize>);

impl Bodies {
    /// The share of one request, which lasts as long as its bytes are in memory.
    pub(crate) fn share(&self) -> Arc<Share> {
        Arc::new(Share { all: self.clone(), own: AtomicUsize::new(0) })
    }
}

/// The bytes of one request's body; they no longer count when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    all: Bodies,
    own: AtomicUsize,
}

impl Share {
    fn add(&self, bytes: usize) -> Result<(), Error> {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        let before = self.all.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > BYTES_MAX { Err(Error::Full) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.0.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// A body with its limits.
pub(crate) struct Bounded<B> {
    body: B,
    share: Arc<Share>,
    deadline: Pin<Box<Sleep>>,
}

impl<B> Bounded<B> {
    pub(crate) fn new(body: B, share: Arc<Share>) -> Bounded<B> {
        let deadline = Box::pin(sleep_until(Instant::now() + BODY_MAX));
        Bounded { body, share, deadline }
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Error::Timeout)));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Error::Connection(error.into())))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        Poll::Ready(Some(self.share.add(bytes).map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn bodies_are_limited_together() {
        let bodies = Bodies::default();
        let sent = Bytes::from(vec![0; BYTES_MAX / 4 * 3]);
        let read = async |share: &Arc<Share>| {
            Bounded::new(Full::new(sent.clone()), Arc::clone(share)).collect().await.map(drop)
        };
        let first = bodies.share();
        read(&first).await.unwrap();
        let second = bodies.share();
        assert!(matches!(read(&second).await, Err(Error::Full)));
        drop((first, second));
        assert_eq!(bodies.0.load(Ordering::Relaxed), 0);
        read(&bodies.share()).await.unwrap();
    }
}
