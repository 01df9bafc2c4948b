//! Reads a chunked body (RFC 9112 §7.1) strictly: a line that another parser could read differently
//! (bare line feeds, signs, spaces in a size) is rejected.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::field::is_forbidden_trailer;

/// Maximum length of the line with a size and its extensions, in bytes.
const LINE_MAX: usize = 1024;
/// Maximum size of all trailers together, in bytes.
const TRAILERS_MAX: usize = 16 * 1024;

/// The body violates the format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The next piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Content.
    Data(Bytes),
    /// The trailers, after which the body ends. Forbidden ones are left out.
    Trailers(HeaderMap),
    /// The body has ended.
    End,
    /// More input is needed.
    More,
}

/// The position in the body: the element that is read next.
#[derive(Debug)]
pub(crate) enum Decoder {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

impl Decoder {
    /// Takes the next piece out of `input`.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self {
                Decoder::Size => {
                    let Some(end) = input.iter().take(LINE_MAX).position(|byte| *byte == b'\n')
                    else {
                        return if input.len() < LINE_MAX {
                            Ok(Piece::More)
                        } else {
                            Err(Malformed)
                        };
                    };
                    let size = size(&input[..end])?;
                    input.advance(end + 1);
                    *self = if size == 0 { Decoder::Trailers } else { Decoder::Data(size) };
                }
                Decoder::Data(left) => {
                    if input.is_empty() {
                        return Ok(Piece::More);
                    }
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= here as u64;
                    if *left == 0 {
                        *self = Decoder::DataEnd;
                    }
                    return Ok(Piece::Data(input.split_to(here).freeze()));
                }
                Decoder::DataEnd => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        *self = Decoder::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(Malformed),
                },
                Decoder::Trailers => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        *self = Decoder::Done;
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    all => {
                        let head = &all[..all.len().min(TRAILERS_MAX)];
                        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                            return if all.len() < TRAILERS_MAX {
                                Ok(Piece::More)
                            } else {
                                Err(Malformed)
                            };
                        };
                        let trailers = trailers(&head[..end + 4])?;
                        input.advance(end + 4);
                        *self = Decoder::Done;
                        return Ok(Piece::Trailers(trailers));
                    }
                },
                Decoder::Done => return Ok(Piece::End),
            }
        }
    }
}

fn size(line: &[u8]) -> Result<u64, Malformed> {
    let line = line.strip_suffix(b"\r").ok_or(Malformed)?;
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    // Extensions are allowed and ignored.
    let rest = line[digits..].trim_ascii_start();
    let plain = rest.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    if !(rest.is_empty() || rest[0] == b';') || !plain || !(1..=16).contains(&digits) {
        return Err(Malformed);
    }
    let digits = str::from_utf8(&line[..digits]).map_err(|_| Malformed)?;
    u64::from_str_radix(digits, 16).map_err(|_| Malformed)
}

fn trailers(text: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut slots = [httparse::EMPTY_HEADER; 32];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(text, &mut slots)
    else {
        return Err(Malformed);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?;
        if !is_forbidden_trailer(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads `text` in pieces of `step` bytes; returns the content, the trailers, and the rest.
    fn read(text: &[u8], step: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), Malformed> {
        let (mut input, mut decoder) = (BytesMut::new(), Decoder::Size);
        let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
        let mut rest = text.chunks(step);
        loop {
            match decoder.next(&mut input)? {
                Piece::Data(data) => content.extend_from_slice(&data),
                Piece::Trailers(found) => trailers = found,
                Piece::More => match rest.next() {
                    Some(more) => input.extend_from_slice(more),
                    None => return Err(Malformed),
                },
                Piece::End => {
                    let left = input.iter().chain(rest.flatten()).copied().collect();
                    return Ok((content, trailers, left));
                }
            }
        }
    }

    #[test]
    fn reads_sizes_extensions_and_trailers_across_reads() {
        let text =
            b"5\r\nhello\r\n006;a=\"b\"\r\n world\r\n0\r\nx-sum: 1\r\nset-cookie: a\r\n\r\nnext";
        for step in 1..text.len() {
            let (content, trailers, left) = read(text, step).unwrap();
            assert_eq!(content, b"hello world");
            assert_eq!((&trailers["x-sum"], trailers.len()), (&HeaderValue::from_static("1"), 1));
            assert_eq!(left, b"next");
        }
    }

    #[test]
    fn rejects_ambiguous_framing() {
        for text in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5 5\r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloX\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            b"5;\0\r\nhello\r\n0\r\n\r\n",
            b"0\r\nbad name: 1\r\n\r\n",
        ] {
            assert_eq!(read(text, 3), Err(Malformed), "{}", text.escape_ascii());
        }
        assert_eq!(read(&[b'0'; LINE_MAX + 1], 100), Err(Malformed));
    }

    proptest! {
        #[test]
        fn reads_chunks_of_any_size(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..8),
            step in 1usize..64,
        ) {
            let mut text = Vec::new();
            for piece in &pieces {
                text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                text.extend_from_slice(piece);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let (content, _, left) = read(&text, step).unwrap();
            prop_assert_eq!(content, pieces.concat());
            prop_assert!(left.is_empty());
        }

        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..32) {
            let _ = read(&text, step);
        }
    }
}
