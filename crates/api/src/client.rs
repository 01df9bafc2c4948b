//! A typed client. One connection pool, one retry of nothing: callers know whether a request may
//! be repeated, this file does not.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ErrorBody;
use crate::socket;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the server cannot be used.
    #[error("`{url}` is not the address of a server: expected one such as http://127.0.0.1:4040")]
    Address {
        /// The address.
        url: String,
    },
    /// No server answered.
    #[error("no answer from {url}")]
    Unreachable {
        /// The address.
        url: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server is there, but has not answered for too long. Whether it has done, or will do, what
    /// was asked is not known.
    #[error("no answer from {url} for {} seconds", .waited.as_secs())]
    Late {
        /// The address.
        url: String,
        /// For how long.
        waited: Duration,
    },
    /// The server answered that it cannot.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// What answered is something else.
    #[error("what answers at {url} is not a Muster server")]
    Stranger {
        /// The address.
        url: String,
        /// How it answered.
        status: u16,
    },
    /// The answer is not what this version understands.
    #[error("{url} answered what this version of muster does not understand")]
    Answer {
        /// The address.
        url: String,
        /// What was wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// On a stream that goes on, a server says at least this often that it is there.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// An answer that takes longer to begin, or to go on, is not waited for: a server that stands still
/// would keep whoever asks for ever.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A stream without a sign of life for so long is lost, though its connection may seem to live.
const SILENCE_MAX: Duration = SIGN_OF_LIFE.saturating_mul(3);

/// A client of one server (or of an agent's log API).
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    pool: Pool<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:4040`. Connects when needed.
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
        Ok(Client { base, pool })
    }

    /// The address of the server.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// `GET` an answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.whole(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    /// `DELETE` something.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.whole(self.send(Method::DELETE, path, Bytes::new()).await?).await
    }

    /// `POST` a document.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|source| self.answer(source))?;
        self.whole(self.send(Method::POST, path, body.into()).await?).await
    }

    /// `GET` text that comes line by line, for as long as both sides like.
    pub async fn lines(&self, path: &str) -> Result<Lines, Error> {
        self.open(path, None).await
    }

    /// `GET` a stream on which the server says every [`SIGN_OF_LIFE`] that it is there: by an empty
    /// line if by nothing else.
    pub async fn follow(&self, path: &str) -> Result<Lines, Error> {
        self.open(path, Some(SILENCE_MAX)).await
    }

    async fn open(&self, path: &str, silence_max: Option<Duration>) -> Result<Lines, Error> {
        let body = self.send(Method::GET, path, Bytes::new()).await?.into_body();
        Ok(Lines { client: self.clone(), body, buffer: BytesMut::new(), silence_max })
    }

    /// `GET` an answer as it is, for relaying.
    pub async fn raw(&self, path: &str) -> Result<Response<Incoming>, Error> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request =
            request.body(Full::new(body)).map_err(|_| Error::Address { url: url.clone() })?;
        let answered = self.within(Some(ANSWER_MAX), self.pool.request(request)).await?;
        let response = answered.map_err(|source| self.lost(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.collect(response.into_body()).await?;
        Err(match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Error::Refused(body),
            // Every refusal of a server is such a body.
            Err(_) => Error::Stranger { url: self.base.clone(), status: status.as_u16() },
        })
    }

    async fn whole<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, Error> {
        let status = response.status().as_u16();
        let body = self.collect(response.into_body()).await?;
        serde_json::from_slice(&body).map_err(|source| match source.is_syntax() {
            true => Error::Stranger { url: self.base.clone(), status },
            false => self.answer(source),
        })
    }

    async fn collect(&self, mut body: Incoming) -> Result<BytesMut, Error> {
        let mut bytes = BytesMut::new();
        while self.read(&mut body, &mut bytes, Some(ANSWER_MAX)).await? {}
        Ok(bytes)
    }

    /// Reads what comes next of a body; `false` at its end.
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
        answer: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let Some(waited) = limit else { return Ok(answer.await) };
        let late = |_| Error::Late { url: self.base.clone(), waited };
        tokio::time::timeout(waited, answer).await.map_err(late)
    }

    fn lost(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Unreachable { url: self.base.clone(), source: source.into() }
    }

    fn answer(&self, source: serde_json::Error) -> Error {
        Error::Answer { url: self.base.clone(), source }
    }
}

/// An answer that comes line by line.
#[derive(Debug)]
pub struct Lines {
    client: Client,
    body: Incoming,
    buffer: BytesMut,
    /// How long the server may say nothing. Then its empty lines are signs of life, and skipped.
    silence_max: Option<Duration>,
}

impl Lines {
    /// The next line without its end; `None` once the other side has ended the answer.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + at + 1).freeze();
                let line = line.slice(..line.len() - 1);
                searched = 0;
                if line.is_empty() && self.silence_max.is_some() {
                    continue;
                }
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if !self.client.read(&mut self.body, &mut self.buffer, self.silence_max).await? {
                // Text may end without the end of a line. What a server tells line by line does
                // not: it was cut off.
                let rest = self.buffer.split().freeze();
                return Ok(Some(rest).filter(|rest| !rest.is_empty() && self.silence_max.is_none()));
            }
        }
    }

    /// The next line, read as a document.
    pub async fn next_document<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        match self.next().await? {
            None => Ok(None),
            Some(line) => {
                serde_json::from_slice(&line).map(Some).map_err(|source| self.client.answer(source))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const STREAM: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    /// A client, and the socket of a server that answers its first request with `answer` and then
    /// says nothing more.
    async fn asked<T>(answer: &str, ask: impl AsyncFn(Client) -> T) -> (T, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            socket
        };
        tokio::join!(ask(Client::new(&url).unwrap()), serve)
    }

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    #[tokio::test]
    async fn a_stream_without_signs_of_life_is_lost() {
        let answer = format!("{STREAM}{}", chunk("\n{}\n\n"));
        let open = async |client: Client| client.follow("/").await.unwrap();
        let (mut lines, _socket) = asked(&answer, open).await;
        assert_eq!(lines.next().await.unwrap().unwrap(), "{}");
        tokio::time::pause();
        let ended = tokio::time::timeout(SILENCE_MAX + SIGN_OF_LIFE, lines.next()).await;
        let error = ended.expect("silence is noticed").unwrap_err();
        assert!(matches!(error, Error::Late { waited: SILENCE_MAX, .. }), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_go_on_is_late() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{";
        let ask = async |client: Client| (client.raw("/").await.unwrap(), client);
        let ((response, client), _socket) = asked(answer, ask).await;
        tokio::time::pause();
        let whole = client.whole::<serde_json::Value>(response);
        let ended = tokio::time::timeout(ANSWER_MAX * 2, whole).await;
        assert!(matches!(ended.expect("it is not waited for"), Err(Error::Late { .. })));
    }

    #[tokio::test]
    async fn what_does_not_answer_as_a_server_is_a_stranger() {
        let page = "<html>";
        for answer in ["404 Not Found", "405 Method Not Allowed", "200 OK"] {
            let length = page.len();
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: {length}\r\n\r\n{page}");
            let ask = async |client: Client| client.get::<serde_json::Value>("/").await;
            let (answered, _socket) = asked(&answer, ask).await;
            assert!(matches!(answered, Err(Error::Stranger { .. })), "{answered:?}");
        }
    }

    #[tokio::test]
    async fn text_keeps_its_empty_lines_and_its_last_one() {
        let answer = format!("{STREAM}{}0\r\n\r\n", chunk("a\n\nb\nc"));
        let open = async |client: Client| client.lines("/").await.unwrap();
        let (mut lines, _socket) = asked(&answer, open).await;
        let mut text = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            text.push(line);
        }
        assert_eq!(text, ["a", "", "b", "c"]);
    }
}
