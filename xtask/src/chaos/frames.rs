//! An upload over HTTP/2 in small frames, written by hand: a client of a library would merge them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Result, bail};

/// The content of a frame. A gateway ends a connection with many frames that are much smaller.
const PIECE: [u8; 1000] = [b'x'; 1000];
/// How long a step waits for frames of the gateway.
const STEP: Duration = Duration::from_millis(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// The setting of the initial window of a stream.
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The initial windows (RFC 9113 §6.9.2).
const WINDOW: i64 = 65_535;

/// An upload without an end.
pub(super) struct Upload {
    stream: TcpStream,
    input: Vec<u8>,
    /// How much may be sent: on the connection, and in the stream.
    window: i64,
    stream_window: i64,
    stream_window_initial: i64,
    sent: usize,
}

impl Upload {
    /// Begins `POST path`.
    pub(super) fn start(mut stream: TcpStream, path: &str) -> Result<Upload> {
        stream.set_read_timeout(Some(STEP))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        write(&mut stream, SETTINGS, 0, 0, &[])?;
        // Indexes of the static table (RFC 7541 appendix A): POST, http, :path, :authority.
        let mut block = vec![0x83, 0x86];
        for (index, value) in [(0x04, path), (0x01, "chaos")] {
            block.extend([index, value.len() as u8]);
            block.extend_from_slice(value.as_bytes());
        }
        write(&mut stream, HEADERS, END_HEADERS, 1, &block)?;
        let (window, stream_window, stream_window_initial) = (WINDOW, WINDOW, WINDOW);
        let input = Vec::new();
        Ok(Upload { stream, input, window, stream_window, stream_window_initial, sent: 0 })
    }

    /// The number of bytes of the body that were sent.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Sends as much as the windows allow, and reads the frames that have arrived.
    pub(super) fn step(&mut self) -> Result<()> {
        let piece = PIECE.len() as i64;
        while self.window.min(self.stream_window) >= piece {
            write(&mut self.stream, DATA, 0, 1, &PIECE)?;
            self.window -= piece;
            self.stream_window -= piece;
            self.sent += PIECE.len();
        }
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => bail!("the gateway closed the connection"),
            Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some((kind, flags, id, payload)) = next(&mut self.input) {
            self.receive(kind, flags, id, &payload)?;
        }
        Ok(())
    }

    fn receive(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Result<()> {
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    let name = u16::from_be_bytes([setting[0], setting[1]]);
                    if name == INITIAL_WINDOW_SIZE {
                        let initial = i64::from(number(&setting[2..]));
                        self.stream_window += initial - self.stream_window_initial;
                        self.stream_window_initial = initial;
                    }
                }
                write(&mut self.stream, SETTINGS, ACK, 0, &[])
            }
            WINDOW_UPDATE if id == 0 => {
                self.window += i64::from(number(payload));
                Ok(())
            }
            WINDOW_UPDATE => {
                self.stream_window += i64::from(number(payload));
                Ok(())
            }
            HEADERS | RST_STREAM | GOAWAY => bail!("the gateway ended the upload"),
            _ => Ok(()),
        }
    }
}

fn write(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Result<()> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend_from_slice(payload);
    Ok(stream.write_all(&frame)?)
}

/// Takes the next frame out of `input` once it is complete: type, flags, stream and payload.
fn next(input: &mut Vec<u8>) -> Option<(u8, u8, u32, Vec<u8>)> {
    let head = input.first_chunk::<9>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, flags, id) = (head[3], head[4], number(&head[5..]));
    let payload = input.get(9..9 + length)?.to_vec();
    input.drain(..9 + length);
    Some((kind, flags, id, payload))
}

/// A number of 31 bits.
fn number(bytes: &[u8]) -> u32 {
    let bytes = bytes.first_chunk::<4>().copied().unwrap_or_default();
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_once_they_are_complete() {
        let mut input = vec![0, 0, 4, WINDOW_UPDATE, 0, 0x80, 0, 0, 1, 0, 0, 1];
        assert_eq!(next(&mut input), None);
        input.extend([2, 0, 0]);
        assert_eq!(next(&mut input), Some((WINDOW_UPDATE, 0, 1, vec![0, 0, 1, 2])));
        assert_eq!(input, [0, 0]);
        assert_eq!(number(&[0, 0, 1, 2]), 258);
    }
}
