//! `v1 Pod`.

use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::manifest::condition::Condition;
use crate::manifest::meta::{LabelName, Metadata, Subdomain};
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::{
    Bandwidth, BitRate, Container, ContainerPort, HostPort, Life, Pod, PodName, PodNetwork,
    PodStatus, Protocol, Weight,
};

#[derive(Serialize, Deserialize)]
pub(super) struct PodManifest {
    metadata: Metadata<Subdomain, PodAnnotations>,
    spec: PodSpec,
    #[serde(default, skip_serializing_if = "is_default")]
    status: StatusSpec,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusSpec {
    #[serde(skip_serializing_if = "is_default")]
    phase: String,
    #[serde(rename = "podIPs", skip_serializing_if = "is_default")]
    pod_ips: Vec<PodIp>,
    #[serde(skip_serializing_if = "is_default")]
    conditions: Vec<Condition>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct PodIp {
    ip: IpAddr,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct PodAnnotations {
    #[serde(
        rename = "kubernetes.io/ingress-bandwidth",
        default,
        skip_serializing_if = "is_default"
    )]
    ingress: Option<BitRate>,
    #[serde(
        rename = "kubernetes.io/egress-bandwidth",
        default,
        skip_serializing_if = "is_default"
    )]
    egress: Option<BitRate>,
    #[serde(rename = "millrace.dev/weight", default, skip_serializing_if = "is_default")]
    weight: Heaviness,
}

/// A pod's weight, as a text.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Heaviness(Weight);

impl TryFrom<String> for Heaviness {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let weight = text.parse().ok().filter(|it| (1..=Weight::MOST.0).contains(it));
        let Weight(most) = Weight::MOST;
        weight
            .map(|it| Self(Weight(it)))
            .ok_or_else(|| format!("`{text}` is no weight: it is a number from 1 to {most}"))
    }
}

impl From<Heaviness> for String {
    fn from(Heaviness(Weight(weight)): Heaviness) -> Self {
        weight.to_string()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default, skip_serializing_if = "is_default")]
    node_name: Option<Subdomain>,
    #[serde(default, skip_serializing_if = "is_default")]
    host_network: bool,
    containers: Vec<ContainerSpec>,
}

#[derive(Serialize, Deserialize)]
struct ContainerSpec {
    name: LabelName,
    #[serde(default, skip_serializing_if = "is_default")]
    command: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    args: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    ports: Vec<PortSpec>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortSpec {
    #[serde(default, skip_serializing_if = "is_default")]
    name: Option<String>,
    container_port: NonZeroU16,
    #[serde(default, skip_serializing_if = "is_default")]
    protocol: Protocol,
    /// 0 is none.
    #[serde(default, skip_serializing_if = "is_default")]
    host_port: u16,
    /// Unspecified is any.
    #[serde(rename = "hostIP", default, skip_serializing_if = "is_default")]
    host_ip: Option<IpAddr>,
}

impl TryFrom<PodManifest> for Pod {
    type Error = FieldError;

    fn try_from(manifest: PodManifest) -> Result<Self, FieldError> {
        let PodManifest { mut metadata, spec, status } = manifest;
        let status = status.read(metadata.deletion.is_some());
        let name = PodName::new(metadata.take_namespace(), metadata.name.0);
        check(&spec.containers)?;
        let PodAnnotations { ingress, egress, weight: Heaviness(weight) } = metadata.annotations;
        Ok(Self {
            name,
            labels: metadata.labels,
            node: spec.node_name.map(|name| name.0),
            network: if spec.host_network { PodNetwork::Host } else { PodNetwork::Own },
            bandwidth: Bandwidth { ingress, egress },
            weight,
            containers: spec.containers.into_iter().map(Container::from).collect(),
            status,
        })
    }
}

impl From<&Pod> for PodManifest {
    fn from(pod: &Pod) -> Self {
        let Bandwidth { ingress, egress } = pod.bandwidth;
        let annotations = PodAnnotations { ingress, egress, weight: Heaviness(pod.weight) };
        let name = Subdomain(pod.name.name.clone());
        let namespace = Some(&*pod.name.namespace);
        let mut metadata = Metadata::new(name, namespace, &pod.labels, annotations);
        // when it is to end does not matter here
        metadata.deletion =
            (pod.status.life == Life::Ending).then(|| "1970-01-01T00:00:00Z".to_owned());
        Self {
            metadata,
            spec: PodSpec {
                node_name: pod.node.clone().map(Subdomain),
                host_network: pod.network == PodNetwork::Host,
                containers: pod.containers.iter().map(ContainerSpec::from).collect(),
            },
            status: StatusSpec::of(&pod.status),
        }
    }
}

impl StatusSpec {
    fn read(self, is_deleted: bool) -> PodStatus {
        PodStatus {
            addresses: self.pod_ips.iter().map(|it| it.ip).collect(),
            readiness: Condition::readiness(&self.conditions),
            life: match &*self.phase {
                FAILED | SUCCEEDED => Life::Over,
                _ if is_deleted => Life::Ending,
                _ => Life::Running,
            },
        }
    }

    fn of(status: &PodStatus) -> Self {
        Self {
            phase: if status.life == Life::Over { SUCCEEDED.to_owned() } else { String::new() },
            pod_ips: status.addresses.iter().map(|&ip| PodIp { ip }).collect(),
            conditions: Condition::of(status.readiness),
        }
    }
}

impl From<ContainerSpec> for Container {
    fn from(spec: ContainerSpec) -> Self {
        // arguments alone are for the program of an image, which is not known here
        let command = match spec.command.is_empty() {
            true => Vec::new(),
            false => [spec.command, spec.args].concat(),
        };
        let port = |it: PortSpec| ContainerPort {
            name: it.name,
            protocol: it.protocol,
            port: it.container_port.get(),
            host: (it.host_port != 0).then(|| HostPort {
                address: it.host_ip.filter(|address| !address.is_unspecified()),
                port: it.host_port,
            }),
        };
        Self { name: spec.name.0, command, ports: spec.ports.into_iter().map(port).collect() }
    }
}

impl From<&Container> for ContainerSpec {
    fn from(container: &Container) -> Self {
        let port = |it: &ContainerPort| PortSpec {
            name: it.name.clone(),
            container_port: NonZeroU16::new(it.port).expect("port 0 is never read"),
            protocol: it.protocol,
            host_port: it.host.map_or(0, |host| host.port),
            host_ip: it.host.and_then(|host| host.address),
        };
        Self {
            name: LabelName(container.name.clone()),
            command: container.command.clone(),
            args: Vec::new(),
            ports: container.ports.iter().map(port).collect(),
        }
    }
}

/// A pod has containers, and their names tell them apart.
fn check(containers: &[ContainerSpec]) -> Result<(), FieldError> {
    let field = FieldPath::root().key("spec").key("containers");
    if containers.is_empty() {
        return Err(FieldError { field, reason: "a pod has one container at least".to_owned() });
    }
    for (index, LabelName(name)) in containers.iter().map(|it| &it.name).enumerate() {
        if containers[..index].iter().any(|other| other.name.0 == *name) {
            let field = field.index(index).key("name");
            return Err(FieldError { field, reason: format!("`{name}` is another container") });
        }
    }
    Ok(())
}

const FAILED: &str = "Failed";
const SUCCEEDED: &str = "Succeeded";
