//! One request and its answer over one connection.
//!
//! Polled by the task of the client's connection and by nothing else: there is no task per
//! backend connection, hence no hand-over between tasks. Promises to know, whenever it fails,
//! whether the backend can have seen the request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::net::TcpStream;

use super::chunked::Piece;
use super::connection::Connection;
use super::encode;
use super::head::{self, Framing, Garbage, Head};
use super::pool::UnderWay;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The client broke off; nobody is there to be told.
    Client,
    /// The client did not send its body in time.
    ClientLate,
    /// The connection was closed before anything was sent over it.
    Unsent,
    /// It was closed after something was sent and before any answer.
    Lost,
    /// It was closed in the middle of the head of an answer.
    Cut,
    /// The answer cannot be passed on.
    Garbage(Garbage),
    /// No answer in time.
    Late,
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client broke off")]
    Client,
    #[error("the backend closed the connection in the middle of its answer")]
    Cut(#[source] Option<std::io::Error>),
    #[error("the backend's chunks cannot be read")]
    Malformed,
}

/// A request's way to the backend.
#[derive(Debug)]
enum Upload {
    /// So many bytes are left.
    Sized(Incoming, u64),
    Chunked(Incoming),
    /// All is handed to the connection.
    Done,
    /// The backend takes no more; it may still answer.
    Broken,
}

/// A request and its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Both are taken when the exchange is over.
    connection: Option<Box<Connection>>,
    under_way: Option<UnderWay>,
    upload: Upload,
    /// Whether a piece of the body was taken from the client.
    touched: bool,
    /// Whether the upload waits for the client, not for the backend.
    waits_for_client: bool,
    /// How long to wait, in ticks.
    patience: u32,
    download: Framing,
    keep: bool,
}

impl Exchange {
    /// Starts with a connection to whose output the head of the request has been written.
    pub(crate) fn new(
        connection: Box<Connection>,
        under_way: UnderWay,
        body: Option<Incoming>,
        framing: encode::Framing,
        patience: u32,
    ) -> Self {
        connection.alarm.set(patience);
        let upload = match (body, framing) {
            (Some(body), encode::Framing::Sized(length)) => Upload::Sized(body, length),
            (Some(body), encode::Framing::Chunked) => Upload::Chunked(body),
            (_, encode::Framing::None) | (None, _) => Upload::Done,
        };
        Self {
            connection: Some(connection),
            under_way: Some(under_way),
            upload,
            touched: false,
            waits_for_client: false,
            patience,
            download: Framing::ToEnd,
            keep: false,
        }
    }

    /// The request's body, if all of it is still there to be sent.
    pub(crate) fn into_untouched_body(self) -> Result<Option<Incoming>, ()> {
        match self.upload {
            _ if self.touched => Err(()),
            Upload::Sized(body, _) | Upload::Chunked(body) => Ok(Some(body)),
            Upload::Done => Ok(None),
            Upload::Broken => Err(()),
        }
    }

    /// Sends the request; ready with the head of the answer, whose fields then are in `headers`.
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
                return Poll::Ready(Err(Failure::Lost));
            };
            if !connection.input.is_empty() {
                match head::parse(&mut connection.input, method, headers) {
                    Err(garbage) => return Poll::Ready(Err(Failure::Garbage(garbage))),
                    Ok(Some(head)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                        connection.alarm.clear();
                        let garbage = Err(Failure::Garbage(Garbage::Switched));
                        return Poll::Ready(if upgrade { Ok(head.status) } else { garbage });
                    }
                    // Interim answers: the client was told to go on when its body was first read.
                    Ok(Some(head)) if head.status.is_informational() => continue,
                    Ok(Some(head)) => return Poll::Ready(Ok(self.begin(head))),
                    Ok(None) => {}
                }
            }
            match connection.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    let began = !connection.input.is_empty();
                    return Poll::Ready(Err(match connection.sent {
                        _ if began => Failure::Cut,
                        true => Failure::Lost,
                        false => Failure::Unsent,
                    }));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    ready!(connection.alarm.poll(cx));
                    let late =
                        if self.waits_for_client { Failure::ClientLate } else { Failure::Late };
                    return Poll::Ready(Err(late));
                }
            }
        }
    }

    fn begin(&mut self, head: Head) -> StatusCode {
        if let Some(connection) = &self.connection {
            connection.alarm.clear();
        }
        if let Some(under_way) = &self.under_way {
            under_way.backend().answered();
        }
        self.keep = head.keep;
        self.download = head.framing;
        if matches!(self.download, Framing::Sized(0)) {
            self.finish();
        }
        head.status
    }

    /// Moves the request's body on; ready once all of it is with the kernel or the backend takes
    /// no more.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
            // The head and what there is of the body leave in one write: nothing is flushed
            // before it must be.
            if connection.is_full() {
                ready!(self.poll_flush(cx))?;
                continue;
            }
            let (body, left) = match &mut self.upload {
                Upload::Broken => return Poll::Ready(Ok(())),
                Upload::Done => return self.poll_flush(cx),
                Upload::Sized(body, left) => (body, Some(left)),
                Upload::Chunked(body) => (body, None),
            };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                self.waits_for_client = true;
                ready!(self.poll_flush(cx))?;
                return if matches!(self.upload, Upload::Broken) {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            };
            self.touched = true;
            self.waits_for_client = false;
            connection.alarm.set(self.patience);
            match (frame, left) {
                (Some(Err(_)), _) => return Poll::Ready(Err(Failure::Client)),
                (Some(Ok(frame)), Some(left)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // More than was announced would be read as another request.
                    let Some(rest) = left.checked_sub(data.len() as u64) else {
                        return Poll::Ready(Err(Failure::Client));
                    };
                    *left = rest;
                    connection.send(data, b"");
                    if rest == 0 {
                        self.upload = Upload::Done;
                    }
                }
                (None, Some(_)) => return Poll::Ready(Err(Failure::Client)),
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

    /// Writes what is there. If the backend takes no more, it may have answered before it closed:
    /// that answer counts.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
        if ready!(connection.poll_flush(cx)).is_err() {
            if !connection.sent {
                return Poll::Ready(Err(Failure::Unsent));
            }
            connection.discard_output();
            if !matches!(self.upload, Upload::Done) {
                self.upload = Upload::Broken;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next piece of the answer's body.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(Err(_)) = self.poll_upload(cx) {
            return Poll::Ready(Some(Err(BodyError::Client)));
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
                        // Usually the end is here already: then all can leave in one write.
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
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Cut(None)))),
                Err(error) => return Poll::Ready(Some(Err(BodyError::Cut(Some(error))))),
                Ok(_) => {}
            }
        }
    }

    /// Whether nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    /// How much is still to come, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.download {
            _ if self.is_over() => Some(0),
            Framing::Sized(left) => Some(left),
            Framing::Chunked(_) | Framing::ToEnd => None,
        }
    }

    /// The answer is complete: the backend has nothing more to do with it.
    fn finish(&mut self) {
        let (connection, under_way) = (self.connection.take(), self.under_way.take());
        if let (Some(connection), Some(under_way)) = (connection, under_way)
            && self.keep
            && matches!(self.upload, Upload::Done)
            && connection.input.is_empty()
        {
            under_way.give_back(connection);
        }
    }

    /// After a switch of protocols: the socket, what was read from it, and the count.
    pub(crate) fn into_tunnel(self) -> Option<(TcpStream, BytesMut, UnderWay)> {
        let (stream, input) = self.connection?.into_stream();
        Some((stream, input, self.under_way?))
    }
}
