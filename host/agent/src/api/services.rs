//! Requests about Services.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;

use crate::api::server::{Answer, Shared};
use crate::node::ServiceStatus;

/// What has become of each Service, by `namespace/name`; nothing if this is no node of a cluster.
pub(super) async fn list(State(host): Shared) -> Answer<BTreeMap<String, ServiceStatus>> {
    Ok(Json(host.services.lock().clone()))
}
