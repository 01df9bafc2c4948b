//! Requests over HTTP/2 that no library sends, frame by frame.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

mod support;

use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A complete request without a body, each field as a literal that is not indexed (RFC 7541 §6.2.2).
fn get(stream: u8, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    let mut block = Vec::new();
    for (name, value) in fields.iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    let flags = 0x4 | 0x1; // END_HEADERS and END_STREAM
    let mut frame = vec![0, 0, block.len() as u8, HEADERS, flags, 0, 0, 0, stream];
    frame.extend(block);
    frame
}

/// The first frame of each of the given streams, by their types.
async fn first_frames(stream: &mut TcpStream, streams: [u8; 2]) -> [u8; 2] {
    let mut found = [None, None];
    while found.contains(&None) {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        if let Some(index) = streams.iter().position(|stream| *stream == head[8]) {
            found[index].get_or_insert(head[3]);
        }
    }
    found.map(Option::unwrap)
}

#[tokio::test]
async fn a_forbidden_header_ends_its_stream_and_not_the_connection() {
    let mirror = Service::mirror("m").await;
    let gateway = Gateway::before(&[mirror.address]).await;
    for forbidden in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&get(1, &[forbidden])).await.unwrap();
        stream.write_all(&get(3, &[("x-a", "1")])).await.unwrap();
        let frames = within(first_frames(&mut stream, [1, 3])).await;
        assert_eq!(frames, [RST_STREAM, HEADERS], "{forbidden:?}");
    }
    assert_eq!(mirror.requests(), 6, "no malformed request is forwarded");
}
