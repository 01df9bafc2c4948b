//! The background futures of adapters, in a whole server.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use formats::Dialect;
use formats::diagnostic::Diagnostics;
use formats::tree::{Node, Position};
use futures_util::future::BoxFuture;
use model::Document;
use muster_server::adapter::{Adapter, Adapters, Claim, Server};
use muster_server::control::Snapshot;
use muster_server::{Error, Options};
use tokio::sync::oneshot;

/// An adapter without documents and routes, whose background future completes or panics at once.
struct Ending {
    panics: bool,
}

#[derive(Debug)]
struct NoDocuments;

impl Dialect for NoDocuments {
    fn kinds(&self) -> &'static str {
        "no documents"
    }

    fn reads(&self, _: &Node) -> bool {
        false
    }

    fn read(&self, _: &Node, _: bool, _: &mut Diagnostics<'_>) -> Option<Document> {
        None
    }

    fn locate(&self, tree: &Node, _: &str) -> (Position, String) {
        (tree.at, String::new())
    }
}

impl Adapter for Ending {
    fn name(&self) -> &'static str {
        "ending"
    }

    fn dialect(&self) -> &'static dyn Dialect {
        &NoDocuments
    }

    fn claims(&self) -> &'static [Claim] {
        &[]
    }

    fn respond(self: Arc<Self>, _: Server, _: Request) -> BoxFuture<'static, Response> {
        Box::pin(async { StatusCode::NOT_FOUND.into_response() })
    }

    fn start(&self, _: &Snapshot) -> BoxFuture<'static, ()> {
        let panics = self.panics;
        Box::pin(async move { assert!(!panics, "the background future panics") })
    }
}

/// Runs a server without a stop request, until the end of its adapter ends it.
async fn run_to_the_end(adapter: Ending) -> Error {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: directory.path().into(),
        lost_after: Options::LOST_AFTER,
        accept_data_loss: false,
        host_names: Vec::new(),
    };
    let adapter: Arc<dyn Adapter> = Arc::new(adapter);
    let adapters = Adapters::new([(adapter, Vec::new())]).expect("one adapter has no conflicts");
    let (bound, _addresses) = oneshot::channel();
    let ended = muster_server::run(options, adapters, bound, std::future::pending()).await;
    ended.expect_err("the adapter ends the server")
}

#[tokio::test]
async fn a_server_stops_with_an_error_when_an_adapter_completes() {
    let error = run_to_the_end(Ending { panics: false }).await;
    assert!(matches!(error, Error::AdapterEnded { adapter: "ending" }), "{error:?}");
}

#[tokio::test]
async fn a_server_stops_with_an_error_when_an_adapter_panics() {
    let error = run_to_the_end(Ending { panics: true }).await;
    assert_eq!(error.to_string(), "the adapter ending has broken");
}
