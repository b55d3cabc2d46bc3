//! What an API server takes: merge patches of status (RFC 7396), and Events.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{patch, post};
use axum::{Json, Router};
use json_patch::merge;
use serde_json::{Value, json};

use crate::server::Told;

pub(crate) fn routes() -> Router<Arc<Told>> {
    Router::new()
        .route("/apis/millrace.dev/v1alpha1/{resource}/{name}/status", patch(status))
        .route("/apis/{group}/v1/{resource}/{name}/status", patch(status))
        .route("/apis/{group}/v1/namespaces/{namespace}/{resource}/{name}/status", patch(status))
        .route("/api/v1/namespaces/{namespace}/{resource}/{name}/status", patch(status))
        .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", post(event))
}

async fn status(
    State(told): State<Arc<Told>>,
    Path(path): Path<BTreeMap<String, String>>,
    Json(patch): Json<Value>,
) -> Response {
    let (resource, name) = (&path["resource"], &path["name"]);
    let mut unwritable = told.unwritable.lock();
    if unwritable.0.as_ref() == Some(resource) {
        unwritable.1 += 1;
        return refusal(StatusCode::FORBIDDEN);
    }
    drop(unwritable);
    let mut object = told.last(resource, name);
    let version = &patch["metadata"]["resourceVersion"];
    if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
        return refusal(StatusCode::CONFLICT);
    }
    merge(&mut object["status"], &patch["status"]);
    told.written.lock().push((format!("{resource}/{name}"), patch));
    told.happened(resource, "MODIFIED", object.clone());
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("Object");
    Json(object).into_response()
}

async fn event(
    State(told): State<Arc<Told>>,
    Path(namespace): Path<String>,
    Json(event): Json<Value>,
) -> Response {
    let name = format!("{namespace}/{}", event["metadata"]["name"].as_str().unwrap_or_default());
    let mut written = told.written.lock();
    if written.iter().any(|(of, _)| *of == format!("events/{name}")) {
        return refusal(StatusCode::CONFLICT);
    }
    written.push((format!("events/{name}"), event.clone()));
    (StatusCode::CREATED, Json(event)).into_response()
}

fn refusal(code: StatusCode) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "reason": code.canonical_reason(), "message": "not so", "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}
