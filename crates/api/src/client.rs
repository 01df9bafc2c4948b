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

use crate::error::{ErrorBody, ErrorCode};

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
    #[error("no answer from {url} for {} seconds", ANSWER_MAX.as_secs())]
    Late {
        /// The address.
        url: String,
    },
    /// The server answered that it cannot.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
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

/// An answer that takes longer to begin is not waited for: a server that stands still would keep
/// whoever asks for ever.
const ANSWER_MAX: Duration = Duration::from_secs(30);

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
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_timer(TokioTimer::new())
            .build(connector);
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

    /// `GET` an answer that comes line by line for as long as both sides like.
    pub async fn lines(&self, path: &str) -> Result<Lines, Error> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(Lines { url: self.base.clone(), body: response.into_body(), buffer: BytesMut::new() })
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
        let answered = tokio::time::timeout(ANSWER_MAX, self.pool.request(request)).await;
        let late = |_| Error::Late { url: self.base.clone() };
        let response = answered.map_err(late)?.map_err(|source| self.lost(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|source| self.lost(source))?;
        let body = body.to_bytes();
        Err(Error::Refused(serde_json::from_slice(&body).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&body);
            ErrorBody::new(ErrorCode::Internal, format!("{status} {}", text.trim()))
        })))
    }

    async fn whole<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, Error> {
        let body = response.into_body().collect().await.map_err(|source| self.lost(source))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|source| self.answer(source))
    }

    fn lost(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Unreachable { url: self.base.clone(), source: source.into() }
    }

    fn answer(&self, source: serde_json::Error) -> Error {
        Error::Answer { url: self.base.clone(), source }
    }
}

/// An answer that comes line by line. Empty lines are signs of life and skipped.
#[derive(Debug)]
pub struct Lines {
    url: String,
    body: Incoming,
    buffer: BytesMut,
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
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(source)) => {
                    return Err(Error::Unreachable {
                        url: self.url.clone(),
                        source: source.into(),
                    });
                }
            }
        }
    }

    /// The next line, read as a document.
    pub async fn next_document<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        match self.next().await? {
            None => Ok(None),
            Some(line) => serde_json::from_slice(&line)
                .map(Some)
                .map_err(|source| Error::Answer { url: self.url.clone(), source }),
        }
    }
}
