//! Requests about ports.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millrace_dataplane::control::PortError;

use crate::api::error::ApiError;
use crate::api::server::{Answer, Body, Host, Shared};
use crate::api::types::{Port, PortSpec, PortStatus};
use crate::node::HOST_PORT;

/// The ports there are.
pub(super) async fn list(State(host): Shared) -> Answer<Vec<Port>> {
    Ok(Json(host.ask(ports).await?))
}

/// The ports, with what is known of who is behind them.
pub(super) fn ports(host: &Host) -> Result<Vec<Port>, PortError> {
    let ports = host.plane.ports()?;
    Ok(ports.into_iter().map(|status| known(host, status)).collect())
}

/// Adds a port, and says how it is.
pub(super) async fn add(
    State(host): Shared,
    Body(port): Body<PortSpec>,
) -> Result<(StatusCode, Json<Port>), ApiError> {
    let status = host.ask(move |host| {
        let name = port.name.clone();
        host.plane.add_port(port.into())?;
        let ports = host.plane.ports()?;
        let added = ports.into_iter().find(|port| port.name == name);
        let gone = || ApiError::not_found(format!("port `{name}` was removed meanwhile"));
        added.map(|status| known(host, status)).ok_or_else(gone)
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

/// A port, with what is known of who is behind it.
fn known(host: &Host, status: PortStatus) -> Port {
    let (mut pod, mut addresses) = (None, Vec::new());
    if let Some(pods) = &host.pods {
        let pods = pods.lock();
        if status.name == HOST_PORT {
            addresses = pods.gateways();
        } else if let Some(attached) =
            pods.attached().values().find(|attached| attached.port == status.name)
        {
            pod = Some(attached.title().to_owned());
            addresses.clone_from(&attached.addresses);
        }
    }
    Port { status, pod, addresses }
}
