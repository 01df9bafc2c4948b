//! The side of the backends: an HTTP/1.1 client written for this gateway (see `docs/adr`).
//!
//! The client of a proxy carries one request at a time, polled by the task of the client connection
//! that it serves, and must know how much of a request was sent when a connection closes: that
//! decides whether the request may be repeated. `encode` writes the head of a request from the
//! client's headers, by the `line`, `head` and `chunked` read responses, `field` knows the fields
//! that are not forwarded, `connection` holds a socket and its buffers, `pool` the idle connections
//! and counts of one backend, and `exchange` carries one request and its response.

pub(crate) mod chunked;
pub(crate) mod connection;
pub(crate) mod encode;
pub(crate) mod exchange;
pub(crate) mod field;
pub(crate) mod head;
pub(crate) mod line;
pub(crate) mod pool;
