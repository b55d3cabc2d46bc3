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

/// The pods of agents.
pub(super) struct Agents(Vec<Value>);

impl Agents {
    /// Those in a namespace.
    pub(super) fn of(session: &Session, namespace: &str) -> anyhow::Result<Self> {
        let pods = session.list(&format!("/api/v1/namespaces/{namespace}/pods"), AGENTS);
        Ok(Self(pods.context("the agents")?))
    }

    /// Whether one is on this node; so it is on each, if there are none at all.
    fn is_on(&self, node: &Node) -> bool {
        self.0.is_empty() || self.0.iter().any(|agent| agent["spec"]["nodeName"] == *node.name)
    }

    /// The image that is named, or theirs.
    pub(super) fn image(&self, namespace: &str, named: Option<&str>) -> anyhow::Result<Image> {
        if let Some(name) = named {
            return Ok(Image { name: name.to_owned(), pull_policy: "IfNotPresent".to_owned() });
        }
        let spec = self.0.first().map(|agent| &agent["spec"]);
        let text = |key: &str| Some(spec?["containers"][0][key].as_str()?.to_owned());
        let Some((name, pull_policy)) = text("image").zip(text("imagePullPolicy")) else {
            bail!(
                "no agent runs in the namespace {namespace} (pods with the label {AGENTS}): \
                 `--namespace` says where they are, and `--image` names an image without them"
            );
        };
        if spec.is_some_and(|spec| spec["imagePullSecrets"].is_array()) {
            eprintln!(
                "millrace: agents have a Secret to pull {name} with, and the check's pods have none: if \
                 they do not start, `--image` names one that nodes have or may pull"
            );
        }
        Ok(Image { name, pull_policy })
    }
}

/// The nodes that are to be tried: those of these names, or of those with an agent all, or two.
pub(super) fn nodes(
    session: &Session,
    agents: &Agents,
    names: &[String],
    all: bool,
) -> anyhow::Result<Vec<Node>> {
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
    } else {
        ready.retain(|node| agents.is_on(node));
        ready.truncate(if all { usize::MAX } else { FEW });
    }
    if ready.is_empty() {
        bail!(
            "no node with an agent is ready, out of {}: `kubectl describe nodes` says why",
            listed.len()
        );
    }
    Ok(ready)
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

    #[test]
    fn nodes_without_an_agent_are_none_of_the_networks_unless_there_is_no_agent_at_all() {
        let node = |name: &str| Node { name: name.to_owned(), addresses: Vec::new(), kubelet: 1 };
        let agents = Agents(vec![json!({"spec": {"nodeName": "east"}})]);
        assert!(agents.is_on(&node("east")) && !agents.is_on(&node("west")));
        assert!(Agents(Vec::new()).is_on(&node("west")));
    }

    #[test]
    fn pods_have_the_image_of_agents_unless_another_is_named() {
        let container = json!({"image": "example.org/a:1", "imagePullPolicy": "Always"});
        let agents = Agents(vec![json!({"spec": {"containers": [container]}})]);
        let image = |named| agents.image("there", named).unwrap();
        assert_eq!((&*image(None).name, &*image(None).pull_policy), ("example.org/a:1", "Always"));
        assert_eq!(image(Some("b")).name, "b");
        let error = Agents(Vec::new()).image("there", None).err().unwrap().to_string();
        assert!(error.contains("there") && error.contains("--image"), "{error}");
    }
}
