//! Forwards one request: selects a backend, sends the request, and repeats that if it fails and
//! `retry` allows it. Every backend is selected from the current table and counted in the same
//! step.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use crate::backend::connection::Connection;
use crate::backend::encode::{self, Framing};
use crate::backend::exchange::{Exchange, Failure};
use crate::backend::pool::LiveBackend;
use crate::client::body::Body;
use crate::client::discard::{Rest, can_discard};
use crate::client::state::{Client, RequestGuard};
use crate::error_response::{self, Unroutable};
use crate::progress::Task;
use crate::request::{self, host};
use crate::retry::Attempts;
use crate::tables::{InFlight, Live};
use crate::timer::ticks;
use crate::tunnel::tunnel;
use crate::worker::Worker;

/// The client disconnected: its connection closes without a response.
#[derive(Debug, thiserror::Error)]
#[error("the client disconnected")]
pub(crate) struct ClientDisconnected;

/// Responds to a request.
pub(crate) async fn forward(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ClientDisconnected> {
    let mut response = respond(worker, &client, request).await?;
    if client.only_one.get() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        announce_close(&mut response);
    }
    Ok(response)
}

async fn respond(
    worker: Rc<Worker>,
    client: &Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ClientDisconnected> {
    let guard = RequestGuard::new(&client.activity, request.version());
    let (mut parts, body) = request.into_parts();
    #[cfg(debug_assertions)]
    while worker.settings.spin_on.as_deref() == Some(parts.uri.path()) {
        std::hint::spin_loop();
    }
    if let Err(invalid) = request::check(&parts) {
        guard.expect_more_input();
        return Ok(error_response::invalid(invalid, guard));
    }
    let framing = request::framing(&parts, &body);
    let upgrade = request::wants_upgrade(&parts);
    let timeout = ticks(worker.settings.response_timeout);
    let mut body = (framing != Framing::None).then_some(body);
    let size = if body.is_some() { unread_size(&parts, framing) } else { 0 };
    let mut attempts = Attempts::new(body.is_none() && parts.method.is_idempotent());
    loop {
        let in_flight = match select(&worker, client, &parts, &attempts) {
            Ok(in_flight) => in_flight,
            Err(unroutable) => {
                let rest = body.map(|body| Rest { body, size });
                return Ok(before_the_end(rest, guard, |guard| match attempts.seen_by() {
                    Some((instance, failure)) => {
                        error_response::backend_failed(failure, instance, guard)
                    }
                    None => error_response::unroutable(unroutable, guard),
                }));
            }
        };
        let backend = in_flight.backend().clone();
        let mut connection = match connect(&worker, &backend, &attempts).await {
            Ok(connection) => connection,
            Err(error) => {
                let timeout = worker.settings.retry_timeout;
                attempts.unreachable(&backend, &error.to_string(), timeout);
                continue;
            }
        };
        let was_reused = connection.used;
        let live = worker.tables.live();
        let trust = listener(&live, client).map_or(&[][..], |at| &live.table.listeners[at].trust);
        let host = host(&parts).unwrap_or_default();
        encode::request(connection.output(), &parts, client, host, trust, framing, upgrade);
        let mut exchange = Exchange::new(connection, in_flight, body.take(), framing, timeout);
        let responded = respond_from(&mut exchange, &mut parts, client, upgrade).await;
        let failure = match responded {
            Ok(StatusCode::SWITCHING_PROTOCOLS) => {
                return Ok(switch(&worker, client, parts, exchange));
            }
            Ok(status) => return Ok(response(status, parts.headers, exchange, guard)),
            Err(Failure::Backend(failure)) => failure,
            Err(Failure::Client(failure)) => {
                return error_response::client_failed(failure, guard).ok_or(ClientDisconnected);
            }
        };
        let is_body_read = exchange.is_body_read();
        let rest = exchange.take_rest();
        // The connection to the backend closes before the next attempt.
        drop(exchange);
        if !is_body_read && attempts.may_repeat(&backend, failure) {
            body = rest.map(|rest| rest.body);
            if was_reused {
                // The backend closed an idle connection: that does not mean that it is unreachable.
                attempts.only_new = true;
            } else {
                backend.failed(Instant::now());
                let timeout = worker.settings.retry_timeout;
                attempts.unreachable(&backend, "it closed the connection", timeout);
            }
            continue;
        }
        let instance = &backend.backend.instance;
        let respond = |guard| error_response::backend_failed(failure, instance, guard);
        return Ok(before_the_end(rest, guard, respond));
    }
}

/// The head of the response to a request that `exchange` has begun to send: its status, and its
/// fields in `parts`. Interim responses are forwarded before that.
async fn respond_from(
    exchange: &mut Exchange,
    parts: &mut Parts,
    client: &Client,
    upgrade: bool,
) -> Result<StatusCode, Failure> {
    loop {
        let (method, headers) = (&parts.method, &mut parts.headers);
        let status = poll_fn(|cx| exchange.poll_head(cx, method, headers, upgrade)).await?;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(status);
        }
        // HTTP/1.0 has none, and hyper cannot write one in a stream of HTTP/2.
        if parts.version == Version::HTTP_11 {
            let output = &client.activity.output;
            output.add_interim(status, headers);
            let mark = output.mark();
            poll_fn(|cx| output.poll_written(mark, cx)).await;
        }
    }
}

/// The size of a body of which nothing was read; `u64::MAX` if it is unknown or if the client may
/// never send it, because it was not asked to continue.
fn unread_size(parts: &Parts, framing: Framing) -> u64 {
    match framing {
        Framing::None => 0,
        Framing::Sized(size) if !parts.headers.contains_key(header::EXPECT) => size,
        Framing::Sized(_) | Framing::Chunked => u64::MAX,
    }
}

/// A response that the gateway sends before it has read all of the request.
fn before_the_end(
    rest: Option<Rest>,
    guard: RequestGuard,
    respond: impl FnOnce(RequestGuard) -> Response<Body>,
) -> Response<Body> {
    let Some(rest) = rest else { return respond(guard) };
    let closes = !guard.is_http_2() && !can_discard(rest.size);
    rest.discard(&guard);
    let mut response = respond(guard);
    if closes {
        announce_close(&mut response);
    }
    response
}

fn announce_close(response: &mut Response<Body>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Selects a backend for the next attempt and counts the request there.
fn select(
    worker: &Worker,
    client: &Client,
    parts: &Parts,
    attempts: &Attempts,
) -> Result<InFlight, Unroutable> {
    let live = worker.tables.live();
    let (host, path) = (host(parts).unwrap_or_default(), parts.uri.path());
    let route = listener(&live, client).and_then(|at| live.table.route(at, host, path));
    let Some(route) = route else {
        return Err(Unroutable::NoRoute(format!("no route for `{host}` and `{path}`")));
    };
    let selected = (!attempts.is_over()).then(|| worker.select(&live, route, attempts)).flatten();
    match selected {
        Some(backend) => Ok(InFlight::new(backend, worker.tables.clone())),
        None => {
            let route = &live.table.routes[route];
            let service = &route.service;
            Err(Unroutable::NoBackend(match (attempts.reason(), &route.empty_because) {
                (Some(reason), _) => format!("no instance of {service} can be reached: {reason}"),
                (None, Some(reason)) => format!("{service} has no instance that serves: {reason}"),
                (None, None) => format!("{service} has no instance that serves"),
            }))
        }
    }
}

/// The index of a client's listener, which is looked up once per switch of tables.
fn listener(live: &Live, client: &Client) -> Option<usize> {
    let (switch, mut listener) = client.listener.get();
    if switch != live.table.switch {
        listener = live.table.listener(client.listen);
        client.listener.set((live.table.switch, listener));
    }
    listener
}

/// A connection to a backend: an idle one that is still open, or a new one.
async fn connect(
    worker: &Worker,
    backend: &Rc<LiveBackend>,
    attempts: &Attempts,
) -> io::Result<Box<Connection>> {
    if !attempts.only_new {
        while let Some(mut idle) = backend.take_idle() {
            let is_fresh = poll_fn(|cx| Poll::Ready(idle.is_fresh(cx))).await;
            if is_fresh && (attempts.is_repeatable || idle.is_surely_fresh()) {
                idle.reset();
                return Ok(idle);
            }
        }
    }
    let timeout = worker.settings.connect_timeout;
    // Boxed because it is large and rarely needed: the future of every request would contain it.
    let stream = Box::pin(backend.connect(timeout)).await?;
    Connection::new(stream, &worker.timers)
}

fn response(
    status: StatusCode,
    headers: HeaderMap,
    exchange: Exchange,
    guard: RequestGuard,
) -> Response<Body> {
    // The backend may still read the rest of the request; if it does not, the connection closes
    // unless that rest is small.
    let closes = !guard.is_http_2() && !can_discard(exchange.rest_size());
    let mut response = Response::new(Body::exchange(exchange, guard));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if closes {
        announce_close(&mut response);
    }
    response
}

/// Starts a tunnel between client and backend, which begins once hyper has written the response.
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
        && let Some((stream, input, in_flight)) = exchange.into_tunnel()
    {
        // The entry of the connection is removed when HTTP on it ends; the tunnel keeps the slot.
        let entered = worker.clients.enter(client.clone());
        let progress = worker.progress.clone();
        tokio::task::spawn_local(async move {
            progress.track(Task::Tunnel, tunnel(upgrade, stream, input)).await;
            drop((in_flight, entered));
        });
    }
    response
}
