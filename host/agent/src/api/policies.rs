//! Requests about NetworkPolicies and ClusterNetworkPolicies.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;

use crate::api::error::ApiError;
use crate::api::server::{Answer, Shared};
use crate::node::PolicyStatus;

/// What has become of each NetworkPolicy, by `namespace/name`, and of each ClusterNetworkPolicy, by
/// its name.
pub(super) async fn list(State(host): Shared) -> Answer<BTreeMap<String, PolicyStatus>> {
    let none = || ApiError::not_found("this host has no policies: it is no `millrace node`");
    let known = host.known.as_ref().ok_or_else(none)?;
    Ok(Json(known.lock().policies.clone()))
}
