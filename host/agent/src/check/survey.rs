//! What there is before anything is made: nodes, and the image that their agents run.

use std::net::IpAddr;

use anyhow::{Context, bail};
use millrace_kube::Session;
use serde_json::Value;

use super::objects::Image;
use crate::output::quoted_names;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// Those that others in the cluster know it by.
    pub(super) addresses: Vec<IpAddr>,
    /// Where its kubelet is asked.
    pub(super) kubelet: u16,
}

/// The nodes that are to be tried: those of these names, all, or two.
pub(super) fn nodes(session: &Session, names: &[String], all: bool) -> anyhow::Result<Vec<Node>> {
    let listed = session.list("/api/v1/nodes", "")?;
    let ready = listed.iter().filter(|node| is_ready(node)).filter_map(node);
    let mut ready: Vec<_> = ready.collect();
    ready.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(name) = names.iter().find(|name| ready.iter().all(|node| node.name != **name)) {
        bail!(
            "no node `{name}` is ready; these are: {}",
            quoted_names(ready.iter().map(|it| &it.name))
        );
    }
    if !names.is_empty() {
        ready.retain(|node| names.contains(&node.name));
    } else if !all {
        ready.truncate(FEW);
    }
    if ready.is_empty() {
        bail!("no node is ready, out of {}: `kubectl describe nodes` says why", listed.len());
    }
    Ok(ready)
}

/// The image that is named, or that of the agents.
pub(super) fn image(
    session: &Session,
    namespace: &str,
    named: Option<&str>,
) -> anyhow::Result<Image> {
    if let Some(name) = named {
        return Ok(Image { name: name.to_owned(), pull_policy: "IfNotPresent".to_owned() });
    }
    let agents = session
        .list(&format!("/api/v1/namespaces/{namespace}/pods"), AGENTS)
        .context("the agents' image; `--image` names one")?;
    let container = agents.first().map(|agent| &agent["spec"]["containers"][0]);
    let text = |key: &str| Some(container?[key].as_str()?.to_owned());
    match (text("image"), text("imagePullPolicy")) {
        (Some(name), Some(pull_policy)) => Ok(Image { name, pull_policy }),
        _ => bail!(
            "no agent runs in the namespace {namespace} (pods with the label {AGENTS}): `--namespace` \
             says where they are, and `--image` names an image without them"
        ),
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

fn node(object: &Value) -> Option<Node> {
    let status = &object["status"];
    let addresses = status["addresses"].as_array().into_iter().flatten();
    let own = addresses.filter(|it| it["type"] == "InternalIP");
    let kubelet = status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    Some(Node {
        name: object["metadata"]["name"].as_str()?.to_owned(),
        addresses: own.filter_map(|it| it["address"].as_str()?.parse().ok()).collect(),
        kubelet: kubelet.and_then(|port| u16::try_from(port).ok()).unwrap_or(KUBELET),
    })
}

/// How many, unless somebody says.
const FEW: usize = 2;
/// What the DaemonSet's pods have.
pub(crate) const AGENTS: &str = "app.kubernetes.io/name=millrace";
/// Where kubelets are unless Nodes say otherwise.
const KUBELET: u16 = 10250;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_known_by_its_internal_addresses() {
        let object = json!({
            "metadata": {"name": "east"},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": "east"},
                    {"type": "ExternalIP", "address": "192.0.2.1"},
                    {"type": "InternalIP", "address": "172.30.0.11"},
                    {"type": "InternalIP", "address": "fd00::11"},
                ],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}},
                "conditions": [{"type": "Ready", "status": "Unknown"}],
            },
        });
        let addresses = ["172.30.0.11", "fd00::11"].map(|it| it.parse().unwrap()).to_vec();
        let east = Node { name: "east".to_owned(), addresses, kubelet: 10251 };
        assert_eq!(node(&object), Some(east));
        assert!(!is_ready(&object));
    }
}
