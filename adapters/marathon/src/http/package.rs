//! The package service of DC/OS (Cosmos), which `dcos package` uses. Muster has no packages: lists
//! are empty, and a request for a package is answered with the alternative.
//!
//! Clients ask for a media type of their own for each request, and fail without a message if the
//! response has another one.

use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::reply::{ApiRequest, Reply};

const ERROR: &str = "application/vnd.dcos.package.error+json;charset=utf-8;version=v1";

/// The part of a request that names a package.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    package_name: Option<String>,
}

/// Responds to `/package/…`.
pub(super) fn respond(request: &ApiRequest, path: &[&str]) -> Reply {
    let empty = match path {
        ["search" | "list"] => json!({ "packages": [] }),
        ["repository", "list"] => json!({ "repositories": [] }),
        _ => return refused(request),
    };
    let accept = request.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let asked = accept.and_then(|accept| accept.split(',').next()).map(str::trim);
    let asked = asked.filter(|asked| asked.starts_with("application/vnd.dcos."));
    Reply::json(&empty).header(header::CONTENT_TYPE, asked.unwrap_or("application/json"))
}

fn refused(request: &ApiRequest) -> Reply {
    let named: Named = serde_json::from_slice(&request.body).unwrap_or_default();
    let (kind, message) = match named.package_name {
        Some(name) => {
            ("PackageNotFound", format!("Package [{name}] not found: Muster has no packages"))
        }
        None => ("NotImplemented", "Muster has no packages".into()),
    };
    let message = format!(
        "{message}. Describe the service as an app, and create it with `dcos marathon app add` or \
         `muster apply`"
    );
    let body = json!({ "type": kind, "message": message, "data": {} });
    Reply::with(StatusCode::BAD_REQUEST, &body).header(header::CONTENT_TYPE, ERROR)
}
