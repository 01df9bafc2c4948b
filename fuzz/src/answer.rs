//! HTTP/1.1 responses of backends: a byte with the size of the reads and the method of the request,
//! then the bytes of the response.
//!
//! The size of the reads makes no difference to the head, the content, the trailers and the bytes
//! after them. No field is forwarded from which the client could conclude another end of the body
//! than the gateway did.

use bytes::BytesMut;
use http::{HeaderMap, Method, header};

// The gateway's own files; see the documentation of this crate.
#[path = "../../crates/gateway/src/backend/chunked.rs"]
mod chunked;
#[path = "../../crates/gateway/src/backend/field.rs"]
#[allow(dead_code, reason = "the gateway uses more of it")]
mod field;
#[path = "../../crates/gateway/src/backend/head.rs"]
#[allow(dead_code, reason = "the gateway uses more of it")]
mod head;

use chunked::Piece;
use head::Framing;

pub(crate) fn run(input: &[u8]) {
    let Some((how, answer)) = input.split_first() else { return };
    let method = if how % 2 == 0 { Method::GET } else { Method::HEAD };
    let whole = read(&method, &mut [answer].into_iter());
    let step = usize::from(how / 2) + 1;
    assert_eq!(read(&method, &mut answer.chunks(step)), whole, "in pieces of {step}");
}

/// A response.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    keep_alive: bool,
    headers: HeaderMap,
    /// The content, the trailers and the bytes after them; `None` if the body is truncated or malformed.
    body: Option<(Vec<u8>, HeaderMap, Vec<u8>)>,
}

fn read(method: &Method, pieces: &mut dyn Iterator<Item = &[u8]>) -> Option<Answer> {
    let mut input = BytesMut::new();
    let mut headers = HeaderMap::new();
    let found = loop {
        input.extend_from_slice(pieces.next()?);
        match head::parse(&mut input, method, &mut headers) {
            Ok(Some(found)) => break found,
            Ok(None) => assert!(headers.is_empty(), "fields are added only with a complete head"),
            Err(invalid) => {
                assert!(!invalid.to_string().is_empty());
                return None;
            }
        }
    };
    forwards_one_end(&headers, &found.framing, method);
    let (status, keep_alive) = (found.status.as_u16(), found.keep_alive);
    let body = content(found.framing, input, pieces);
    Some(Answer { status, keep_alive, headers, body })
}

fn forwards_one_end(headers: &HeaderMap, framing: &Framing, method: &Method) {
    for name in [header::TRANSFER_ENCODING, header::CONNECTION] {
        assert!(!headers.contains_key(&name), "{name} belongs to one connection");
    }
    let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
    assert!(lengths.len() <= 1, "{lengths:?}");
    let length = lengths.first().and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match framing {
        Framing::Sized(len) if method != Method::HEAD && *len > 0 => {
            assert_eq!(length, Some(*len), "the client gets the same length");
        }
        Framing::Sized(_) => {}
        Framing::Chunked(_) | Framing::ToEnd => assert_eq!(length, None, "nothing contradicts"),
    }
}

fn content(
    framing: Framing,
    mut input: BytesMut,
    pieces: &mut dyn Iterator<Item = &[u8]>,
) -> Option<(Vec<u8>, HeaderMap, Vec<u8>)> {
    let mut decoder = match framing {
        Framing::Sized(len) => {
            pieces.for_each(|piece| input.extend_from_slice(piece));
            let len = usize::try_from(len).ok().filter(|len| *len <= input.len())?;
            let content = input.split_to(len).to_vec();
            return Some((content, HeaderMap::new(), input.to_vec()));
        }
        Framing::ToEnd => {
            pieces.for_each(|piece| input.extend_from_slice(piece));
            return Some((input.to_vec(), HeaderMap::new(), Vec::new()));
        }
        Framing::Chunked(decoder) => decoder,
    };
    let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
    loop {
        match decoder.next(&mut input).ok()? {
            Piece::Data(data) => content.extend_from_slice(&data),
            Piece::Trailers(found) => trailers = found,
            Piece::More => input.extend_from_slice(pieces.next()?),
            Piece::End => {
                pieces.for_each(|piece| input.extend_from_slice(piece));
                return Some((content, trailers, input.to_vec()));
            }
        }
    }
}
