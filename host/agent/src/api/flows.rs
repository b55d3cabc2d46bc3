//! Requests about connections.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use millrace_dataplane::control::flows::{FlowOrder, FlowQuery, FlowStatus};
use serde::Deserialize;

use crate::api::error::ApiError;
use crate::api::server::{Answer, Host, Shared};
use crate::api::types::{Flow, Flows};
use crate::node::chain::POLICY;
use crate::output::quoted_names;

/// Which connections, and how many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Those of this pod, as `namespace/name`.
    pod: Option<String>,
    /// Those that go by way of this port.
    port: Option<String>,
    /// Those of this protocol.
    protocol: Option<String>,
    /// Those in this state.
    state: Option<String>,
    /// What those have most of that are wanted.
    sort: Option<FlowOrder>,
    /// So many at most.
    #[serde(default = "usual_limit")]
    limit: usize,
}

/// The connections of cached ports.
pub(super) async fn list(
    State(host): Shared,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Flows> {
    let Query(wanted) = wanted.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    Ok(Json(host.ask(move |host| flows(host, &wanted)).await?))
}

fn flows(host: &Host, wanted: &Wanted) -> Result<Flows, ApiError> {
    let pods = host.pods_by_port();
    let port = match (&wanted.pod, &wanted.port) {
        (None, None) => None,
        (Some(pod), _) => Some(numbered(host, &host.port_of_pod(pod)?)?),
        (None, Some(port)) => Some(numbered(host, port)?),
    };
    let query = FlowQuery {
        port,
        protocol: wanted.protocol.clone(),
        state: wanted.state.clone(),
        sort: wanted.sort,
        limit: wanted.limit,
    };
    let named = |port: Option<&String>| port.and_then(|port| pods.get(port)).cloned();
    let flow = |(status, rule): (FlowStatus, u32)| Flow {
        client_pod: named(Some(&status.original.ingress)),
        server_pod: named(status.original.egress.as_ref()),
        policy: host
            .policy_rule(status.original.by.as_deref(), status.original.rule)
            .or_else(|| host.policy_rule(Some(POLICY), rule)),
        status,
    };
    let flows = host.plane.flows_ruled_by(query, POLICY)?.into_iter().map(flow).collect();
    let connections = host.plane.cache()?.map_or(0, |cache| cache.connections);
    Ok(Flows { connections, flows })
}

/// The number of a port.
fn numbered(host: &Host, port: &str) -> Result<u16, ApiError> {
    let numbers = host.plane.numbers();
    let unknown = || {
        let there = quoted_names(numbers.keys());
        ApiError::not_found(format!("there is no port `{port}`; there are: {there}"))
    };
    numbers.get(port).copied().ok_or_else(unknown)
}

/// More than anybody reads, and no burden for the host.
fn usual_limit() -> usize {
    1000
}
