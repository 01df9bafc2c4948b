//! Apps from files. They are stored in the same form as apps from requests, so that clients see
//! them as they were defined.

use std::collections::BTreeSet;

use crate::format::App;
use model::{Document, State};

use super::app::{ADAPTER, Apps};

/// Assigns service ports to the apps among `documents`, whose tasks learn them from their
/// environment: the previous ones, or else free ones. If the range is exhausted, an app remains without one: unlike a request, a file does not rely on a
/// load balancer.
pub(crate) fn number(documents: &mut [&mut Document], state: &State, known: &Apps) {
    let apps: Vec<_> = documents
        .iter_mut()
        .filter_map(|document| match document {
            Document::Service { spec, source: Some(source) } if source.adapter == ADAPTER => {
                Some((spec, App::from_source(&source.text)?, source))
            }
            _ => None,
        })
        .collect();
    if apps.is_empty() {
        return;
    }
    let changed: BTreeSet<_> = apps.iter().map(|(spec, ..)| spec.service.clone()).collect();
    let others = state.services().filter(|service| !changed.contains(&service.id));
    let mut taken: BTreeSet<u16> =
        others.flat_map(|service| known.target(service).service_ports()).collect();
    for (spec, mut app, source) in apps {
        let before = state.service(&spec.service).map(|service| known.target(service));
        if app.assign_service_ports(before.as_deref(), &taken).is_ok() {
            taken.extend(app.service_ports());
            (spec.env, *source) = (app.environment(), app.source());
        }
    }
}
