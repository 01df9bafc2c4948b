//! One request and its response over one connection.
//!
//! Only the task of the client's connection polls it: a backend connection has no task of its own,
//! so nothing is passed between tasks. Every failure says whether the client or the backend caused
//! it, and whether the backend can have seen the request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::net::TcpStream;

use super::chunked::Piece;
use super::connection::Connection;
use super::encode;
use super::head::{self, Framing, Head, InvalidResponse};
use crate::client::discard::Rest;
use crate::tables::InFlight;

/// Why there is no response to forward, by the side that caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Client(ClientFailure),
    Backend(BackendFailure),
}

/// How a client failed to send its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientFailure {
    Disconnected,
    /// It broke the framing of its body.
    Malformed,
    /// The next piece of its body did not arrive in time.
    Timeout,
}

/// How a backend failed to respond. The text follows the name of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BackendFailure {
    /// Before any byte of a response. `sent` says whether the kernel took any byte of the request:
    /// only then the backend can have seen it.
    #[error("it closed the connection without a response")]
    ConnectionClosed { sent: bool },
    /// In the head of the response, or after an interim one.
    #[error("it closed the connection in the middle of a response")]
    TruncatedResponse,
    #[error(transparent)]
    InvalidResponse(InvalidResponse),
    #[error("it did not respond in time")]
    Timeout,
}

/// Why the body of a response ended early, after its head was forwarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client disconnected")]
    ClientDisconnected,
    #[error("the backend closed the connection in the middle of its response")]
    Truncated(#[source] Option<std::io::Error>),
    #[error("the backend's chunks are malformed")]
    Malformed,
}

/// What is left of the body of a request to send to the backend.
#[derive(Debug)]
enum Upload {
    /// This number of bytes is left.
    Sized(Incoming, u64),
    Chunked(Incoming),
    /// The connection has all of it.
    Done,
    /// The backend reads no more; it may still respond.
    Abandoned(Rest),
}

impl Upload {
    fn into_rest(self) -> Option<Rest> {
        match self {
            Upload::Sized(body, size) => Some(Rest { body, size }),
            Upload::Chunked(body) => Some(Rest { body, size: u64::MAX }),
            Upload::Done => None,
            Upload::Abandoned(rest) => Some(rest),
        }
    }
}

/// Maximum number of interim responses to one request.
const INTERIM_MAX: u32 = 16;

/// A request and its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// `connection` and `in_flight` are both `Some` until the response is complete, then `None`.
    connection: Option<Box<Connection>>,
    in_flight: Option<InFlight>,
    upload: Upload,
    /// Whether a piece of the body was read from the client: then it cannot be sent again.
    is_body_read: bool,
    /// The number of interim responses.
    interim: u32,
    /// Whether the upload waits for the client, not for the backend: decides who timed out.
    waits_for_client: bool,
    /// Timeout for the head of the response and for each piece of the request, in ticks.
    response_timeout: u32,
    download: Framing,
    keep_alive: bool,
}

impl Exchange {
    /// Starts on a connection whose output has the head of the request.
    pub(crate) fn new(
        connection: Box<Connection>,
        in_flight: InFlight,
        body: Option<Incoming>,
        framing: encode::Framing,
        response_timeout: u32,
    ) -> Self {
        connection.timer.set(response_timeout);
        let upload = match (body, framing) {
            (Some(body), encode::Framing::Sized(length)) => Upload::Sized(body, length),
            (Some(body), encode::Framing::Chunked) => Upload::Chunked(body),
            (_, encode::Framing::None) | (None, _) => Upload::Done,
        };
        Self {
            connection: Some(connection),
            in_flight: Some(in_flight),
            upload,
            is_body_read: false,
            interim: 0,
            waits_for_client: false,
            response_timeout,
            download: Framing::ToEnd,
            keep_alive: false,
        }
    }

    /// Whether a piece of the request's body was read: then the request cannot be sent again.
    pub(crate) fn is_body_read(&self) -> bool {
        self.is_body_read
    }

    /// The rest of the request's body, if it is not completely sent. It is not sent afterwards.
    pub(crate) fn take_rest(&mut self) -> Option<Rest> {
        std::mem::replace(&mut self.upload, Upload::Done).into_rest()
    }

    /// The size of that rest in bytes; `u64::MAX` if it is unknown.
    pub(crate) fn rest_size(&self) -> u64 {
        match &self.upload {
            Upload::Sized(_, size) => *size,
            Upload::Chunked(_) => u64::MAX,
            Upload::Done => 0,
            Upload::Abandoned(rest) => rest.size,
        }
    }

    /// Closes the connection and ends the request: the response cannot be completed.
    pub(crate) fn abort(&mut self) {
        self.connection = None;
        self.in_flight = None;
    }

    /// Sends the request. Ready with the status of a response, whose fields then are in `headers`.
    /// After an interim response it must be called again.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        headers: &mut HeaderMap,
        upgrade: bool,
    ) -> Poll<Result<StatusCode, Failure>> {
        if let Poll::Ready(Err(failure)) = self.poll_upload(cx) {
            return Poll::Ready(Err(failure));
        }
        loop {
            let Some(connection) = &mut self.connection else {
                return backend_failed(BackendFailure::ConnectionClosed { sent: true });
            };
            if !connection.input.is_empty() {
                match head::parse(&mut connection.input, method, headers) {
                    Err(invalid) => {
                        return backend_failed(BackendFailure::InvalidResponse(invalid));
                    }
                    Ok(Some(head)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                        connection.timer.clear();
                        if upgrade {
                            return Poll::Ready(Ok(head.status));
                        }
                        let invalid = InvalidResponse::UnexpectedUpgrade;
                        return backend_failed(BackendFailure::InvalidResponse(invalid));
                    }
                    Ok(Some(head)) if head.status.is_informational() => {
                        self.interim += 1;
                        if self.interim > INTERIM_MAX {
                            let invalid = InvalidResponse::Interim;
                            return backend_failed(BackendFailure::InvalidResponse(invalid));
                        }
                        // hyper itself sends it when the client's body is first read.
                        if head.status != StatusCode::CONTINUE {
                            return Poll::Ready(Ok(head.status));
                        }
                        continue;
                    }
                    Ok(Some(head)) => return Poll::Ready(Ok(self.begin(head))),
                    Ok(None) => {}
                }
            }
            match connection.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    let began = !connection.input.is_empty() || self.interim > 0;
                    return backend_failed(match began {
                        true => BackendFailure::TruncatedResponse,
                        false => BackendFailure::ConnectionClosed { sent: connection.sent },
                    });
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    ready!(connection.timer.poll(cx));
                    return match self.waits_for_client {
                        true => client_failed(ClientFailure::Timeout),
                        false => backend_failed(BackendFailure::Timeout),
                    };
                }
            }
        }
    }

    fn begin(&mut self, head: Head) -> StatusCode {
        if let Some(connection) = &self.connection {
            connection.timer.clear();
        }
        if let Some(in_flight) = &self.in_flight {
            in_flight.backend().responded();
        }
        self.keep_alive = head.keep_alive;
        self.download = head.framing;
        if matches!(self.download, Framing::Sized(0)) {
            self.finish();
        }
        head.status
    }

    /// Sends the request's body. Ready once the kernel has all of it or the backend reads no more.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
            // The head and the first pieces of the body leave in one write: nothing is flushed
            // before that is necessary.
            if connection.is_full() {
                ready!(self.poll_flush(cx))?;
                continue;
            }
            let (body, left) = match &mut self.upload {
                Upload::Abandoned(_) => return Poll::Ready(Ok(())),
                Upload::Done => return self.poll_flush(cx),
                Upload::Sized(body, left) => (body, Some(left)),
                Upload::Chunked(body) => (body, None),
            };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                self.waits_for_client = true;
                ready!(self.poll_flush(cx))?;
                return if matches!(self.upload, Upload::Abandoned(_)) {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            };
            self.is_body_read = true;
            self.waits_for_client = false;
            connection.timer.set(self.response_timeout);
            match (frame, left) {
                (Some(Err(error)), _) => return client_failed(reason(&error)),
                (Some(Ok(frame)), Some(left)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // The backend would read more than `content-length` as another request.
                    let Some(rest) = left.checked_sub(data.len() as u64) else {
                        return client_failed(ClientFailure::Malformed);
                    };
                    *left = rest;
                    connection.send(data, b"");
                    if rest == 0 {
                        self.upload = Upload::Done;
                    }
                }
                (None, Some(0)) => self.upload = Upload::Done,
                (None, Some(_)) => return client_failed(ClientFailure::Malformed),
                (Some(Ok(frame)), None) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        encode::chunk(connection.output(), data.len());
                        connection.send(data, b"\r\n");
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        encode::last_chunk(connection.output(), trailers.as_ref());
                        self.upload = Upload::Done;
                    }
                },
                (None, None) => {
                    encode::last_chunk(connection.output(), None);
                    self.upload = Upload::Done;
                }
            }
        }
    }

    /// Writes the output of the connection. A backend that reads no more may have responded before
    /// it closed the connection: that response is forwarded.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
        if ready!(connection.poll_flush(cx)).is_err() {
            if !connection.sent {
                return backend_failed(BackendFailure::ConnectionClosed { sent: false });
            }
            connection.discard_output();
            if let Some(rest) = self.take_rest() {
                self.upload = Upload::Abandoned(rest);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next piece of the response's body.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(Err(_)) = self.poll_upload(cx) {
            return Poll::Ready(Some(Err(BodyError::ClientDisconnected)));
        }
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            match &mut self.download {
                Framing::Sized(left) => {
                    if !connection.input.is_empty() {
                        let here = usize::try_from(*left).unwrap_or(usize::MAX);
                        let here = here.min(connection.input.len());
                        *left -= here as u64;
                        let data = connection.input.split_to(here).freeze();
                        if *left == 0 {
                            self.finish();
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Framing::Chunked(decoder) => match decoder.next(&mut connection.input) {
                    Err(_) => return Poll::Ready(Some(Err(BodyError::Malformed))),
                    Ok(Piece::More) => {}
                    Ok(Piece::End) => {
                        self.finish();
                        return Poll::Ready(None);
                    }
                    Ok(Piece::Trailers(trailers)) => {
                        self.finish();
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Ok(Piece::Data(data)) => {
                        // Usually the end has arrived already: then all leaves in one write.
                        if connection.input.starts_with(b"\r\n0\r\n\r\n") {
                            connection.input.advance(7);
                            self.finish();
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                },
                Framing::ToEnd => {
                    if !connection.input.is_empty() {
                        let data = connection.input.split().freeze();
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
            }
            match ready!(connection.poll_read(cx)) {
                Ok(0) if matches!(self.download, Framing::ToEnd) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Truncated(None)))),
                Err(error) => return Poll::Ready(Some(Err(BodyError::Truncated(Some(error))))),
                Ok(_) => {}
            }
        }
    }

    /// Whether the response is complete.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    /// The number of bytes left of the response, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.download {
            _ if self.is_over() => Some(0),
            Framing::Sized(left) => Some(left),
            Framing::Chunked(_) | Framing::ToEnd => None,
        }
    }

    /// Ends the exchange: the response is complete.
    fn finish(&mut self) {
        let (connection, in_flight) = (self.connection.take(), self.in_flight.take());
        if let (Some(connection), Some(in_flight)) = (connection, in_flight)
            && self.keep_alive
            && matches!(self.upload, Upload::Done)
            && connection.input.is_empty()
        {
            in_flight.release(connection);
        }
    }

    /// After a switch of protocols: the socket, the bytes read from it, and the count.
    pub(crate) fn into_tunnel(self) -> Option<(TcpStream, BytesMut, InFlight)> {
        let (stream, input) = self.connection?.into_stream();
        Some((stream, input, self.in_flight?))
    }
}

/// How a client failed whose body ended with `error`.
fn reason(error: &hyper::Error) -> ClientFailure {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    match cause.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData) => {
            ClientFailure::Malformed
        }
        _ => ClientFailure::Disconnected,
    }
}

fn client_failed<T>(failure: ClientFailure) -> Poll<Result<T, Failure>> {
    Poll::Ready(Err(Failure::Client(failure)))
}

fn backend_failed<T>(failure: BackendFailure) -> Poll<Result<T, Failure>> {
    Poll::Ready(Err(Failure::Backend(failure)))
}
