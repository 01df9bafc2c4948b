//! A connection to a backend: a socket with its input and output buffers. Independent of HTTP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::timer::{CoarseTimer, CoarseTimers};

/// Bounds of the size of a read. It doubles whenever a read fills its buffer.
const INPUT_MIN: usize = 8 * 1024;
const INPUT_MAX: usize = 256 * 1024;
/// Pieces up to this size are copied behind the head, so that a plain write sends both.
const COPY_MAX: usize = 4 * 1024;
/// Nothing is added to the output while more than this is still to be written.
const OUTPUT_MAX: usize = 16 * 1024;

/// A connection to a backend.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes that were read and not yet consumed.
    pub(crate) input: BytesMut,
    /// The size of the next read.
    reads: usize,
    output: Vec<u8>,
    /// The number of bytes of `output` that are written.
    written: usize,
    /// Written after `output`, without a copy. While it or `tail` is not empty, nothing may be
    /// appended to `output`.
    piece: Bytes,
    /// Written after `piece`.
    tail: &'static [u8],
    /// Whether the kernel has taken any byte of the current request.
    pub(crate) sent: bool,
    /// Whether it has carried a request before.
    pub(crate) used: bool,
    /// When it became idle, in ticks.
    pub(crate) idle_since: u32,
    pub(crate) timer: CoarseTimer,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, timers: &Rc<CoarseTimers>) -> io::Result<Box<Self>> {
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        Ok(Box::new(Self {
            stream,
            input: BytesMut::new(),
            reads: INPUT_MIN,
            output: Vec::with_capacity(1024),
            written: 0,
            piece: Bytes::new(),
            tail: b"",
            sent: false,
            used: false,
            idle_since: 0,
            timer: timers.timer(),
        }))
    }

    /// Prepares it for the next request.
    pub(crate) fn reset(&mut self) {
        self.discard_output();
        self.sent = false;
    }

    /// Drops the output that can no longer be written.
    pub(crate) fn discard_output(&mut self) {
        self.output.clear();
        self.written = 0;
        self.piece = Bytes::new();
        self.tail = b"";
    }

    /// Whether the output must be flushed before anything is added. Never true after a complete
    /// flush: a caller may alternate between the two until there is room.
    pub(crate) fn is_full(&self) -> bool {
        let unwritten = self.output.len() - self.written;
        !self.piece.is_empty() || !self.tail.is_empty() || unwritten > OUTPUT_MAX
    }

    /// Whether an idle connection is still open and without input. Reads from the kernel only if the
    /// socket is known to be readable.
    pub(crate) fn is_fresh(&mut self, cx: &mut Context<'_>) -> bool {
        self.input.is_empty() && self.poll_read(cx).is_pending()
    }

    /// Like [`Self::is_fresh`] but always asks the kernel: for requests that cannot be repeated.
    pub(crate) fn is_surely_fresh(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = SockRef::from(&self.stream).peek(&mut byte);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The buffer to append output to.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.piece.is_empty() && self.tail.is_empty(), "a piece is on its way");
        // A slow backend may never let a flush complete, so written bytes are removed before that.
        // Each removal moves less than it removes.
        let unwritten = self.output.len() - self.written;
        if self.written >= unwritten {
            self.output.drain(..self.written);
            self.written = 0;
        }
        &mut self.output
    }

    /// Appends a piece of a body, and the bytes after it.
    pub(crate) fn send(&mut self, piece: Bytes, tail: &'static [u8]) {
        let output = self.output();
        if piece.len() <= COPY_MAX {
            output.extend_from_slice(&piece);
            output.extend_from_slice(tail);
        } else {
            self.piece = piece;
            self.tail = tail;
        }
    }

    /// Ready once the kernel has all of the output.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let output = &self.output[self.written..];
            let stream = Pin::new(&mut self.stream);
            let count = if self.piece.is_empty() && self.tail.is_empty() {
                if output.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                ready!(stream.poll_write(cx, output))?
            } else {
                let slices = [output, &self.piece, self.tail].map(IoSlice::new);
                ready!(stream.poll_write_vectored(cx, &slices))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent = true;
            let of_output = count.min(self.output.len() - self.written);
            self.written += of_output;
            let of_piece = (count - of_output).min(self.piece.len());
            self.piece.advance(of_piece);
            self.tail = &self.tail[count - of_output - of_piece..];
        }
    }

    /// Reads more into `input`; zero bytes mean the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.reads / 2 {
            self.input.reserve(self.reads);
        }
        let space = self.input.capacity() - self.input.len();
        let count =
            ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))?;
        if count == space {
            self.reads = (self.reads * 2).min(INPUT_MAX);
        }
        Poll::Ready(Ok(count))
    }

    /// Returns the socket and the bytes read from it, for another protocol.
    pub(crate) fn into_stream(self) -> (TcpStream, BytesMut) {
        (self.stream, self.input)
    }
}

/// Makes the kernel detect a peer that vanished without closing the connection.
pub(crate) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}
