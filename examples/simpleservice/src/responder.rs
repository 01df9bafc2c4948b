//! The endpoints: a request in, an answer out, and one line on stderr about it.
//!
//! Bodies are spelled as the lab's readers expect them (`{"host": "…", "version": "0.9", "result": "all is well"}`, one
//! blank after each colon and comma). Everything is JSON, errors too. Nothing here knows sockets or signals; whether the
//! service is stopping is decided outside, see [`crate::serving`].

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, HeaderValue},
};

use crate::{delay::Delays, settings::Settings};

/// The state shared by all requests.
#[derive(Debug)]
pub(crate) struct Responder {
    settings: Settings,
    delays: Delays,
    stopping: AtomicBool,
}

impl Responder {
    /// Answers as the settings say.
    pub(crate) fn new(settings: Settings) -> Self {
        let delays = Delays::new(settings.health_delay_ms_min, settings.health_delay_ms_max);
        Self { settings, delays, stopping: AtomicBool::new(false) }
    }

    /// From now on every HTTP/1 response asks its client to use another connection.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Answers one request that came from `client` to `local`. It never fails.
    pub(crate) async fn respond<B>(
        &self,
        request: Request<B>,
        local: SocketAddr,
        client: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let mut response = match *request.method() {
            Method::GET | Method::HEAD => self.get(&request, local, client).await,
            _ => not_allowed(),
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.stopping.load(Ordering::Relaxed) && request.version() <= Version::HTTP_11 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.settings.requests_logged {
            let (status, method, path) =
                (response.status().as_u16(), request.method(), request.uri().path());
            let took_ms = begun.elapsed().as_secs_f64() * 1000.0;
            log(format_args!("{status} {method} {path} ({}) {took_ms:.2}ms", client.ip()));
        }
        response
    }

    async fn get<B>(
        &self,
        request: &Request<B>,
        local: SocketAddr,
        client: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let version = quoted(&self.settings.version);
        let host = || quoted(&requested_host_of(request).unwrap_or_else(|| local.to_string()));
        match request.uri().path() {
            "/endpoint0" => {
                let host = host();
                if self.settings.requests_logged {
                    let requested_host = host.trim_matches('"');
                    let ip = client.ip();
                    log(format_args!(
                        "/endpoint0 serving from {requested_host} has been invoked from {ip}"
                    ));
                }
                json(
                    StatusCode::OK,
                    format!(r#"{{"host": {host}, "version": {version}, "result": "all is well"}}"#),
                )
            }
            "/health" => {
                let delay = self.delays.next();
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                match self.settings.health_fails {
                    false => json(StatusCode::OK, r#"{"healthy": true}"#),
                    true => json(StatusCode::INTERNAL_SERVER_ERROR, r#"{"healthy": false}"#),
                }
            }
            "/info" => {
                let (host, from) = (host(), quoted(&client.ip().to_string()));
                json(
                    StatusCode::OK,
                    format!(r#"{{"host": {host}, "version": {version}, "from": {from}}}"#),
                )
            }
            "/env" => {
                let variables: BTreeMap<String, String> = std::env::vars_os()
                    .map(|(name, value)| {
                        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
                    })
                    .collect();
                json(
                    StatusCode::OK,
                    format!(r#"{{"version": {version}, "env": {}}}"#, object(&variables)),
                )
            }
            _ => json(
                StatusCode::NOT_FOUND,
                r#"{"error": "there is /endpoint0, /health, /info and /env"}"#,
            ),
        }
    }
}

/// Writes one line where and as the original does: on stderr, UTC time to the second, level, message.
///
/// A reader of stderr that went away must not take the service with it, hence no `eprintln!`.
pub(crate) fn log(message: std::fmt::Arguments<'_>) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S");
    let _ = writeln!(std::io::stderr(), "{now} INFO {message}");
}

/// The host the client asked for: HTTP/2 and absolute requests carry it in the target, others in a header.
fn requested_host_of<B>(request: &Request<B>) -> Option<String> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    authority.or_else(header).map(str::to_owned)
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

fn not_allowed() -> Response<Full<Bytes>> {
    let mut response = json(StatusCode::METHOD_NOT_ALLOWED, r#"{"error": "only GET and HEAD"}"#);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn object(entries: &BTreeMap<String, String>) -> String {
    let mut text = String::from("{");
    for (index, (key, value)) in entries.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{}: {}", quoted(key), quoted(value));
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn respond(settings: &[(&str, &str)], request: Request<()>) -> (u16, String) {
        let settings = Settings::read(|name| {
            let value = settings.iter().find(|(n, _)| *n == name);
            value.map(|(_, value)| value.into())
        });
        let responder = Responder::new(settings.unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (local, client) =
                ("10.0.3.193:1765".parse().unwrap(), "10.0.6.211:9".parse().unwrap());
            let response = responder.respond(request, local, client).await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    fn get(path: &str) -> Request<()> {
        Request::get(path).body(()).unwrap()
    }

    #[test]
    fn the_endpoint_responds_in_the_format_of_the_lab() {
        let request = Request::get("/endpoint0?x=1").header(HOST, "web\"x:80").body(()).unwrap();
        let body = r#"{"host": "web\"x:80", "version": "1.0", "result": "all is well"}"#;
        assert_eq!(respond(&[("SIMPLE_SERVICE_VERSION", "1.0")], request), (200, body.to_owned()));
        let body = r#"{"host": "10.0.3.193:1765", "version": "0.9", "result": "all is well"}"#;
        assert_eq!(respond(&[], get("/endpoint0")), (200, body.to_owned()));
    }

    #[test]
    fn health_fails_on_request() {
        assert_eq!(respond(&[], get("/health")), (200, r#"{"healthy": true}"#.to_owned()));
        assert_eq!(
            respond(&[("FAIL_HEALTH", "1")], get("/health")),
            (500, r#"{"healthy": false}"#.to_owned())
        );
    }

    #[test]
    fn info_names_the_client_and_env_is_an_object() {
        let body = r#"{"host": "10.0.3.193:1765", "version": "0.9", "from": "10.0.6.211"}"#;
        assert_eq!(respond(&[], get("/info")).1, body);
        let (status, body) = respond(&[], get("/env"));
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200);
        assert_eq!(document["env"]["CARGO_PKG_NAME"], "simpleservice");
    }

    #[test]
    fn other_paths_and_methods_are_rejected() {
        assert_eq!(respond(&[], get("/")).0, 404);
        assert_eq!(respond(&[], Request::post("/endpoint0").body(()).unwrap()).0, 405);
    }
}
