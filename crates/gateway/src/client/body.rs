//! The body of an answer to a client: none, a few bytes of our own, or what a backend sends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::Request;
use crate::backend::exchange::{BodyError, Exchange};

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Body {
    content: Content,
    /// Held to the end: the connection is not idle before.
    _request: Option<Request>,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Exchange(Exchange),
}

impl Body {
    /// Bytes of our own.
    pub(crate) fn whole(bytes: Bytes, request: Option<Request>) -> Self {
        Self { content: Content::Whole(bytes), _request: request }
    }

    /// What a backend sends.
    pub(crate) fn exchange(exchange: Exchange, request: Request) -> Self {
        Self { content: Content::Exchange(exchange), _request: Some(request) }
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
