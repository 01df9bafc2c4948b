//! Downloads from a server that answers in various ways.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::RANGE;
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::{StreamExt as _, stream};

use super::*;

/// The paths that were requested, with their ranges.
type Requests = Arc<Mutex<Vec<String>>>;

/// A server of the bytes 0 to 99 in various ways.
fn serve(request: &Request) -> Response {
    let content: Vec<u8> = (0..100).collect();
    let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
    let from: usize =
        range.map_or(0, |range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
    let part = |from: usize| {
        let headers = [("content-range", format!("bytes {from}-99/100"))];
        (StatusCode::PARTIAL_CONTENT, headers, content[from..].to_vec()).into_response()
    };
    // A body whose connection breaks after half of it.
    let broken = || {
        let half = Bytes::copy_from_slice(&content[..50]);
        let breaks = async {
            // The half is sent once the body makes the server wait.
            tokio::task::yield_now().await;
            Err(io::Error::other("broken"))
        };
        let parts = stream::iter([Ok(half)]).chain(stream::once(breaks));
        Body::from_stream(parts).into_response()
    };
    match request.uri().path() {
        "/whole" => content.into_response(),
        "/resumed" | "/restarted" if from == 0 => broken(),
        "/resumed" => part(from),
        "/restarted" => content.into_response(),
        "/shifted" if from == 0 => content.into_response(),
        "/shifted" => part(from - 1),
        "/far" => Redirect::temporary("/near").into_response(),
        "/near" => Redirect::temporary("whole").into_response(),
        "/circle" => Redirect::temporary("/circle").into_response(),
        "/away" => Redirect::temporary("ftp://127.0.0.1/x").into_response(),
        "/huge" => {
            let headers = [("content-length", (MIB_MAX * MIB + 1).to_string())];
            let body = Body::from_stream(stream::pending::<io::Result<Bytes>>());
            (headers, body).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

struct Rig {
    address: SocketAddr,
    requests: Requests,
    dir: tempfile::TempDir,
    fetcher: Fetcher,
}

impl Rig {
    async fn new(allow_local: bool) -> Rig {
        let requests = Requests::default();
        let answer = |State(requests): State<Requests>, request: Request| async move {
            let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
            let line = [request.uri().path(), range.unwrap_or_default()].join(" ");
            requests.lock().unwrap().push(line.trim().to_string());
            serve(&request)
        };
        let router = Router::new().fallback(answer).with_state(requests.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        let dir = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::new(dir.path().join("fetched"), allow_local);
        Rig { address, requests, dir, fetcher }
    }

    async fn fetch(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.fetch_with(path, Some(checksum()), true).await
    }

    async fn fetch_with(
        &self,
        path: &str,
        sha256: Option<Sha256>,
        cache: bool,
    ) -> Result<Vec<u8>, Error> {
        let url = format!("http://{}{path}", self.address);
        let file = self.fetcher.fetch(&Download { url, sha256, cache }, |_| {}).await?;
        let mut content = Vec::new();
        super::super::FileReader::new(file).read_to_end(&mut content).unwrap();
        Ok(content)
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    /// The sizes of the files in the cache, by their extension.
    fn kept(&self) -> BTreeMap<String, u64> {
        let entries = std::fs::read_dir(self.dir.path().join("fetched")).unwrap().flatten();
        let of = |entry: std::fs::DirEntry| {
            let extension = entry.path().extension().unwrap_or_default().to_os_string();
            (extension.into_string().unwrap(), entry.metadata().unwrap().len())
        };
        entries.map(of).collect()
    }
}

fn content() -> Vec<u8> {
    (0..100).collect()
}

fn checksum() -> Sha256 {
    Sha256(digest::digest(&SHA256, &content()).as_ref().try_into().unwrap())
}

#[tokio::test]
async fn a_file_is_fetched_once_and_kept_by_its_checksum() {
    let rig = Rig::new(true).await;
    assert_eq!(rig.fetch("/far").await.unwrap(), content());
    assert_eq!(rig.requests(), ["/far", "/near", "/whole"]);
    assert_eq!(rig.fetch("/other").await.unwrap(), content(), "the same content is not fetched");
    assert_eq!(rig.requests(), [""; 0]);
    assert_eq!(rig.kept(), [(String::new(), 100)].into());
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_not_kept() {
    let rig = Rig::new(true).await;
    for sha256 in [Some(checksum()), None] {
        assert_eq!(rig.fetch_with("/whole", sha256, false).await.unwrap(), content());
        assert!(rig.kept().is_empty());
    }
}

#[tokio::test]
async fn an_interrupted_download_continues_where_it_ended() {
    for (path, second) in
        [("/resumed", "/resumed bytes=50-"), ("/restarted", "/restarted bytes=50-")]
    {
        let rig = Rig::new(true).await;
        assert!(matches!(rig.fetch(path).await.unwrap_err(), Error::Broken { .. }));
        assert_eq!(rig.kept(), [("part".to_string(), 50)].into());
        // As a later agent would, after this one was killed.
        let fetcher = Fetcher::new(rig.dir.path().join("fetched"), true);
        let rig = Rig { fetcher, ..rig };
        assert_eq!(rig.fetch(path).await.unwrap(), content());
        assert_eq!(rig.requests(), [path, second]);
    }
}

#[tokio::test]
async fn a_wrong_beginning_is_not_kept() {
    let rig = Rig::new(true).await;
    let path = rig.fetcher.cache.partial(Some(&checksum())).unwrap();
    std::fs::write(&path, [7; 50]).unwrap();
    assert!(matches!(rig.fetch("/resumed").await.unwrap_err(), Error::Checksum { .. }));
    assert!(rig.kept().is_empty());
    // A server that continues somewhere else is asked for all of it.
    std::fs::write(&path, &content()[..50]).unwrap();
    assert_eq!(rig.fetch("/shifted").await.unwrap(), content());
    assert_eq!(rig.requests(), ["/resumed bytes=50-", "/shifted bytes=50-", "/shifted"]);
}

#[tokio::test]
async fn what_cannot_be_fetched_says_why() {
    let rig = Rig::new(true).await;
    for (path, expected) in [
        ("/nothing", "returns 404 Not Found; check `url`"),
        ("/circle", "is redirected more than 5 times"),
        ("/away", "leads to ftp://127.0.0.1/x"),
        ("/huge", "has more than 1024 MiB"),
    ] {
        let error = rig.fetch(path).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("http://127.0.0.1"), "{error}");
        assert!(rig.kept().is_empty(), "{path}");
    }
    assert_eq!(rig.requests().iter().filter(|path| *path == "/circle").count(), REDIRECTS_MAX + 1);
    let other = rig.fetch_with("/whole", Some(Sha256([1; 32])), true).await.unwrap_err();
    assert!(other.to_string().contains(&checksum().to_string()), "{other}");
    assert!(rig.kept().is_empty());
    let closed = Download { url: "http://127.0.0.1:1/".into(), sha256: None, cache: true };
    let error = rig.fetcher.fetch(&closed, |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[tokio::test]
async fn addresses_of_the_node_itself_are_refused_by_number_and_by_name() {
    let rig = Rig::new(false).await;
    let port = rig.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        let url = format!("http://{host}:{port}/whole");
        let download = Download { url, sha256: Some(checksum()), cache: true };
        let error = rig.fetcher.fetch(&download, |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { range: "loopback", .. }), "{host}: {error}");
        assert!(error.to_string().contains("--fetch-local"), "{error}");
    }
    assert_eq!(rig.requests(), [""; 0]);
}

#[test]
fn a_redirect_never_leaves_https() {
    let from = Url::parse("https://a.example/b/c").unwrap();
    for (location, expected) in [
        ("d", Some("https://a.example/b/d")),
        ("//b.example/d", Some("https://b.example/d")),
        ("http://a.example/b", None),
        ("file:///etc/passwd", None),
    ] {
        let to = redirected(&from, location).ok().map(String::from);
        assert_eq!(to.as_deref(), expected, "{location}");
    }
}
