//! Requests about ports.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::api::error::ApiError;
use crate::api::server::{Answer, Body, Shared};
use crate::api::types::{PortSpec, PortStatus};

/// The ports there are.
pub(super) async fn list(State(host): Shared) -> Answer<Vec<PortStatus>> {
    Ok(Json(host.ask(|host| host.plane.ports()).await?))
}

/// Adds a port, and says how it is.
pub(super) async fn add(
    State(host): Shared,
    Body(port): Body<PortSpec>,
) -> Result<(StatusCode, Json<PortStatus>), ApiError> {
    let status = host.ask(move |host| {
        let name = port.name.clone();
        host.plane.add_port(port.into())?;
        let ports = host.plane.ports()?;
        let added = ports.into_iter().find(|port| port.name == name);
        added.ok_or_else(|| ApiError::not_found(format!("port `{name}` was removed meanwhile")))
    });
    Ok((StatusCode::CREATED, Json(status.await?)))
}

/// Takes a port away.
pub(super) async fn remove(
    State(host): Shared,
    Path(port): Path<String>,
) -> Result<StatusCode, ApiError> {
    host.ask(move |host| host.plane.remove_port(&port)).await?;
    Ok(StatusCode::NO_CONTENT)
}
