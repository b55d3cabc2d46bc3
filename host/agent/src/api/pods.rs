//! Walk `pod` 1/3: **pods** → attach.
//!
//! Requests about the pods of a node.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::api::error::ApiError;
use crate::api::server::{Answer, Body, Shared};
use crate::node::{AttachPod, AttachedPod, PodName};

/// The pods that are attached, by `namespace/name`.
pub(super) async fn list(State(host): Shared) -> Answer<BTreeMap<String, AttachedPod>> {
    let attached = host.ask(|host| {
        let pods = host.pods()?.lock();
        let named = pods.attached().iter().map(|(name, pod)| (name.to_string(), pod.clone()));
        Ok::<_, ApiError>(named.collect())
    });
    Ok(Json(attached.await?))
}

/// Attaches a pod, and says what it got.
pub(super) async fn attach(
    State(host): Shared,
    Path((namespace, name)): Path<(String, String)>,
    Body(request): Body<AttachPod>,
) -> Answer<AttachedPod> {
    let pod = PodName { namespace, name };
    let attached = host.ask(move |host| {
        Ok::<_, ApiError>(host.own_pods()?.lock().attach(&host.plane, pod, request)?)
    });
    Ok(Json(attached.await?))
}

/// Detaches a pod.
pub(super) async fn detach(
    State(host): Shared,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let pod = PodName { namespace, name };
    host.ask(move |host| Ok::<_, ApiError>(host.own_pods()?.lock().detach(&host.plane, &pod)?))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
