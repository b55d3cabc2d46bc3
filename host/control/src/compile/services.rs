//! A Service's frontends, as a node sees it (S1, S2, S7, S8, S14, S23).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use millrace_tables::{
    Algorithm, EndpointSet, Frontend, FrontendKind, Protocol, Range, SourceSet, TrafficPolicy,
};

use super::announced::announced;
use super::endpoints::Backing;
use super::frontends::{Numbered, Uses};
use super::{HealthCheck, ServiceSummary, range};
use crate::service::{ClusterIps, Family, IpMode, Service, ServiceKind, ServicePort};

/// What a Service has become.
#[derive(Clone, Debug, Default)]
pub(super) struct Compiled {
    pub(super) rows: Vec<(Frontend, millrace_tables::Service)>,
    pub(super) summary: ServiceSummary,
    /// Which of its addresses this node answers neighbours for.
    pub(super) announced: BTreeSet<IpAddr>,
    pub(super) uses: Uses,
}

/// An address that a Service is reached by.
struct Place {
    address: IpAddr,
    kind: FrontendKind,
    policy: crate::service::TrafficPolicy,
}

/// Compiles a Service.
pub(super) fn compile(service: &Service, backing: &Backing<'_>, sets: &mut Numbered) -> Compiled {
    let announced = announced(service, backing);
    let mut compiled = Compiled { announced, ..Compiled::default() };
    let somebody_elses = service.labels.contains_key(Service::PROXY_NAME_LABEL);
    if service.kind == ServiceKind::ExternalName || somebody_elses {
        return compiled;
    }
    let cluster_ips = match &service.cluster_ips {
        ClusterIps::Headless => return compiled,
        ClusterIps::Addresses(addresses) => addresses,
        ClusterIps::Unallocated => {
            let problem =
                "spec.clusterIP: it has no address: state one, or have a ServiceCIDR with room"
                    .to_owned();
            compiled.summary.problems.push(problem);
            return compiled;
        }
    };
    let sources = SourceSet(compiled.uses.sources(sources(service, backing), sets));
    // whoever is ready here: load balancers send nobody to endpoints that are about to go
    let mut ready = BTreeSet::new();
    for address in cluster_ips {
        let family = Family::of(*address);
        for port in &service.ports {
            let usable = backing.usable(service, port, family);
            if usable.cluster.len() > MOST_ENDPOINTS {
                let count = usable.cluster.len();
                compiled.summary.problems.push(format!(
                    "port {}/{}: {count} endpoints are more than {MOST_ENDPOINTS}: it is not served",
                    port.port, port.protocol
                ));
                continue;
            }
            compiled.summary.endpoints.extend(usable.cluster.iter().map(|it| it.endpoint));
            compiled.summary.local.extend(usable.local.iter().map(|it| it.endpoint));
            if usable.is_local_ready {
                ready.extend(usable.local.iter().map(|it| it.endpoint.address));
            }
            let own = SourceSet::NONE;
            let both = compiled.uses.both(usable, sets);
            let mut behind = Behind { service, port, sets: both, sources, own };
            let internal = Place {
                address: *address,
                kind: FrontendKind::ClusterIp,
                policy: service.internal_policy,
            };
            compiled.rows.push(behind.row(port.port, &internal));
            for place in external(service, family) {
                compiled.rows.push(behind.row(port.port, &place));
            }
            let Some(node_port) = port.node_port.filter(|_| has_node_ports(service.kind)) else {
                continue;
            };
            let own = backing.node_port_addresses().into_iter();
            for address in own.filter(|it| Family::of(*it) == family) {
                let (kind, policy) = (FrontendKind::NodePort, service.external_policy);
                compiled.rows.push(behind.row(node_port, &Place { address, kind, policy }));
            }
            behind.own = SourceSet(compiled.uses.sources(backing.own_sources(), sets));
            let stand_ins = backing.node_port_stand_ins();
            for address in stand_ins.filter(|it| Family::of(*it) == family) {
                let (kind, policy) = (FrontendKind::OwnNode, service.external_policy);
                compiled.rows.push(behind.row(node_port, &Place { address, kind, policy }));
            }
        }
    }
    let ServiceSummary { endpoints, local, health_check, .. } = &mut compiled.summary;
    for endpoints in [endpoints, local] {
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints.shrink_to_fit();
    }
    let port = service.health_check_node_port.filter(|_| service.has_health_check());
    // one with an address of each family is asked about by either
    let v4 = ready.iter().filter(|it| it.is_ipv4()).count();
    let local = v4.max(ready.len() - v4);
    *health_check = port.map(|port| HealthCheck { port, local });
    compiled
}

/// What is behind a port of a Service.
struct Behind<'s> {
    service: &'s Service,
    port: &'s ServicePort,
    sets: (EndpointSet, EndpointSet),
    /// Whom connections from without may come from.
    sources: SourceSet,
    /// Whom those of the node's own processes come from.
    own: SourceSet,
}

impl Behind<'_> {
    fn row(&self, port: u16, place: &Place) -> (Frontend, millrace_tables::Service) {
        let protocol = protocol(self.port.protocol);
        let (cluster, local) = self.sets;
        let service = millrace_tables::Service {
            number: number(&self.service.name),
            port: self.port.port,
            kind: place.kind,
            policy: match place.policy {
                crate::service::TrafficPolicy::Cluster => TrafficPolicy::Cluster,
                crate::service::TrafficPolicy::Local => TrafficPolicy::Local,
            },
            cluster,
            local,
            affinity_s: self.service.affinity.map_or(0, |it| it.as_secs() as u32),
            sources: match place.kind {
                FrontendKind::LoadBalancer => self.sources,
                FrontendKind::OwnNode => self.own,
                _ => SourceSet::NONE,
            },
            algorithm: match self.service.algorithm {
                crate::service::Algorithm::Maglev => Algorithm::Maglev,
                crate::service::Algorithm::RoundRobin => Algorithm::RoundRobin,
                crate::service::Algorithm::SourceHash => Algorithm::SourceHash,
                crate::service::Algorithm::LeastConnections => Algorithm::LeastConnections,
            },
        };
        (Frontend { address: place.address, port, protocol }, service)
    }
}

/// The addresses from without, of a family that the Service has an address of its own of.
fn external(service: &Service, family: Family) -> impl Iterator<Item = Place> {
    let place = |address, kind| Place { address, kind, policy: service.external_policy };
    let external = service.external_ips.iter().map(|it| (*it, FrontendKind::ExternalIp));
    let is_ours = service.kind == ServiceKind::LoadBalancer;
    let balanced = service.load_balancer.iter().filter(move |it| is_ours && it.mode == IpMode::Vip);
    let balanced = balanced.map(|it| (it.address, FrontendKind::LoadBalancer));
    let all = external.chain(balanced).map(move |(address, kind)| place(address, kind));
    all.filter(move |it| Family::of(it.address) == family)
}

fn has_node_ports(kind: ServiceKind) -> bool {
    matches!(kind, ServiceKind::NodePort | ServiceKind::LoadBalancer)
}

/// Whom connections to the addresses of a load balancer may come from (S16). A node that may connect
/// does so from the address that its pods know it by.
fn sources(service: &Service, backing: &Backing<'_>) -> Vec<Range> {
    let prefixes = &service.source_ranges;
    let may = |address: &IpAddr| prefixes.iter().any(|prefix| prefix.contains(*address));
    let families: BTreeSet<Family> = backing.node_addresses().filter(may).map(Family::of).collect();
    let own = backing.gateways().filter(|address| families.contains(&Family::of(*address)));
    let own = own.map(|address| range(&address.into()));
    let ranges: BTreeSet<Range> = prefixes.iter().map(range).chain(own).collect();
    ranges.into_iter().collect()
}

pub(super) fn protocol(protocol: crate::Protocol) -> Protocol {
    match protocol {
        crate::Protocol::Tcp => Protocol::Tcp,
        crate::Protocol::Udp => Protocol::Udp,
        crate::Protocol::Sctp => Protocol::Sctp,
    }
}

/// A Service's number: the same on every node and after every restart. That two have one is rare,
/// and does no harm: tags of decisions are asked about a little too often then.
pub(super) fn number(name: &impl fmt::Display) -> u32 {
    // FNV-1a
    let text = name.to_string();
    let hash = text
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> BITS)) & ((1 << BITS) - 1)
}

/// Bits of a number: as many as a tag has for it.
const BITS: u32 = millrace_abi::Tag::ID_BITS;
/// Endpoints of a port: a filter numbers them with 16 bits.
pub(super) const MOST_ENDPOINTS: usize = u16::MAX as usize;
