//! Writes the lines of a head.

use http::header::{HeaderMap, HeaderName};

/// Writes these pieces.
pub(crate) fn put(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// Writes the values of a field, with a separator between them.
pub(crate) fn joined(out: &mut Vec<u8>, headers: &HeaderMap, name: &HeaderName, separator: &[u8]) {
    for (index, value) in headers.get_all(name).iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(separator);
        }
        out.extend_from_slice(value.as_bytes());
    }
}
