//! The body of a response to a client: bytes of the gateway itself, or the body that a backend sends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::output::Mark;
use super::state::RequestGuard;
use crate::backend::exchange::{BodyError, Exchange};

/// The body of a response.
#[derive(Debug)]
pub(crate) struct Body(Content);

#[derive(Debug)]
enum Content {
    Whole {
        bytes: Bytes,
        /// Held until the end of the body: the connection is not idle before.
        _guard: Option<RequestGuard>,
    },
    Exchange(Streamed),
}

/// The body that a backend sends.
#[derive(Debug)]
struct Streamed {
    exchange: Exchange,
    guard: RequestGuard,
    /// The end of what hyper was given of this response.
    given: Mark,
    /// The error that ends the body once the client has everything before it. hyper drops what it
    /// has buffered as soon as it gets an error.
    error: Option<BodyError>,
}

impl Body {
    /// Bytes of the gateway itself.
    pub(crate) fn whole(bytes: Bytes, guard: Option<RequestGuard>) -> Self {
        Self(Content::Whole { bytes, _guard: guard })
    }

    /// The body that a backend sends.
    pub(crate) fn exchange(exchange: Exchange, guard: RequestGuard) -> Self {
        let mut streamed = Streamed { given: guard.output().mark(), exchange, guard, error: None };
        streamed.discard_rest();
        Self(Content::Exchange(streamed))
    }
}

impl Streamed {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.error.is_none() {
            match ready!(self.exchange.poll_body(cx)) {
                Some(Err(error)) => {
                    self.exchange.abort();
                    self.error = Some(error);
                }
                frame => {
                    self.given = self.guard.output().mark();
                    self.discard_rest();
                    return Poll::Ready(frame);
                }
            }
        }
        ready!(self.guard.output().poll_written(self.given, cx));
        Poll::Ready(self.error.take().map(Err))
    }

    /// Once the response is complete: discards the rest of the request.
    fn discard_rest(&mut self) {
        if self.exchange.is_over()
            && let Some(rest) = self.exchange.take_rest()
        {
            rest.discard(&self.guard);
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Content::Whole { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            Content::Whole { bytes, .. } => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Content::Exchange(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole { bytes, .. } => bytes.is_empty(),
            Content::Exchange(streamed) => streamed.exchange.is_over() && streamed.error.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Content::Exchange(Streamed { exchange, .. }) => {
                exchange.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
