//! A typed client with a connection pool. It repeats changes, which it sends with an id so that the
//! server executes each once, but no other request: only callers know whether that is safe.

use std::iter;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use model::Mismatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::error::{ErrorBody, ErrorCode};
use crate::membership::{DAEMON, Membership, POSITION};
use crate::socket;

/// Why a request has no usable response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL of the server is invalid.
    #[error("`{url}` is not the address of a server: expected one such as http://127.0.0.1:4040")]
    Address {
        /// The URL of the server.
        url: String,
    },
    /// The connection failed or was closed before the response was complete.
    #[error("no response from {url}")]
    Unreachable {
        /// The URL of the server.
        url: String,
        /// The error of the connection.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server did not respond in time. It may or may not have executed the request, or may do
    /// so later.
    #[error("no response from {url} for {} seconds", .waited.as_secs())]
    Timeout {
        /// The URL of the server.
        url: String,
        /// The timeout.
        waited: Duration,
    },
    /// The server rejected the request.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// The server does not belong to the cluster of this daemon, or has an older store.
    #[error("{url} is not followed")]
    Mismatch {
        /// The URL of the server.
        url: String,
        /// The reason.
        #[source]
        source: Mismatch,
    },
    /// Another program than a Muster server responded.
    #[error("{url} is not a Muster server")]
    NotMuster {
        /// The URL of the server.
        url: String,
        /// The HTTP status of the response.
        status: u16,
    },
    /// The response is not a document that this version can read.
    #[error("{url} sent a response that this version of muster cannot read")]
    InvalidResponse {
        /// The URL of the server.
        url: String,
        /// The error of the parser.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the server must not direct this daemon: it is of another cluster, or its store is
    /// older than what the daemon knows.
    pub fn is_wrong_server(&self) -> bool {
        match self {
            Error::Mismatch { .. } => true,
            Error::Refused(body) => body.code == ErrorCode::WrongServer,
            _ => false,
        }
    }

    /// Whether there was no connection, so that no server has received the request.
    fn is_connect(&self) -> bool {
        let Error::Unreachable { source, .. } = self else { return false };
        let source = source.downcast_ref::<hyper_util::client::legacy::Error>();
        source.is_some_and(hyper_util::client::legacy::Error::is_connect)
    }
}

/// Interval of the heartbeats that a server sends on a stream that is otherwise silent.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// The header with the id of a change. A server executes a change once, however often it is sent.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("idempotency-key");

/// Maximum number of repetitions of a change whose connections break. Together with the delays, they
/// span the restart of a server.
const REPETITIONS_MAX: usize = 6;
const REPETITION_DELAY_MIN: Duration = Duration::from_millis(100);
const REPETITION_DELAY_MAX: Duration = Duration::from_secs(2);

/// Timeout for the head of a response, and for each further piece of it: a server that hangs must
/// not block its clients.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for the next heartbeat of a stream. The connection of a hanging server stays open.
const HEARTBEAT_TIMEOUT: Duration = HEARTBEAT.saturating_mul(3);

/// A client of one server (or of an agent's log API).
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    membership: Option<Membership>,
    pool: Pool<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:4040`. Connects with the first
    /// request.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if `url` is not an `http` URL with a host.
    pub fn new(url: &str) -> Result<Client, Error> {
        let base = url.trim_end_matches('/').to_string();
        let uri: Option<Uri> = base.parse().ok();
        if !uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some()) {
            return Err(Error::Address { url: url.into() });
        }
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_timer(TokioTimer::new())
            .build(socket::connector());
        Ok(Client { base, membership: None, pool })
    }

    /// The client of a daemon, which follows only servers of its cluster.
    pub fn of_daemon(self, membership: Membership) -> Client {
        Client { membership: Some(membership), ..self }
    }

    /// The URL of the server.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Sends `GET` and reads the response as a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.document(self.send(Method::GET, path, Bytes::new(), None).await?).await
    }

    /// Sends a document by `POST` and reads the response as a document.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|source| self.invalid_response(source))?;
        self.document(self.send(Method::POST, path, body.into(), None).await?).await
    }

    /// Sends a change by `POST` and reads the response as a document. If the connection breaks
    /// before the response is complete, the change is sent again under the same id.
    pub async fn change<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|source| self.invalid_response(source))?;
        self.send_change(Method::POST, path, body.into()).await
    }

    /// Sends `DELETE` and reads the response as a document. Repeats the request as
    /// [`Client::change`] does.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.send_change(Method::DELETE, path, Bytes::new()).await
    }

    async fn send_change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let id = format!("{:032x}", fastrand::u128(..));
        let mut backoff = Backoff::new(REPETITION_DELAY_MIN, REPETITION_DELAY_MAX, &id);
        let mut delays = iter::repeat_with(|| backoff.next_delay()).take(REPETITIONS_MAX);
        let mut may_be_executed = false;
        loop {
            let sent = self.send(method.clone(), path, body.clone(), Some(&id)).await;
            let outcome = match sent {
                Ok(response) => self.document(response).await,
                Err(error) => Err(error),
            };
            let Err(error @ Error::Unreachable { .. }) = outcome else { return outcome };
            may_be_executed |= !error.is_connect();
            match delays.next().filter(|_| may_be_executed) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(error),
            }
        }
    }

    /// Sends `GET` and returns the lines of the response, without a timeout between lines.
    pub async fn lines(&self, path: &str) -> Result<Lines, Error> {
        self.open(path, None).await
    }

    /// Sends `GET` and returns the lines of a stream on which the server sends an empty line after
    /// each [`HEARTBEAT`] of silence. Its absence is a timeout.
    pub async fn follow(&self, path: &str) -> Result<Lines, Error> {
        self.open(path, Some(HEARTBEAT_TIMEOUT)).await
    }

    async fn open(&self, path: &str, heartbeat_timeout: Option<Duration>) -> Result<Lines, Error> {
        let body = self.send(Method::GET, path, Bytes::new(), None).await?.into_body();
        Ok(Lines { client: self.clone(), body, buffer: BytesMut::new(), heartbeat_timeout })
    }

    /// Sends `GET` and returns the response unread, for relaying.
    pub async fn raw(&self, path: &str) -> Result<Response<Incoming>, Error> {
        self.send(Method::GET, path, Bytes::new(), None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        id: Option<&str>,
    ) -> Result<Response<Incoming>, Error> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        if let Some(header) = self.membership.as_ref().and_then(Membership::header) {
            request = request.header(DAEMON, header);
        }
        let request =
            request.body(Full::new(body)).map_err(|_| Error::Address { url: url.clone() })?;
        let answered = self.within(Some(RESPONSE_TIMEOUT), self.pool.request(request)).await?;
        let response = answered.map_err(|source| self.lost(source))?;
        if let Some(membership) = &self.membership {
            let stated = response.headers().get(POSITION).and_then(|value| value.to_str().ok());
            let stated = stated.and_then(|position| position.parse().ok());
            let checked = membership.check(stated, response.status().is_success());
            checked.map_err(|source| Error::Mismatch { url: self.base.clone(), source })?;
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.collect(response.into_body()).await?;
        Err(match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Error::Refused(body),
            // Every error response of a server has such a body.
            Err(_) => Error::NotMuster { url: self.base.clone(), status: status.as_u16() },
        })
    }

    async fn document<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, Error> {
        let status = response.status().as_u16();
        let body = self.collect(response.into_body()).await?;
        serde_json::from_slice(&body).map_err(|source| match source.is_syntax() {
            true => Error::NotMuster { url: self.base.clone(), status },
            false => self.invalid_response(source),
        })
    }

    async fn collect(&self, mut body: Incoming) -> Result<BytesMut, Error> {
        let mut bytes = BytesMut::new();
        while self.read(&mut body, &mut bytes, Some(RESPONSE_TIMEOUT)).await? {}
        Ok(bytes)
    }

    /// Reads the next piece of a body; `false` at its end.
    async fn read(
        &self,
        body: &mut Incoming,
        into: &mut BytesMut,
        limit: Option<Duration>,
    ) -> Result<bool, Error> {
        let Some(frame) = self.within(limit, body.frame()).await? else { return Ok(false) };
        let frame = frame.map_err(|source| self.lost(source))?;
        into.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        Ok(true)
    }

    async fn within<T>(
        &self,
        limit: Option<Duration>,
        response: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let Some(waited) = limit else { return Ok(response.await) };
        let late = |_| Error::Timeout { url: self.base.clone(), waited };
        tokio::time::timeout(waited, response).await.map_err(late)
    }

    fn lost(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Unreachable { url: self.base.clone(), source: source.into() }
    }

    fn invalid_response(&self, source: serde_json::Error) -> Error {
        Error::InvalidResponse { url: self.base.clone(), source }
    }
}

/// The lines of a response.
#[derive(Debug)]
pub struct Lines {
    client: Client,
    body: Incoming,
    buffer: BytesMut,
    /// Timeout for the next line. If set, empty lines are heartbeats and skipped.
    heartbeat_timeout: Option<Duration>,
}

impl Lines {
    /// The next line without its line feed; `None` at the end of the response.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + at + 1).freeze();
                let line = line.slice(..line.len() - 1);
                searched = 0;
                if line.is_empty() && self.heartbeat_timeout.is_some() {
                    continue;
                }
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if !self.client.read(&mut self.body, &mut self.buffer, self.heartbeat_timeout).await? {
                // Plain text may end without a line feed. In a stream of documents a last line
                // without one was truncated.
                let rest = self.buffer.split().freeze();
                return Ok(
                    Some(rest).filter(|rest| !rest.is_empty() && self.heartbeat_timeout.is_none())
                );
            }
        }
    }

    /// The next line, read as a document.
    pub async fn next_document<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        match self.next().await? {
            None => Ok(None),
            Some(line) => serde_json::from_slice(&line)
                .map(Some)
                .map_err(|source| self.client.invalid_response(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const STREAM: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    /// A client, and the socket of a server that responds to its first request with `response` and
    /// then stays silent.
    async fn with_server<T>(response: &str, call: impl AsyncFn(Client) -> T) -> (T, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await.unwrap();
            socket.write_all(response.as_bytes()).await.unwrap();
            socket
        };
        tokio::join!(call(Client::new(&url).unwrap()), serve)
    }

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    #[tokio::test]
    async fn a_stream_without_heartbeats_times_out() {
        let response = format!("{STREAM}{}", chunk("\n{}\n\n"));
        let open = async |client: Client| client.follow("/").await.unwrap();
        let (mut lines, _socket) = with_server(&response, open).await;
        assert_eq!(lines.next().await.unwrap().unwrap(), "{}");
        tokio::time::pause();
        let ended = tokio::time::timeout(HEARTBEAT_TIMEOUT + HEARTBEAT, lines.next()).await;
        let error = ended.expect("silence is noticed").unwrap_err();
        assert!(matches!(error, Error::Timeout { waited: HEARTBEAT_TIMEOUT, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_response_that_stalls_times_out() {
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{";
        let call = async |client: Client| (client.raw("/").await.unwrap(), client);
        let ((response, client), _socket) = with_server(response, call).await;
        tokio::time::pause();
        let whole = client.document::<serde_json::Value>(response);
        let ended = tokio::time::timeout(RESPONSE_TIMEOUT * 2, whole).await;
        assert!(matches!(ended.expect("it is not waited for"), Err(Error::Timeout { .. })));
    }

    /// Reads requests and closes their connections, except for the last one, which has a response.
    /// Returns the lines with their ids.
    async fn serve_the_last(listener: TcpListener, requests: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for remaining in (0..requests).rev() {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let len = socket.read(&mut head).await.unwrap();
            let head = String::from_utf8(head[..len].to_vec()).unwrap();
            let id = head.lines().find(|line| line.starts_with(REQUEST_ID.as_str()));
            ids.push(id.unwrap_or_default().to_string());
            if remaining == 0 {
                let response = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                socket.write_all(response.as_bytes()).await.unwrap();
            }
        }
        ids
    }

    #[tokio::test]
    async fn a_change_is_repeated_under_its_id_if_the_connection_breaks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let change = client.change::<serde_json::Value>("/", &1);
        let (outcome, ids) = tokio::join!(change, serve_the_last(listener, 3));
        assert_eq!(outcome.unwrap(), serde_json::json!({}));
        assert!(ids[0].len() > "idempotency-key: ".len() && ids.iter().all(|id| *id == ids[0]));
    }

    #[tokio::test]
    async fn a_change_that_no_server_received_is_not_repeated() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        let outcome = client.change::<serde_json::Value>("/", &1).await;
        assert!(outcome.is_err_and(|error| error.is_connect()));
        assert!(started.elapsed() < REPETITION_DELAY_MIN / 2);
    }

    #[tokio::test]
    async fn only_changes_are_repeated() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let post = client.post::<serde_json::Value>("/", &1);
        let close = async { drop(listener.accept().await.unwrap()) };
        let (outcome, ()) = tokio::join!(post, close);
        assert!(matches!(outcome, Err(Error::Unreachable { .. })), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_response_of_another_program_is_recognised() {
        let page = "<html>";
        for response in ["404 Not Found", "405 Method Not Allowed", "200 OK"] {
            let length = page.len();
            let response = format!("HTTP/1.1 {response}\r\ncontent-length: {length}\r\n\r\n{page}");
            let call = async |client: Client| client.get::<serde_json::Value>("/").await;
            let (answered, _socket) = with_server(&response, call).await;
            assert!(matches!(answered, Err(Error::NotMuster { .. })), "{answered:?}");
        }
    }

    #[tokio::test]
    async fn text_keeps_empty_lines_and_an_unterminated_last_line() {
        let response = format!("{STREAM}{}0\r\n\r\n", chunk("a\n\nb\nc"));
        let open = async |client: Client| client.lines("/").await.unwrap();
        let (mut lines, _socket) = with_server(&response, open).await;
        let mut text = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            text.push(line);
        }
        assert_eq!(text, ["a", "", "b", "c"]);
    }
}
