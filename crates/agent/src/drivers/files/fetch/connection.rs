//! One request over one connection, whose address is checked after it has been resolved. A name may
//! resolve to another address each time, so the address that was checked is the one that is
//! connected to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, RANGE, USER_AGENT};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

use super::address::forbidden;
use super::error::{Error, shown};

/// Timeout of name resolution, of a connection attempt and of a TLS handshake, each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the head of a response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A response, and the task that drives its connection: dropping it closes the connection.
pub(super) struct Reply {
    pub(super) response: Response<Incoming>,
    pub(super) connection: AbortOnDropHandle<()>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Requests `url` from its byte `offset` on.
pub(super) async fn request(url: &Url, offset: u64, allow_local: bool) -> Result<Reply, Error> {
    let stream = TokioIo::new(connect(url, allow_local).await?);
    let failed = |source: hyper::Error| Error::Broken { url: shown(url), source };
    let late = |doing| move |_| Error::Timeout { url: shown(url), doing };
    let handshake = hyper::client::conn::http1::handshake(stream);
    let handshake = timeout(CONNECT_TIMEOUT, handshake).await;
    let (mut sender, connection) = handshake.map_err(late("connecting"))?.map_err(failed)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // An error is reported to the request or to the reader of its body.
        let _ = connection.await;
    }));
    let mut request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header(USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*");
    if offset > 0 {
        request = request.header(RANGE, format!("bytes={offset}-"));
    }
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|source| Error::Request { url: shown(url), source })?;
    let response = timeout(HEAD_TIMEOUT, sender.send_request(request)).await;
    let response = response.map_err(late("waiting for a response"))?.map_err(failed)?;
    Ok(Reply { response, connection })
}

async fn connect(url: &Url, allow_local: bool) -> Result<Box<dyn Io>, Error> {
    let port = url.port_or_known_default().unwrap_or(80);
    let mut last = None;
    for address in addresses(url, port, allow_local).await? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) if url.scheme() == "https" => return secure(url, stream).await,
            Ok(Ok(stream)) => return Ok(Box::new(stream)),
            Ok(Err(source)) => last = Some(Error::Connect { url: shown(url), address, source }),
            Err(_) => last = Some(Error::Timeout { url: shown(url), doing: "connecting" }),
        }
    }
    Err(last.unwrap_or_else(|| Error::NoAddress { url: shown(url) }))
}

/// The addresses of a URL's host that the node may connect to.
async fn addresses(url: &Url, port: u16, allow_local: bool) -> Result<Vec<SocketAddr>, Error> {
    let all: Vec<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => vec![address.into()],
        Some(Host::Ipv6(address)) => vec![address.into()],
        Some(Host::Domain(name)) => {
            let found = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name, port))).await;
            let found =
                found.map_err(|_| Error::Timeout { url: shown(url), doing: "resolving" })?;
            let found = found.map_err(|source| Error::Resolve { host: name.into(), source })?;
            found.map(|address| address.ip()).collect()
        }
        None => Vec::new(),
    };
    let is_allowed = |address: &IpAddr| allow_local || forbidden(*address).is_none();
    let allowed: Vec<_> = all.iter().copied().filter(is_allowed).collect();
    if let (true, Some(address)) = (allowed.is_empty(), all.first()) {
        let range = forbidden(*address).unwrap_or_default();
        return Err(Error::Forbidden { url: shown(url), address: *address, range });
    }
    Ok(allowed.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

async fn secure(url: &Url, stream: TcpStream) -> Result<Box<dyn Io>, Error> {
    let failed = |source: std::io::Error| Error::Tls { url: shown(url), source };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_string();
    let name = ServerName::try_from(host).map_err(std::io::Error::other).map_err(failed)?;
    // Reading the certificates blocks.
    let config = tokio::task::spawn_blocking(tls).await.map_err(std::io::Error::other);
    let config = config.and_then(|config| config).map_err(failed)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Error::Timeout { url: shown(url), doing: "negotiating TLS" }),
    }
}

/// A configuration that trusts the certificate authorities of the node. It is made for each
/// connection and not kept: fetches are rare, an idle agent needs no certificates in memory, and a
/// certificate that is added to the node counts at once.
fn tls() -> std::io::Result<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let hint = "the node has no certificate authorities: install the package ca-certificates";
        return Err(std::io::Error::other(hint));
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
