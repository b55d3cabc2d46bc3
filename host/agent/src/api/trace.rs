//! Requests about packets that nobody sent.

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use millrace_dataplane::control::trace::{TraceReport, TraceRequest};
use millrace_dataplane::port::PortId;
use millrace_filter::wire::MacAddr;

use crate::api::error::ApiError;
use crate::api::server::{Answer, Body, Host, Shared};
use crate::api::types::{Trace, TracePacket};
use crate::node::{GATEWAY_MAC, HOST_MAC, HOST_PORT};
use crate::output::quoted_names;
use crate::trace::compose::{Sender, compose};

/// What would become of a packet.
pub(super) async fn trace(State(host): Shared, Body(packet): Body<TracePacket>) -> Answer<Trace> {
    Ok(Json(host.ask(move |host| traced(host, &packet)).await?))
}

fn traced(host: &Host, packet: &TracePacket) -> Result<Trace, ApiError> {
    let sender = sender(host, packet)?;
    let numbers = host.plane.numbers();
    let number = numbers.get(&sender.port).copied().and_then(PortId::new);
    let port = number.ok_or_else(|| {
        let names = quoted_names(host.pods_by_port().values().chain(numbers.keys()));
        ApiError::not_found(format!(
            "there is no port or pod `{}`; there are: {names}",
            packet.from
        ))
    })?;
    let frame = match &packet.frame {
        Some(frame) => BASE64
            .decode(frame)
            .map_err(|error| ApiError::bad_request(format!("`frame`: no Base64: {error}")))?,
        None => compose(&sender, packet).map_err(ApiError::bad_request)?,
    };
    Ok(named(host, host.plane.trace(&TraceRequest { port, frame })?))
}

/// What was found, with the names of pods and of policies.
pub(super) fn named(host: &Host, mut report: TraceReport) -> Trace {
    for step in &mut report.stages {
        if let Some(rule) = &mut step.rule {
            let known = host.policy_rule(Some(&step.stage), rule.id);
            rule.name = known.or(rule.name.take());
        }
    }
    Trace { report, pods: host.pods_by_port() }
}

/// Who is behind the port that the packet comes in by.
fn sender(host: &Host, packet: &TracePacket) -> Result<Sender, ApiError> {
    let from = if packet.from == "host" { HOST_PORT } else { &packet.from };
    let Some(pods) = &host.pods else { return Ok(Sender::unknown(from)) };
    let pods = pods.lock();
    let stations = pods.attached().values();
    let stations = stations.filter_map(|pod| Some((pod, pod.mac.parse::<MacAddr>().ok()?)));
    let neighbours = stations
        .clone()
        .flat_map(|(pod, mac)| pod.addresses.iter().map(move |address| (address.ip(), mac)));
    let neighbours = neighbours.collect();
    if from == HOST_PORT {
        return Ok(Sender {
            port: HOST_PORT.to_owned(),
            mac: Some(MacAddr(HOST_MAC)),
            gateway: Some(MacAddr(GATEWAY_MAC)),
            addresses: pods.gateways(),
            neighbours,
        });
    }
    let known = pods.attached().values().find(|pod| pod.port == from || is(pod.title(), from));
    Ok(match known {
        Some(pod) => Sender {
            port: pod.port.clone(),
            mac: pod.mac.parse().ok(),
            gateway: Some(MacAddr(GATEWAY_MAC)),
            addresses: pod.addresses.clone(),
            neighbours,
        },
        None => Sender::unknown(from),
    })
}

/// Whether a pod is called so; a namespace need not be said of those in `default`.
fn is(pod: &str, text: &str) -> bool {
    pod == text || pod.strip_prefix("default/") == Some(text)
}
