//! Reads the head of a response and decides how its body is framed (RFC 9112 §6.3).

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::chunked::Decoder;
use super::field::is_hop_by_hop;

/// Maximum number of header fields of a response.
const FIELDS_MAX: usize = 100;
/// Maximum size of the head of a response, in bytes.
pub(crate) const HEAD_MAX: usize = 64 * 1024;

/// Why a response cannot be forwarded. The text follows the name of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidResponse {
    #[error("its response is not HTTP")]
    NotHttp,
    #[error("the head of its response is too large")]
    TooLarge,
    #[error("its response has an invalid or contradictory content length")]
    Length,
    #[error("its response has a transfer coding that is not supported")]
    TransferCoding,
    #[error("it switched protocols without a request to do so")]
    UnexpectedUpgrade,
    #[error("it sent too many interim responses")]
    Interim,
}

/// The head of a response.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) framing: Framing,
    /// Whether the connection may carry another request.
    pub(crate) keep_alive: bool,
}

/// How the end of a body is found.
#[derive(Debug)]
pub(crate) enum Framing {
    /// This number of bytes is left.
    Sized(u64),
    Chunked(Decoder),
    /// It ends when the connection does.
    ToEnd,
}

/// Takes the head of a response to a `method` request out of `input` once it is complete. Its fields
/// replace those in `headers` (which keeps its memory), except the fields of this connection. Until
/// then `headers` is unchanged.
pub(crate) fn parse(
    input: &mut BytesMut,
    method: &Method,
    headers: &mut HeaderMap,
) -> Result<Option<Head>, InvalidResponse> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut places = [(0u32, 0u32, 0u32, 0u32); FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        input,
        &mut slots,
    );
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(InvalidResponse::TooLarge);
        }
        Err(_) => return Err(InvalidResponse::NotHttp),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(InvalidResponse::NotHttp)?;
    let is_http_11 = response.version == Some(1);
    // The fields are slices of `input`; as offsets they allow to split it without a copy.
    let base = input.as_ptr() as usize;
    let place = |bytes: &[u8]| {
        let start = (bytes.as_ptr() as usize).wrapping_sub(base);
        // At most HEAD_MAX and one read, so it always fits.
        (start as u32, (start + bytes.len()) as u32)
    };
    let count = response.headers.len();
    for (field, to) in response.headers.iter().zip(&mut places) {
        let (name, value) = (place(field.name.as_bytes()), place(field.value));
        *to = (name.0, name.1, value.0, value.1);
    }
    let head = input.split_to(len).freeze();
    headers.clear();
    read_fields(&head, &places[..count], status, is_http_11, method, headers)
}

fn read_fields(
    head: &bytes::Bytes,
    places: &[(u32, u32, u32, u32)],
    status: StatusCode,
    is_http_11: bool,
    method: &Method,
    headers: &mut HeaderMap,
) -> Result<Option<Head>, InvalidResponse> {
    let mut keep_alive = is_http_11;
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut connection_names = false;
    headers.reserve(places.len());
    for (name_start, name_end, start, end) in places {
        let name = &head[*name_start as usize..*name_end as usize];
        let name = HeaderName::from_bytes(name).map_err(|_| InvalidResponse::NotHttp)?;
        let value = head.slice(*start as usize..*end as usize);
        match name {
            header::CONTENT_LENGTH => {
                let this = content_length(&value)?;
                if length.replace(this).is_some_and(|before| before != this) {
                    return Err(InvalidResponse::Length);
                }
                if headers.contains_key(header::CONTENT_LENGTH) {
                    continue;
                }
            }
            header::TRANSFER_ENCODING => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") || !is_http_11 {
                    return Err(InvalidResponse::TransferCoding);
                }
                chunked = true;
                continue;
            }
            header::CONNECTION => {
                for token in tokens(&value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        keep_alive = false;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        keep_alive |= !is_http_11;
                    } else {
                        connection_names = true;
                    }
                }
            }
            header::UPGRADE if status != StatusCode::SWITCHING_PROTOCOLS => continue,
            _ if is_hop_by_hop(&name) => continue,
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| InvalidResponse::NotHttp)?;
        headers.append(name, value);
    }
    if connection_names {
        remove_named(headers);
    }
    headers.remove(header::CONNECTION);
    let without_body = method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let framing = if without_body {
        Framing::Sized(0)
    } else if chunked {
        // The coding takes precedence; a connection with both is not reused (RFC 9112 §6.3).
        keep_alive &= length.is_none();
        headers.remove(header::CONTENT_LENGTH);
        Framing::Chunked(Decoder::Size)
    } else if let Some(length) = length {
        Framing::Sized(length)
    } else {
        keep_alive = false;
        Framing::ToEnd
    };
    Ok(Some(Head { status, framing, keep_alive }))
}

fn content_length(value: &[u8]) -> Result<u64, InvalidResponse> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(InvalidResponse::Length);
    }
    let digits = str::from_utf8(value).map_err(|_| InvalidResponse::Length)?;
    digits.parse().map_err(|_| InvalidResponse::Length)
}

/// The tokens of a field such as `Connection: close, x-mine`.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Removes the fields that `Connection` names.
fn remove_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        // A backend must not remove the fields that framing and protocol switches depend on.
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::UPGRADE)
        .collect();
    for name in named {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(Head, HeaderMap, BytesMut)>, InvalidResponse> {
        let mut input = BytesMut::from(text);
        let mut headers = HeaderMap::new();
        let head = parse(&mut input, &Method::GET, &mut headers)?;
        Ok(head.map(|head| (head, headers, input)))
    }

    #[test]
    fn keeps_the_fields_and_leaves_the_body() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello";
        let (head, headers, rest) = read(text).unwrap().unwrap();
        assert_eq!((head.status, head.keep_alive), (StatusCode::OK, true));
        assert!(matches!(head.framing, Framing::Sized(5)));
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(&rest[..], b"hello");
        assert!(read(&text[..40]).unwrap().is_none());
    }

    #[test]
    fn drops_the_fields_of_the_connection() {
        let text = "HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nKeep-Alive: 5\r\nX-Mine: 1\r\n\
                    Transfer-Encoding: chunked\r\nUpgrade: h2c\r\nTrailer: x-sum\r\n\r\n";
        let (head, headers, _) = read(text).unwrap().unwrap();
        assert!(!head.keep_alive && matches!(head.framing, Framing::Chunked(_)));
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["trailer"]);
    }

    #[test]
    fn frames_bodies_by_rfc_9112() {
        let framing = |fields: &str| {
            let (head, ..) = read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).unwrap().unwrap();
            (format!("{:?}", head.framing), head.keep_alive)
        };
        assert_eq!(framing(""), ("ToEnd".into(), false));
        assert_eq!(framing("content-length: 0\r\n"), ("Sized(0)".into(), true));
        let both = "content-length: 5\r\ntransfer-encoding: chunked\r\n";
        assert_eq!(framing(both), ("Chunked(Size)".into(), false));
        let (head, ..) = read("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n").unwrap().unwrap();
        assert!(!head.keep_alive);
        let (head, ..) = read("HTTP/1.1 304 \r\ncontent-length: 9\r\n\r\n").unwrap().unwrap();
        assert!(matches!(head.framing, Framing::Sized(0)) && head.keep_alive);
    }

    #[test]
    fn rejects_invalid_responses() {
        let check = |text: &str, error| assert_eq!(read(text).err(), Some(error), "{text}");
        check("SSH-2.0-OpenSSH\r\n\r\n", InvalidResponse::NotHttp);
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            InvalidResponse::Length,
        );
        check("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n", InvalidResponse::Length);
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            InvalidResponse::TransferCoding,
        );
        check(
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            InvalidResponse::TransferCoding,
        );
        check(
            &format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(HEAD_MAX)),
            InvalidResponse::TooLarge,
        );
    }
}
