//! One request: which route, which backend, and what if that does not work.
//!
//! A request that no backend can have seen is tried on another one, each at most once and not for
//! ever. One that a backend may have seen is tried once more only if that can do no harm: it has
//! no body and its method is idempotent (RFC 9110 §9.2.2). Every choice is made from the table of
//! that moment and counted in the same step.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;

use crate::alarm::ticks;
use crate::answer;
use crate::backend::connection::Connection;
use crate::backend::encode::{self, Framing};
use crate::backend::exchange::{Exchange, Failure};
use crate::backend::head::tokens;
use crate::backend::pool::{LiveBackend, UnderWay};
use crate::client::{self, Body, Client};
use crate::tunnel::tunnel;
use crate::worker::{Live, Worker};

/// There is nobody left to answer: the connection closes without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the client broke off")]
pub(crate) struct Gone;

/// Answers a request.
pub(crate) async fn forward(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Gone> {
    let mut response = find_answer(worker, &client, request).await?;
    if client.last.get() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn find_answer(
    worker: Rc<Worker>,
    client: &Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Gone> {
    let guard = client::Request::new(&client.activity, request.version());
    let (mut parts, body) = request.into_parts();
    if let Err((status, message)) = check(&parts) {
        return Ok(answer::refusal(status, message, guard));
    }
    let framing = framing(&parts, &body);
    let mut body = (framing != Framing::None).then_some(body);
    let upgrade = wants_upgrade(&parts);
    let harmless = body.is_none() && parts.method.is_idempotent();
    let mut tries = Tries::default();
    loop {
        let live = worker.live();
        let (route, under_way) = {
            let host = host(&parts).unwrap_or_default();
            let Some(route) = find(&live, client, host, parts.uri.path()) else {
                return Ok(answer::no_route(host, parts.uri.path(), guard));
            };
            tries.count(&live, route);
            let chosen = (!tries.is_late()).then(|| worker.choose(&live, route, &tries.failed));
            let Some(backend) = chosen.flatten() else {
                live.counts[route].failed();
                let route = &live.table.routes[route];
                return Ok(answer::no_backend(route, tries.reason.as_deref(), guard));
            };
            (route, UnderWay::new(backend, worker.clone()))
        };
        let fresh = tries.only_fresh;
        let mut connection = match connect(&worker, under_way.backend(), fresh, harmless).await {
            Ok(connection) => connection,
            Err(error) => {
                tries.unreachable(&worker, under_way.backend(), &error.to_string());
                continue;
            }
        };
        let used = connection.used;
        let host = host(&parts).unwrap_or_default();
        encode::request(connection.output(), &parts, client, host, framing, upgrade);
        let backend = under_way.backend().clone();
        let patience = ticks(worker.settings.answer_timeout);
        let mut exchange = Exchange::new(connection, under_way, body.take(), framing, patience);
        let answer = {
            let (method, headers) = (&parts.method, &mut parts.headers);
            poll_fn(|cx| exchange.poll_head(cx, method, headers, upgrade)).await
        };
        let failure = match answer {
            Ok(StatusCode::SWITCHING_PROTOCOLS) => {
                return Ok(switch(&worker, client, parts, exchange));
            }
            Ok(status) => return Ok(respond(status, parts.headers, exchange, guard)),
            Err(failure) => failure,
        };
        let may_repeat = match failure {
            Failure::Unsent => true,
            Failure::Lost => harmless && (used || !std::mem::replace(&mut tries.lost, true)),
            _ => false,
        };
        if may_repeat && let Ok(untouched) = exchange.into_untouched_body() {
            body = untouched;
            if used {
                // It was closed while it was not used: that says nothing about the backend.
                tries.only_fresh = true;
            } else {
                backend.failed(Instant::now());
                tries.unreachable(&worker, &backend, "it closed the connection");
            }
            continue;
        }
        if failure != Failure::Client {
            live.counts[route].failed();
        }
        return answer::failure(failure, &backend.backend.instance, guard).ok_or(Gone);
    }
}

/// What has been tried for a request.
#[derive(Debug, Default)]
struct Tries {
    counted: Cell<bool>,
    /// The backends that failed. Empty for almost every request: then nothing is allocated.
    failed: Vec<Rc<LiveBackend>>,
    /// Why the last of them failed.
    reason: Option<String>,
    /// When to begin no further try; set once one has failed.
    until: Option<Instant>,
    /// A used connection had been closed: only new ones from now on.
    only_fresh: bool,
    /// It was repeated although a backend may have seen it.
    lost: bool,
}

impl Tries {
    fn count(&self, live: &Live, route: usize) {
        if self.counted.replace(true) {
            live.counts[route].retried();
        } else {
            live.counts[route].requested();
        }
    }

    fn unreachable(&mut self, worker: &Worker, backend: &Rc<LiveBackend>, reason: &str) {
        self.reason = Some(format!("{}: {reason}", backend.backend.instance));
        self.failed.push(backend.clone());
        self.until.get_or_insert_with(|| Instant::now() + worker.settings.retry_timeout);
    }

    /// Whether the time for further tries is over.
    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

/// A connection to a backend: an unused one that is still good, or a new one.
async fn connect(
    worker: &Worker,
    backend: &Rc<LiveBackend>,
    only_fresh: bool,
    harmless: bool,
) -> io::Result<Box<Connection>> {
    if !only_fresh {
        while let Some(mut idle) = backend.take_idle() {
            let is_fresh = poll_fn(|cx| Poll::Ready(idle.is_fresh(cx))).await;
            if is_fresh && (harmless || idle.is_surely_fresh()) {
                idle.reset();
                return Ok(idle);
            }
        }
    }
    let limit = worker.settings.connect_timeout;
    // Boxed because it is large and rarely needed: the future of every request would grow by it.
    let stream = Box::pin(backend.connect(limit)).await?;
    Connection::new(stream, &worker.alarms)
}

fn respond(
    status: StatusCode,
    headers: HeaderMap,
    exchange: Exchange,
    guard: client::Request,
) -> Response<Body> {
    let mut response = Response::new(Body::exchange(exchange, guard));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Connects the client with the backend once hyper has written the answer.
fn switch(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    mut parts: Parts,
    exchange: Exchange,
) -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes::Bytes::new(), None));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = parts.headers;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(upgrade) = parts.extensions.remove::<OnUpgrade>()
        && let Some((stream, input, under_way)) = exchange.into_tunnel()
    {
        // The connection's own entry ends with HTTP on it; the tunnel takes as much room.
        let entered = worker.enter(client.clone());
        tokio::task::spawn_local(async move {
            tunnel(upgrade, stream, input).await;
            drop((under_way, entered));
        });
    }
    response
}

/// The route of a request. The listener's place in the table is looked up once per generation.
fn find(live: &Live, client: &Client, host: &str, path: &str) -> Option<usize> {
    let (generation, mut listener) = client.listener.get();
    if generation != live.table.generation {
        listener = live.table.listener(client.listen).unwrap_or(usize::MAX);
        client.listener.set((live.table.generation, listener));
    }
    (listener != usize::MAX).then(|| live.table.route(listener, host, path)).flatten()
}

/// What hyper lets pass and a gateway must not: whatever a backend could read in another way.
fn check(parts: &Parts) -> Result<(), (StatusCode, &'static str)> {
    if parts.method == Method::CONNECT {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "this is not a proxy for CONNECT"));
    }
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|coding| !plain(coding)) || codings.next().is_some() {
        let message = "of the transfer codings only `chunked` is understood";
        return Err((StatusCode::NOT_IMPLEMENTED, message));
    }
    host(parts).map(drop).map_err(|message| (StatusCode::BAD_REQUEST, message))
}

/// The host that a request is for, as the client wrote it.
fn host(parts: &Parts) -> Result<&str, &'static str> {
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let mut hosts = parts.headers.get_all(header::HOST).iter();
            match (hosts.next(), hosts.next()) {
                (Some(host), None) => host.to_str().map_err(|_| "the host is not a name")?,
                (None, _) if parts.version < Version::HTTP_11 => "",
                (None, _) => return Err("the request names no host"),
                (Some(_), Some(_)) => return Err("the request names several hosts"),
            }
        }
    };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:[]%".contains(&byte);
    if host.bytes().all(good) { Ok(host) } else { Err("the host is not a name") }
}

fn framing(parts: &Parts, body: &Incoming) -> Framing {
    if body.is_end_stream() {
        return Framing::None;
    }
    match body.size_hint().exact() {
        // Chunked stays chunked, so that trailers have a place.
        Some(length) if !parts.headers.contains_key(header::TRANSFER_ENCODING) => {
            Framing::Sized(length)
        }
        _ => Framing::Chunked,
    }
}

/// Whether the client wants to switch to another protocol than HTTP: a switch to HTTP/2 would
/// take its later requests past this gateway's rules.
fn wants_upgrade(parts: &Parts) -> bool {
    let Some(protocol) = parts.headers.get(header::UPGRADE) else { return false };
    let asked = parts.headers.get_all(header::CONNECTION).iter();
    let asked = asked
        .flat_map(|value| tokens(value.as_bytes()))
        .any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let http =
        tokens(protocol.as_bytes()).any(|token| token.to_ascii_lowercase().starts_with(b"h2"));
    asked && !http && parts.version == Version::HTTP_11
}
