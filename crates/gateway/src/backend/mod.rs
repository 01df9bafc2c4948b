//! The side of the backends: HTTP/1.1 spoken by this crate itself.
//!
//! A proxy's client is simpler than a general one (one request at a time, driven by the request
//! it serves) and needs to know more: what exactly has been sent when a connection dies decides
//! whether a request may be tried again. So `encode` writes the head of a request straight from
//! the client's headers, `head` and `chunked` read answers, `connection` holds a socket and its
//! buffers, `exchange` carries one request and its answer over it, `pool` keeps the connections
//! and the counts of each backend.

pub(crate) mod chunked;
pub(crate) mod connection;
pub(crate) mod encode;
pub(crate) mod exchange;
pub(crate) mod head;
pub(crate) mod pool;
