//! HTTP as it stands on the wire: requests are sent letter by letter, so that a test can also send
//! what no well-behaved client would, and answers are read whole.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The longest silence of a server before a request has failed.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers as they came, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, put together if it came in chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}, not JSON: {}", self.status, self.text()))
    }

    /// Whether the server closes the connection after this.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.contains("close"))
    }
}

/// One request on a connection of its own. The path is sent as it is.
pub fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut stream = connect(port)?;
    let head = head(port, method, path, headers, Some(body.len()));
    let sent = stream.get_mut().write_all(head.as_bytes()).and_then(|()| {
        // A server that has refused by the head alone may close before the body is through.
        stream.get_mut().write_all(body)
    });
    match response(&mut stream, method) {
        Err(error) if sent.is_err() => Err(error).context("send"),
        response => response,
    }
}

/// A connection to a server on this machine.
pub(crate) fn connect(port: u16) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// The head of a request.
pub(crate) fn head(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    length: Option<usize>,
) -> String {
    let length = length.map(|length| ("content-length", length.to_string()));
    let length = length.as_ref().map(|(name, value)| (*name, value.as_str()));
    let lines = headers.iter().copied().chain(length);
    let lines: String = lines.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{lines}\r\n")
}

/// Reads an answer to its end; the connection can be used again after it.
pub(crate) fn response(stream: &mut impl BufRead, method: &str) -> Result<Response> {
    let (status, headers) = response_head(stream)?;
    let mut response = Response { status, headers, body: Vec::new() };
    if method == "HEAD" || matches!(status, 204 | 304) {
        return Ok(response);
    }
    if is_chunked(&response.headers) {
        while let Some(chunk) = chunk(stream)? {
            response.body.extend(chunk);
        }
    } else if let Some(length) = response.header("content-length") {
        response.body = vec![0; length.parse().context("the length of a body")?];
        stream.read_exact(&mut response.body).context("read the body")?;
    } else {
        stream.read_to_end(&mut response.body).context("read the body")?;
    }
    Ok(response)
}

fn response_head(stream: &mut impl BufRead) -> Result<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    stream.read_line(&mut line).context("read the status")?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no status: {line:?}"))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).context("read a header")? == 0 {
            bail!("the answer ended in its headers (status {status})");
        }
        match line.trim_end().split_once(':') {
            None => return Ok((status, headers)),
            Some((name, value)) => {
                headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
            }
        }
    }
}

fn is_chunked(headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, value)| name == "transfer-encoding" && value.contains("chunked"))
}

/// The next chunk of a body, none after the last.
fn chunk(stream: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = String::new();
    stream.read_line(&mut line).context("read a chunk's size")?;
    let size = usize::from_str_radix(line.trim(), 16).context("a chunk's size")?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).context("read a chunk")?;
    chunk.truncate(size);
    Ok((size > 0).then_some(chunk))
}

/// A stream of events that is read as it comes, until it is dropped or the server ends it.
pub struct Events {
    /// Its status and headers.
    pub head: Response,
    stream: TcpStream,
    text: Arc<Mutex<String>>,
}

impl Events {
    /// Follows events as curl does.
    pub fn follow(port: u16, path: &str) -> Result<Events> {
        let mut reader = connect(port)?;
        let accept = [("accept", "text/event-stream")];
        reader.get_mut().write_all(head(port, "GET", path, &accept, None).as_bytes())?;
        let (status, headers) = response_head(&mut reader)?;
        let head = Response { status, headers, body: Vec::new() };
        let stream = reader.get_ref().try_clone()?;
        let text = Arc::new(Mutex::new(String::new()));
        if is_chunked(&head.headers) {
            let text = Arc::clone(&text);
            std::thread::spawn(move || {
                while let Ok(Some(chunk)) = chunk(&mut reader) {
                    let Ok(mut text) = text.lock() else { return };
                    text.push_str(&String::from_utf8_lossy(&chunk));
                }
            });
        }
        Ok(Events { head, stream, text })
    }

    /// All that has come so far, as it came.
    pub fn text(&self) -> String {
        self.text.lock().map(|text| text.clone()).unwrap_or_default()
    }

    /// The events received up to now: names and data.
    pub fn seen(&self) -> Result<Vec<(String, Value)>> {
        let text = self.text().replace("\r\n", "\n");
        // The last part is not whole yet, or empty.
        let mut parts: Vec<&str> = text.split("\n\n").collect();
        parts.pop();
        let line = |part: &str, field: &str| {
            let found = part.lines().find_map(|line| line.strip_prefix(field));
            found.map(String::from)
        };
        let mut events = Vec::new();
        for part in parts {
            if let (Some(name), Some(data)) = (line(part, "event: "), line(part, "data: ")) {
                events.push((name, serde_json::from_str(&data).context(data)?));
            }
        }
        Ok(events)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // The reading thread ends with the connection.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
