//! The body of a response to a client: bytes of the gateway itself, or the body that a backend sends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::state::RequestGuard;
use crate::backend::exchange::{BodyError, Exchange};

/// The body of a response.
#[derive(Debug)]
pub(crate) struct Body {
    content: Content,
    /// Held until the end of the body: the connection is not idle before.
    _guard: Option<RequestGuard>,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Exchange(Exchange),
}

impl Body {
    /// Bytes of the gateway itself.
    pub(crate) fn whole(bytes: Bytes, guard: Option<RequestGuard>) -> Self {
        Self { content: Content::Whole(bytes), _guard: guard }
    }

    /// The body that a backend sends.
    pub(crate) fn exchange(exchange: Exchange, guard: RequestGuard) -> Self {
        Self { content: Content::Exchange(exchange), _guard: Some(guard) }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Exchange(exchange) => exchange.poll_body(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Exchange(exchange) => exchange.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Exchange(exchange) => {
                exchange.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
