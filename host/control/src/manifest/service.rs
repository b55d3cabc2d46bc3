//! `v1 Service`.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::manifest::meta::{LabelName, Metadata};
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::service::{
    Algorithm, ClusterIps, Family, FamilyPolicy, IpMode, LoadBalancerIp, NodePorts, Publishes,
    ServiceKind, ServicePort, TargetPort, TrafficPolicy,
};
use crate::{Labels, Protocol, QualifiedName, Service};

#[derive(Serialize, Deserialize)]
pub(super) struct ServiceManifest {
    metadata: Metadata<LabelName, ServiceAnnotations>,
    spec: ServiceSpec,
    #[serde(default, skip_serializing_if = "is_default")]
    status: ServiceStatus,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(skip_serializing_if = "is_default")]
    r#type: Type,
    #[serde(rename = "clusterIP", skip_serializing_if = "is_default")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", skip_serializing_if = "is_default")]
    cluster_ips: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    selector: Labels,
    #[serde(skip_serializing_if = "is_default")]
    ports: Vec<PortSpec>,
    #[serde(rename = "externalIPs", skip_serializing_if = "is_default")]
    external_ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "is_default")]
    internal_traffic_policy: Policy,
    #[serde(skip_serializing_if = "is_default")]
    external_traffic_policy: Policy,
    #[serde(skip_serializing_if = "is_default")]
    session_affinity: Affinity,
    #[serde(skip_serializing_if = "is_default")]
    session_affinity_config: AffinityConfig,
    #[serde(skip_serializing_if = "is_default")]
    publish_not_ready_addresses: bool,
    #[serde(skip_serializing_if = "is_default")]
    ip_families: Vec<FamilyName>,
    #[serde(skip_serializing_if = "is_default")]
    ip_family_policy: FamilyPolicyName,
    #[serde(skip_serializing_if = "is_default")]
    load_balancer_source_ranges: Vec<Source>,
    #[serde(skip_serializing_if = "is_default")]
    load_balancer_class: Option<String>,
    /// Absent, it is true (KEP-1864).
    #[serde(skip_serializing_if = "is_default")]
    allocate_load_balancer_node_ports: Option<bool>,
    /// 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    health_check_node_port: u16,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct ServiceAnnotations {
    #[serde(rename = "millrace.dev/algorithm", default, skip_serializing_if = "is_default")]
    algorithm: AlgorithmName,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AlgorithmName {
    #[default]
    Maglev,
    RoundRobin,
    SourceHash,
    LeastConnections,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
enum Type {
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum FamilyName {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
enum FamilyPolicyName {
    #[default]
    #[serde(rename = "SingleStack")]
    Single,
    #[serde(rename = "PreferDualStack")]
    Prefer,
    #[serde(rename = "RequireDualStack")]
    Require,
}

/// Whom connections may come from; there may be space around it (S16).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Source(IpNetwork);

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
enum Policy {
    #[default]
    Cluster,
    Local,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
enum Affinity {
    #[default]
    None,
    #[serde(rename = "ClientIP")]
    ClientIp,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct AffinityConfig {
    #[serde(rename = "clientIP", default)]
    client_ip: ClientIp,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
struct ClientIp {
    #[serde(rename = "timeoutSeconds", default, skip_serializing_if = "is_default")]
    timeout_seconds: Option<u32>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortSpec {
    #[serde(default, skip_serializing_if = "is_default")]
    name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    protocol: Protocol,
    port: NonZeroU16,
    #[serde(default, skip_serializing_if = "is_default")]
    target_port: Option<Target>,
    /// 0 is none (KEP-1864).
    #[serde(default, skip_serializing_if = "is_default")]
    node_port: u16,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a port's number, 1 to 65535, or its name")]
enum Target {
    Number(NonZeroU16),
    Name(String),
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    #[serde(skip_serializing_if = "is_default")]
    load_balancer: LoadBalancerStatus,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct LoadBalancerStatus {
    #[serde(skip_serializing_if = "is_default")]
    ingress: Vec<Ingress>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    /// Absent where the load balancer has a name instead.
    #[serde(default, skip_serializing_if = "is_default")]
    ip: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "is_default")]
    ip_mode: Mode,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
enum Mode {
    #[default]
    #[serde(rename = "VIP")]
    Vip,
    Proxy,
}

impl TryFrom<ServiceManifest> for Service {
    type Error = FieldError;

    fn try_from(manifest: ServiceManifest) -> Result<Self, FieldError> {
        let ServiceManifest { mut metadata, spec, status } = manifest;
        let name = QualifiedName::new(metadata.take_namespace(), metadata.name.0);
        let cluster_ips = spec.cluster_ips()?;
        spec.check_ports()?;
        let affinity = spec.affinity()?;
        let ingress = status.load_balancer.ingress.into_iter();
        Ok(Self {
            name,
            labels: metadata.labels,
            algorithm: match metadata.annotations.algorithm {
                AlgorithmName::Maglev => Algorithm::Maglev,
                AlgorithmName::RoundRobin => Algorithm::RoundRobin,
                AlgorithmName::SourceHash => Algorithm::SourceHash,
                AlgorithmName::LeastConnections => Algorithm::LeastConnections,
            },
            kind: spec.r#type.into(),
            cluster_ips,
            families: spec.ip_families.into_iter().map(Family::from).collect(),
            family_policy: spec.ip_family_policy.into(),
            selector: spec.selector,
            ports: spec.ports.into_iter().map(ServicePort::from).collect(),
            external_ips: spec.external_ips.into_iter().map(|it| it.to_canonical()).collect(),
            load_balancer: ingress.filter_map(Ingress::address).collect(),
            source_ranges: spec.load_balancer_source_ranges.into_iter().map(|it| it.0).collect(),
            load_balancer_class: spec.load_balancer_class,
            node_ports: match spec.allocate_load_balancer_node_ports {
                Some(false) => NodePorts::Stated,
                _ => NodePorts::Allocated,
            },
            health_check_node_port: Some(spec.health_check_node_port).filter(|port| *port != 0),
            internal_policy: spec.internal_traffic_policy.into(),
            external_policy: spec.external_traffic_policy.into(),
            affinity,
            publishes: match spec.publish_not_ready_addresses {
                true => Publishes::All,
                false => Publishes::Ready,
            },
        })
    }
}

impl ServiceSpec {
    fn cluster_ips(&self) -> Result<ClusterIps, FieldError> {
        let field = |key| FieldPath::root().key("spec").key(key);
        let said = |ip: &&String| !ip.is_empty();
        let mut stated: Vec<(FieldPath, &String)> = Vec::new();
        match self.cluster_ips.is_empty() {
            true => stated
                .extend(self.cluster_ip.iter().filter(said).map(|ip| (field("clusterIP"), ip))),
            false => stated.extend(
                self.cluster_ips
                    .iter()
                    .enumerate()
                    .map(|(n, ip)| (field("clusterIPs").index(n), ip)),
            ),
        }
        if let (Some(first), Some(one)) =
            (self.cluster_ips.first(), self.cluster_ip.iter().find(said))
            && first != one
        {
            let reason = format!("`{one}` is not the first of `clusterIPs`, which is {first}");
            return Err(FieldError { field: field("clusterIP"), reason });
        }
        if let [(_, one)] = stated[..]
            && one == HEADLESS
        {
            return Ok(ClusterIps::Headless);
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (field, text) in stated {
            let Ok(address) = text.parse::<IpAddr>() else {
                return Err(FieldError { field, reason: format!("`{text}` is no IP address") });
            };
            let address = address.to_canonical();
            if addresses.iter().any(|other| Family::of(*other) == Family::of(address)) {
                let reason = format!("`{text}` is the second address of its family");
                return Err(FieldError { field, reason });
            }
            if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
                let reason = format!("`{text}` is no address that anybody can have");
                return Err(FieldError { field, reason });
            }
            addresses.push(address);
        }
        Ok(match addresses.is_empty() {
            true => ClusterIps::Unallocated,
            false => ClusterIps::Addresses(addresses),
        })
    }

    fn check_ports(&self) -> Result<(), FieldError> {
        for (index, port) in self.ports.iter().enumerate() {
            let field = FieldPath::root().key("spec").key("ports").index(index);
            let before = &self.ports[..index];
            if self.ports.len() > 1 && port.name.is_empty() {
                let reason = "of several ports each has a name".to_owned();
                return Err(FieldError { field: field.key("name"), reason });
            }
            if before.iter().any(|other| other.name == port.name) {
                let reason = format!("`{}` is another port", port.name);
                return Err(FieldError { field: field.key("name"), reason });
            }
            let same = |it: &PortSpec| (it.protocol, it.port) == (port.protocol, port.port);
            if before.iter().any(same) {
                let reason = format!("{}/{} is there already", port.port, port.protocol);
                return Err(FieldError { field: field.key("port"), reason });
            }
        }
        Ok(())
    }

    fn affinity(&self) -> Result<Option<Duration>, FieldError> {
        if self.session_affinity == Affinity::None {
            return Ok(None);
        }
        let seconds = self.session_affinity_config.client_ip.timeout_seconds;
        let seconds = seconds.unwrap_or(AFFINITY_S);
        if !(1..=LONGEST_AFFINITY_S).contains(&seconds) {
            let way = ["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"];
            let field = way.into_iter().fold(FieldPath::root(), FieldPath::key);
            let reason = format!("{seconds} is not within 1 and {LONGEST_AFFINITY_S}");
            return Err(FieldError { field, reason });
        }
        Ok(Some(Duration::from_secs(seconds.into())))
    }
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let prefix = text.trim().parse::<IpNetwork>();
        let prefix = prefix.map_err(|_| format!("`{text}` is no prefix: write `192.0.2.0/24`"))?;
        let network = IpNetwork::new(prefix.network(), prefix.prefix());
        Ok(Self(network.expect("the length is that of a prefix")))
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.0.to_string()
    }
}

impl Ingress {
    fn address(self) -> Option<LoadBalancerIp> {
        let mode = match self.ip_mode {
            Mode::Vip => IpMode::Vip,
            Mode::Proxy => IpMode::Proxy,
        };
        Some(LoadBalancerIp { address: self.ip?.to_canonical(), mode })
    }
}

impl From<PortSpec> for ServicePort {
    fn from(spec: PortSpec) -> Self {
        let target = match spec.target_port {
            None => TargetPort::Number(spec.port.get()),
            Some(Target::Number(number)) => TargetPort::Number(number.get()),
            Some(Target::Name(name)) => TargetPort::Name(name),
        };
        Self {
            name: spec.name,
            protocol: spec.protocol,
            port: spec.port.get(),
            target,
            node_port: (spec.node_port != 0).then_some(spec.node_port),
        }
    }
}

impl From<&ServicePort> for PortSpec {
    fn from(port: &ServicePort) -> Self {
        let number = |it| NonZeroU16::new(it).expect("port 0 is never read");
        Self {
            name: port.name.clone(),
            protocol: port.protocol,
            port: number(port.port),
            target_port: Some(match &port.target {
                TargetPort::Number(it) => Target::Number(number(*it)),
                TargetPort::Name(name) => Target::Name(name.clone()),
            }),
            node_port: port.node_port.unwrap_or(0),
        }
    }
}

impl From<&Service> for ServiceManifest {
    fn from(service: &Service) -> Self {
        let name = LabelName(service.name.name.clone());
        let cluster_ips = match &service.cluster_ips {
            ClusterIps::Unallocated => Vec::new(),
            ClusterIps::Headless => vec![HEADLESS.to_owned()],
            ClusterIps::Addresses(addresses) => addresses.iter().map(IpAddr::to_string).collect(),
        };
        let timeout_seconds = service.affinity.map(|it| it.as_secs() as u32);
        let ingress = service.load_balancer.iter().map(|it| Ingress {
            ip: Some(it.address),
            ip_mode: match it.mode {
                IpMode::Vip => Mode::Vip,
                IpMode::Proxy => Mode::Proxy,
            },
        });
        let namespace = Some(&*service.name.namespace);
        let sources = service.source_ranges.iter().copied();
        let annotations = ServiceAnnotations {
            algorithm: match service.algorithm {
                Algorithm::Maglev => AlgorithmName::Maglev,
                Algorithm::RoundRobin => AlgorithmName::RoundRobin,
                Algorithm::SourceHash => AlgorithmName::SourceHash,
                Algorithm::LeastConnections => AlgorithmName::LeastConnections,
            },
        };
        Self {
            metadata: Metadata::new(name, namespace, &service.labels, annotations),
            spec: ServiceSpec {
                r#type: service.kind.into(),
                cluster_ip: cluster_ips.first().cloned(),
                cluster_ips,
                selector: service.selector.clone(),
                ports: service.ports.iter().map(PortSpec::from).collect(),
                external_ips: service.external_ips.clone(),
                internal_traffic_policy: service.internal_policy.into(),
                external_traffic_policy: service.external_policy.into(),
                session_affinity: match service.affinity {
                    Some(_) => Affinity::ClientIp,
                    None => Affinity::None,
                },
                session_affinity_config: AffinityConfig { client_ip: ClientIp { timeout_seconds } },
                publish_not_ready_addresses: service.publishes == Publishes::All,
                ip_families: service.families.iter().copied().map(FamilyName::from).collect(),
                ip_family_policy: service.family_policy.into(),
                load_balancer_source_ranges: sources.map(Source).collect(),
                load_balancer_class: service.load_balancer_class.clone(),
                allocate_load_balancer_node_ports: (service.node_ports == NodePorts::Stated)
                    .then_some(false),
                health_check_node_port: service.health_check_node_port.unwrap_or(0),
            },
            status: ServiceStatus {
                load_balancer: LoadBalancerStatus { ingress: ingress.collect() },
            },
        }
    }
}

/// Conversions both ways between words and meanings.
macro_rules! words {
    ($word:ident, $meaning:ident: $($value:ident),+) => {
        impl From<$word> for $meaning {
            fn from(word: $word) -> Self {
                match word { $($word::$value => Self::$value),+ }
            }
        }

        impl From<$meaning> for $word {
            fn from(meaning: $meaning) -> Self {
                match meaning { $($meaning::$value => Self::$value),+ }
            }
        }
    };
}
words!(Type, ServiceKind: ClusterIp, NodePort, LoadBalancer, ExternalName);
words!(Policy, TrafficPolicy: Cluster, Local);
words!(FamilyName, Family: V4, V6);
words!(FamilyPolicyName, FamilyPolicy: Single, Prefer, Require);

/// What a Service says that has no address of its own.
const HEADLESS: &str = "None";
/// How long affinity lasts unless it is said.
const AFFINITY_S: u32 = 10_800;
/// The API's bound.
const LONGEST_AFFINITY_S: u32 = 86_400;
