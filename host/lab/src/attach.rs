//! Has the agent of a node attach pods: the same call that a CNI plugin makes.
//!
//! There is no way back: a lab is taken down as a whole, agents and all.

use std::path::Path;

use millrace_cni::agent::{Agent, AgentError, Method};
use millrace_cni::{Attach, Attached, AttachmentId, Bandwidth};
use millrace_control::{BitRate, Pod};
use serde::Deserialize;

/// What of an agent's status matters here.
#[derive(Deserialize)]
struct Answering {
    pid: i32,
}

/// Has a pod attached by the agent behind `socket`, unless it is already.
///
/// # Errors
/// If the agent refuses, or breaks off.
pub(crate) fn attach(socket: &Path, pod: &Pod, netns: &Path) -> Result<Attached, AgentError> {
    let rate = |limit: Option<BitRate>| limit.map(|BitRate(rate)| rate);
    let attach = Attach {
        netns: netns.to_owned(),
        pod: Some(pod.name.to_string()),
        network: None,
        bandwidth: Bandwidth {
            ingress: rate(pod.bandwidth.ingress),
            egress: rate(pod.bandwidth.egress),
        },
        ..Attach::default()
    };
    // no runtime is here that has a name for it; a namespace's has no dot
    let container = format!("{}.{}", pod.name.namespace, pod.name.name);
    let id = AttachmentId { container, interface: INTERFACE.to_owned() };
    Agent::at(socket).send(Method::Put, &id.path(), &attach)
}

/// The number of the process that answers at `socket`, if one does.
pub(crate) fn pid(socket: &Path) -> Option<i32> {
    let Answering { pid } = Agent::at(socket).ask(Method::Get, "/v1/status").ok()?;
    Some(pid)
}

/// What a pod calls its interface.
const INTERFACE: &str = "eth0";
