//! The adapter for Marathon: its app definitions, its API (1.9), its events, and the parts of the
//! APIs of Mesos and DC/OS that Marathon's clients use.
//!
//! [`format`](mod@format) translates apps and groups into documents of the model, and back. `view`
//! presents a snapshot of the cluster as apps, tasks, groups, deployments, queue and events. Both
//! are pure. `http` has the routes. A service corresponds to an app, a run of an instance to a
//! task, and a revision to a version, which is identified by its time.

pub mod format;
mod http;
mod view;

use std::sync::{Arc, Mutex, PoisonError};

use api::EventView;
use axum::extract::Request;
use axum::response::Response;
use formats::Dialect;
use futures_util::future::BoxFuture;
use model::{Document, Source, Spec, State};
use server::adapter::{Adapter, Claim, Mount, Server};
use server::control::Snapshot;
use server::event_log::EventLog;
use tokio::sync::mpsc;

use crate::view::app::Apps;
use crate::view::event::{Event, Rendered};
use crate::view::publisher::{self, Input, Inputs};
use crate::view::translator::EventTranslator;

/// The Marathon adapter, with its cache of apps and its event log.
pub struct Marathon {
    apps: Apps,
    /// The newest events, in the format that clients receive.
    log: Arc<EventLog<Rendered>>,
    inputs: Inputs,
    /// Taken by `start`, so that there is exactly one consumer.
    input: Mutex<Option<mpsc::Receiver<Input>>>,
}

impl Default for Marathon {
    fn default() -> Marathon {
        let (inputs, input) = Inputs::new();
        Marathon {
            apps: Apps::default(),
            log: Arc::new(publisher::log()),
            inputs,
            input: Mutex::new(Some(input)),
        }
    }
}

impl Marathon {
    /// Publishes events that a request has caused and that have no native event.
    fn post(&self, events: Vec<Event>) {
        self.inputs.send(Input::Posted(events));
    }
}

impl Adapter for Marathon {
    fn name(&self) -> &'static str {
        format::ADAPTER
    }

    fn dialect(&self) -> &'static dyn Dialect {
        &format::Apps
    }

    fn claims(&self) -> &'static [Claim] {
        &http::CLAIMS
    }

    fn mounts(&self) -> Vec<Mount> {
        http::PREFIXES.map(|prefix| Mount::Prefix(prefix.into())).into()
    }

    fn respond(self: Arc<Self>, server: Server, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(http::respond(self, server, request))
    }

    fn start(&self, snapshot: &Snapshot) -> BoxFuture<'static, ()> {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let input = input.expect("an adapter is started once");
        publisher::number_from(&self.log, snapshot.state.meta());
        let translator = EventTranslator::new(snapshot, self.apps.clone());
        Box::pin(publisher::run(input, translator, self.apps.clone(), Arc::clone(&self.log)))
    }

    fn on_commit(&self, events: &[Arc<EventView>], snapshot: &Arc<Snapshot>) {
        self.inputs.send(Input::Native(events.to_vec(), Arc::clone(snapshot)));
    }

    fn prepare(&self, documents: &mut [&mut Document], state: &State) {
        view::file::number(documents, state, &self.apps);
    }

    fn upgrade(&self, spec: &mut Spec, source: &Source) {
        if let Some(app) = format::App::from_source(&source.text) {
            app.complete_environment(&mut spec.env);
        }
    }
}
