//! Walk `pod` 3/5: plugin → **attachments** → attach.
//!
//! Requests about the pods of a node.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, StatusCode};
use millrace_cni::{Attach, Attached, AttachmentId};

use crate::api::error::ApiError;
use crate::api::server::{Answer, Body, Shared};
use crate::node::{Pods, Publisher};

/// The pods that are attached.
pub(super) async fn list(State(host): Shared) -> Answer<Vec<Attached>> {
    let attached = host.ask(|host| {
        let pods = host.pods()?.lock();
        Ok::<_, ApiError>(pods.attached().values().cloned().collect())
    });
    Ok(Json(attached.await?))
}

/// One of them.
pub(super) async fn show(
    State(host): Shared,
    Path(id): Path<(String, String)>,
) -> Answer<Attached> {
    let id = named(id);
    let attached = host.ask(move |host| Ok::<_, ApiError>(host.pods()?.lock().find(&id)?.clone()));
    Ok(Json(attached.await?))
}

/// Attaches a pod, and says what it got. Under the condition that it is not attached yet
/// (`If-None-Match: *`, RFC 9110 section 13.1.2), one that is attached is an error. The cluster tells of a
/// pod about when its kubelet has it attached: that is waited for, since policies drop what it sends before,
/// and that comes again a second later.
pub(super) async fn attach(
    State(host): Shared,
    Path(id): Path<(String, String)>,
    headers: HeaderMap,
    Body(request): Body<Attach>,
) -> Answer<Attached> {
    let id = named(id);
    let is_new = headers.get(IF_NONE_MATCH).is_some_and(|condition| condition == "*");
    let attached = host.ask(move |host| {
        let publisher = host.own_pods()?.lock().publisher();
        let pod = request.pod.as_ref().and_then(|pod| pod.parse().ok());
        if let Some(pod) = pod.filter(|pod| !Publisher::await_pod(&publisher, pod, PATIENCE)) {
            tracing::warn!(%pod, "the cluster has not told of it: all policies of its namespace are for it");
        }
        let mut pods = host.own_pods()?.lock();
        Ok::<_, ApiError>(match is_new {
            true => pods.attach_new(&host.plane, id, request)?,
            false => pods.attach(&host.plane, id, request)?,
        })
    });
    Ok(Json(attached.await?))
}

/// What of an attachment is not as it was made.
pub(super) async fn check(
    State(host): Shared,
    Path(id): Path<(String, String)>,
) -> Answer<Vec<String>> {
    let id = named(id);
    let faults =
        host.ask(move |host| Ok::<_, ApiError>(host.pods()?.lock().check(&host.plane, &id)?));
    Ok(Json(faults.await?))
}

/// Detaches a pod.
pub(super) async fn detach(
    State(host): Shared,
    Path(id): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = named(id);
    host.ask(move |host| Ok::<_, ApiError>(Pods::detach(host.own_pods()?, &host.plane, &id)?))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named((container, interface): (String, String)) -> AttachmentId {
    AttachmentId { container, interface }
}

/// How long the cluster may take to tell of a pod that its kubelet knows already.
const PATIENCE: Duration = Duration::from_secs(5);
