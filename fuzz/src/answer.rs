//! HTTP/1.1 answers of backends: a byte that says how they are cut, and what was asked, then what comes.
//!
//! However an answer is cut into pieces, it says the same: its head, its content, its trailers and
//! what is left for the next. No field goes on to the client that would let it see another end of
//! the body than the gateway saw.

use bytes::BytesMut;
use http::{HeaderMap, Method, header};

// The gateway's own files, see the crate's page.
#[path = "../../crates/gateway/src/backend/chunked.rs"]
mod chunked;
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

/// What an answer says.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    keep: bool,
    headers: HeaderMap,
    /// The content, the trailers and what is left; nothing if the body is not all there or broken.
    body: Option<(Vec<u8>, HeaderMap, Vec<u8>)>,
}

fn read(method: &Method, pieces: &mut dyn Iterator<Item = &[u8]>) -> Option<Answer> {
    let mut input = BytesMut::new();
    let mut headers = HeaderMap::new();
    let found = loop {
        input.extend_from_slice(pieces.next()?);
        match head::parse(&mut input, method, &mut headers) {
            Ok(Some(found)) => break found,
            Ok(None) => assert!(headers.is_empty(), "fields come all at once"),
            Err(garbage) => {
                assert!(!garbage.to_string().is_empty());
                return None;
            }
        }
    };
    passes_on_one_end(&headers, &found.framing, method);
    let (status, keep) = (found.status.as_u16(), found.keep_alive);
    let body = content(found.framing, input, pieces);
    Some(Answer { status, keep, headers, body })
}

fn passes_on_one_end(headers: &HeaderMap, framing: &Framing, method: &Method) {
    for name in [header::TRANSFER_ENCODING, header::CONNECTION] {
        assert!(!headers.contains_key(&name), "{name} concerns one connection");
    }
    let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
    assert!(lengths.len() <= 1, "{lengths:?}");
    let length = lengths.first().and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match framing {
        Framing::Sized(len) if method != Method::HEAD && *len > 0 => {
            assert_eq!(length, Some(*len), "the client is told the same length");
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
