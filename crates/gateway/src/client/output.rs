//! The output of a client's connection as far as hyper does not show it: when everything that it
//! buffered is written, and interim responses, which it cannot write.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, StatusCode, header};

/// The output of a client's connection. Shared with the socket inside hyper, which must be `Send`;
/// only one thread accesses it, so the lock is always free.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The number of complete flushes. hyper flushes its socket only when its own buffer is empty.
    flushes: AtomicU32,
    /// Whether `pending` has anything, so that a flush almost never locks it.
    is_pending: AtomicBool,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Interim responses to be written with the next flush.
    interim: Vec<u8>,
    /// The tasks that wait for that flush.
    waiters: Vec<Waker>,
}

/// A position in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u32);

impl Output {
    /// The end of everything that was given to hyper before now.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.flushes.load(Ordering::Relaxed))
    }

    /// Ready once the kernel has everything before `mark`.
    pub(crate) fn poll_written(&self, mark: Mark, cx: &mut Context<'_>) -> Poll<()> {
        if self.mark() != mark {
            return Poll::Ready(());
        }
        let mut pending = self.pending();
        if !pending.waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            pending.waiters.push(cx.waker().clone());
        }
        self.is_pending.store(true, Ordering::Relaxed);
        Poll::Pending
    }

    /// Adds an interim response. It is written with the next flush; nothing may be given to hyper
    /// before that.
    pub(crate) fn add_interim(&self, status: StatusCode, headers: &HeaderMap) {
        let mut pending = self.pending();
        let out = &mut pending.interim;
        let reason = status.canonical_reason().unwrap_or_default();
        out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        for (name, value) in headers {
            if *name != header::CONTENT_LENGTH {
                for bytes in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                    out.extend_from_slice(bytes);
                }
            }
        }
        out.extend_from_slice(b"\r\n");
        self.is_pending.store(true, Ordering::Relaxed);
    }

    /// The interim responses to write before the socket is flushed.
    pub(super) fn take_interim(&self) -> Vec<u8> {
        match self.is_pending.load(Ordering::Relaxed) {
            true => mem::take(&mut self.pending().interim),
            false => Vec::new(),
        }
    }

    /// Notes that the socket was flushed.
    pub(super) fn flushed(&self) {
        self.flushes.store(self.flushes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if self.is_pending.load(Ordering::Relaxed) {
            self.is_pending.store(false, Ordering::Relaxed);
            let waiters = mem::take(&mut self.pending().waiters);
            waiters.into_iter().for_each(Waker::wake);
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_written_with_the_first_flush_after_its_mark() {
        let output = Output::default();
        let mut cx = Context::from_waker(Waker::noop());
        let before = output.mark();
        output.flushed();
        assert!(output.poll_written(before, &mut cx).is_ready());
        let mark = output.mark();
        assert!(output.poll_written(mark, &mut cx).is_pending());
        assert!(!output.pending().waiters.is_empty());
        output.flushed();
        assert!(output.poll_written(mark, &mut cx).is_ready());
        assert!(output.pending().waiters.is_empty());
    }

    #[test]
    fn interim_responses_are_read_once_and_have_no_length() {
        let output = Output::default();
        assert!(output.take_interim().is_empty());
        let mut headers = HeaderMap::new();
        headers.insert("link", "</a>; rel=preload".parse().unwrap());
        headers.insert("content-length", "3".parse().unwrap());
        output.add_interim(StatusCode::from_u16(103).unwrap(), &headers);
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n";
        assert_eq!(output.take_interim(), expected.as_bytes());
        assert!(output.take_interim().is_empty());
    }
}
