//! What Services get that do not state it: addresses and ports.
//!
//! Owns which of them a Service gets where manifests are all there is: an API server gives them itself,
//! but for addresses of pools, which are [ours to give](FromPools), and Gateways get, too.
//! Each is found by a hash of what it is for, and by the next ones if that is taken; Services take
//! turns by their names, after all that is stated. So it follows from the manifests alone: every node
//! finds the same, before a restart and after, and another Service can change it only by the same hash.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use crate::gateway::{Gateway, GatewayClass, Gateways, claimed, wants_any};
use crate::service::{ClusterIps, Family, FamilyPolicy, LoadBalancerIp, NodePorts, ServiceKind};
use crate::{QualifiedName, Service, Services, World};

/// Gives Services what they do not state. One for which nothing is left goes without.
pub(super) fn allocate(world: &mut World) {
    let World { services, gateways, .. } = world;
    let ranges: Vec<IpNetwork> =
        services.ranges.values().flat_map(|range| range.prefixes.iter().copied()).collect();
    let pools = pools(services);
    let mut taken = Taken::of(services, gateways);
    for service in services.services.values_mut().filter(|it| it.kind != ServiceKind::ExternalName)
    {
        let ClusterIps::Headless = service.cluster_ips else {
            cluster_ips(service, &ranges, &mut taken);
            load_balancer(service, &pools, &mut taken);
            node_ports(service, &mut taken);
            continue;
        };
    }
    give(gateways, &pools, &mut taken);
}

/// The addresses of pools that are to be given now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromPools {
    /// To these Services, for their load balancers.
    pub services: Vec<(QualifiedName, Vec<IpAddr>)>,
    /// The Gateways, as they are with theirs.
    pub gateways: Gateways,
}

impl FromPools {
    /// Those that Services and Gateways of a world are to get, and have not got.
    pub fn of(world: &World) -> Self {
        let World { services, gateways, .. } = world;
        let mut gateways = gateways.clone();
        let pools = pools(services);
        let lacking: Vec<_> =
            services.services.values().filter(|it| it.lacks_pool_address()).collect();
        // most often there is nothing to give
        if pools.is_empty() || lacking.is_empty() && !gateways.gateways.values().any(lacks) {
            return Self { services: Vec::new(), gateways };
        }
        let mut taken = Taken::of(services, &gateways);
        let given = lacking
            .into_iter()
            .map(|service| (service.name.clone(), from_pools(service, &pools, &mut taken)));
        let services = given.filter(|(_, addresses)| !addresses.is_empty()).collect();
        give(&mut gateways, &pools, &mut taken);
        Self { services, gateways }
    }
}

/// What is not to be had any more.
struct Taken {
    addresses: BTreeSet<IpAddr>,
    node_ports: BTreeSet<u16>,
}

impl Taken {
    fn of(services: &Services, gateways: &Gateways) -> Self {
        let services = services.services.values();
        let of_gateways = gateways.gateways.values().flat_map(claimed);
        let addresses = services.clone().flat_map(|service| {
            let balanced = service.load_balancer.iter().map(|it| it.address);
            cluster_addresses(service).iter().copied().chain(balanced)
        });
        let node_ports = services.flat_map(|service| {
            let ports = service.ports.iter().filter_map(|port| port.node_port);
            ports.chain(service.health_check_node_port)
        });
        Self { addresses: addresses.chain(of_gateways).collect(), node_ports: node_ports.collect() }
    }

    /// A free address of the first prefix that has one.
    fn address<'p>(
        &mut self,
        prefixes: impl Iterator<Item = &'p IpNetwork>,
        key: &str,
    ) -> Option<IpAddr> {
        let address = prefixes.into_iter().find_map(|prefix| {
            // the first names the subnet, and the last is everybody's (RFC 919)
            let bits = if prefix.is_ipv4() { 32 } else { 128 } - prefix.prefix();
            let all = 1u128.checked_shl(bits.into()).unwrap_or(u128::MAX);
            let count = all.saturating_sub(if prefix.is_ipv4() { 2 } else { 1 }).min(MOST);
            let first = hash(key).checked_rem(count)?;
            // one of so many is free
            let tries = count.min(self.addresses.len() as u128 + 1);
            let nth = |at: u128| offset(prefix.network(), 1 + (first + at) % count);
            (0..tries).map(nth).find(|address| !self.addresses.contains(address))
        })?;
        self.addresses.insert(address);
        Some(address)
    }

    fn node_port(&mut self, key: &str) -> Option<u16> {
        let count = NODE_PORTS.end() - NODE_PORTS.start() + 1;
        let first = (hash(key) % u128::from(count)) as u16;
        let nth = |at: u16| NODE_PORTS.start() + (first + at) % count;
        let port = (0..count).map(nth).find(|port| !self.node_ports.contains(port))?;
        self.node_ports.insert(port);
        Some(port)
    }
}

/// An address of each family that the Service is to have (S23); the family that comes first among
/// the ranges is that of Services that do not say.
fn cluster_ips(service: &mut Service, ranges: &[IpNetwork], taken: &mut Taken) {
    let family = |prefix: &IpNetwork| Family::of(prefix.network());
    let mut has = cluster_addresses(service).to_vec();
    let mut families = service.families.clone();
    families.extend(has.iter().map(|address| Family::of(*address)));
    families.extend(ranges.iter().map(family));
    let mut wanted: Vec<Family> = Vec::new();
    for family in families {
        if !wanted.contains(&family) {
            wanted.push(family);
        }
    }
    if service.family_policy == FamilyPolicy::Single {
        wanted.truncate(1);
    }
    let key = format!("address of {}", service.name);
    for wanted in wanted {
        if !has.iter().any(|address| Family::of(*address) == wanted) {
            let prefixes = ranges.iter().filter(|prefix| family(prefix) == wanted);
            has.extend(taken.address(prefixes, &key));
        }
    }
    if !has.is_empty() {
        service.cluster_ips = ClusterIps::Addresses(has);
    }
}

/// Addresses of the pools for a Service that is to have some and has none.
fn load_balancer(service: &mut Service, pools: &[IpNetwork], taken: &mut Taken) {
    if service.lacks_pool_address() {
        let given = from_pools(service, pools, taken).into_iter();
        service
            .load_balancer
            .extend(given.map(|address| LoadBalancerIp { address, mode: <_>::default() }));
    }
}

/// An address of the pools of each family that the Service has one of itself.
fn from_pools(service: &Service, pools: &[IpNetwork], taken: &mut Taken) -> Vec<IpAddr> {
    let key = format!("load balancer of {}", service.name);
    let families = cluster_addresses(service).iter().map(|address| Family::of(*address));
    let given = families.filter_map(|family| {
        let prefixes = pools.iter().filter(|prefix| Family::of(prefix.network()) == family);
        taken.address(prefixes, &key)
    });
    given.collect()
}

/// Gives Gateways that want any addresses, and have none, one of each family that there is.
fn give(gateways: &mut Gateways, pools: &[IpNetwork], taken: &mut Taken) {
    let Gateways { classes, gateways, .. } = gateways;
    let is_ours = |it: &&mut Gateway| classes.get(&it.class).is_some_and(GatewayClass::is_ours);
    for gateway in gateways.values_mut().filter(|it| lacks(it)).filter(is_ours) {
        let key = format!("gateway {}", gateway.name);
        gateway.given = Family::ALL
            .into_iter()
            .filter_map(|family| {
                let of_family = |it: &&IpNetwork| Family::of(it.network()) == family;
                taken.address(pools.iter().filter(of_family), &key)
            })
            .collect();
    }
}

fn lacks(gateway: &Gateway) -> bool {
    wants_any(gateway) && gateway.given.is_empty()
}

fn pools(services: &Services) -> Vec<IpNetwork> {
    services.pools.values().flat_map(|pool| pool.prefixes.iter().copied()).collect()
}

/// A node port for each port; ports of one number share theirs, with different protocols.
fn node_ports(service: &mut Service, taken: &mut Taken) {
    let has = match service.kind {
        ServiceKind::NodePort => true,
        ServiceKind::LoadBalancer => service.node_ports == NodePorts::Allocated,
        ServiceKind::ClusterIp | ServiceKind::ExternalName => false,
    };
    for at in (0..service.ports.len()).filter(|_| has) {
        let port = &service.ports[at];
        if port.node_port.is_some() {
            continue;
        }
        let (number, protocol) = (port.port, port.protocol);
        let used = |it| service.ports.iter().any(|p| p.node_port == it && p.protocol == protocol);
        let same = service.ports.iter().filter(|other| other.port == number);
        let shared = same.filter_map(|other| other.node_port).find(|it| !used(Some(*it)));
        let key = || format!("node port {number}/{protocol} of {}", service.name);
        service.ports[at].node_port = shared.or_else(|| taken.node_port(&key()));
    }
    if service.has_health_check() && service.health_check_node_port.is_none() {
        let key = format!("health check of {}", service.name);
        service.health_check_node_port = taken.node_port(&key);
    }
}

fn cluster_addresses(service: &Service) -> &[IpAddr] {
    match &service.cluster_ips {
        ClusterIps::Addresses(addresses) => addresses,
        ClusterIps::Headless | ClusterIps::Unallocated => &[],
    }
}

fn offset(network: IpAddr, by: u128) -> IpAddr {
    match network {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() + by as u32).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() + by).into()),
    }
}

/// FNV-1a, of 64 bits.
fn hash(key: &str) -> u128 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // the lowest bits of neighbouring keys are too much alike
    u128::from(hash ^ (hash >> 32))
}

/// The node ports that Services get, as everywhere in Kubernetes unless it is said.
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;
/// As many of a prefix's addresses as count: more than there can be Services.
const MOST: u128 = 1 << 40;

#[cfg(test)]
mod tests;
