//! Services, row by row: the tables say which rules they are of.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use millrace_abi::{PortKind, Reason};
use millrace_conformance_tests::{Outcome, Services, Source, rows};
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum From {
    Pod,
    Node,
    Outside,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum To {
    #[serde(rename = "clusterIP")]
    ClusterIp,
    #[serde(rename = "externalIP")]
    ExternalIp,
    #[serde(rename = "nodePort")]
    NodePort,
    #[serde(rename = "loadBalancer")]
    LoadBalancer,
}

/// Which traffic policy is `Local`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Local {
    None,
    External,
    Internal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Masquerade {
    from: From,
    to: To,
    local: Local,
    endpoints: Endpoints,
    source: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Endpoints {
    All,
    Local,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Seen {
    Kept,
    Masqueraded,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoEndpoints {
    endpoints: Where,
    to: To,
    local: Local,
    outcome: End,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Where {
    Nowhere,
    Elsewhere,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum End {
    Rejected,
    Dropped,
}

#[test]
fn s11_who_serves_and_whom_the_endpoint_sees() {
    let table: Vec<Masquerade> = rows(include_str!("../tables/masquerade.yaml"));
    assert_eq!(table.len(), 27);
    for row in &table {
        let mut services = Services::of(&manifests(row.local, &PODS), "here");
        for family in [V4, V6] {
            let (kind, source) = row.from.is(family);
            let mut served = BTreeSet::new();
            for port in 1000..1200 {
                let outcome =
                    services.connect(kind, SocketAddr::new(source, port), row.to.at(family));
                let Outcome::To(endpoint, seen) = outcome else { panic!("{row:?}: {outcome:?}") };
                let expected = match row.source {
                    Seen::Kept => Source::Kept,
                    Seen::Masqueraded => Source::Masqueraded,
                };
                assert_eq!(seen, expected, "{row:?}");
                served.insert(endpoint);
            }
            let all = PODS.iter().filter(|pod| row.endpoints == Endpoints::All || pod.1 == "here");
            let all = all.map(|pod| SocketAddr::new(pod.2[family].parse().unwrap(), 8080));
            assert_eq!(served, all.collect(), "{row:?}");
        }
    }
}

#[test]
fn s9_connections_that_nobody_can_take_are_rejected_or_dropped() {
    let table: Vec<NoEndpoints> = rows(include_str!("../tables/no-endpoints.yaml"));
    assert_eq!(table.len(), 12);
    for row in &table {
        let pods = match row.endpoints {
            Where::Nowhere => &PODS[..0],
            Where::Elsewhere => &PODS[1..],
        };
        let mut services = Services::of(&manifests(row.local, pods), "here");
        for family in [V4, V6] {
            let (kind, source) = From::Outside.is(family);
            let outcome = services.connect(kind, SocketAddr::new(source, 1000), row.to.at(family));
            let expected = match row.outcome {
                End::Rejected => Outcome::Rejected(Reason::NoBackend),
                End::Dropped => Outcome::Dropped(Reason::NoLocalBackend),
            };
            assert_eq!(outcome, expected, "{row:?}");
        }
    }
}

#[test]
fn s12_s15_s17_what_the_tables_do_not_say() {
    let mut services = Services::of(&manifests(Local::None, &PODS[..1]), "here");
    for family in [V4, V6] {
        let address: IpAddr = PODS[0].2[family].parse().unwrap();
        let own = SocketAddr::new(address, 1000);
        // S12: the only endpoint is the client itself
        let outcome = services.connect(PortKind::Pod, own, To::ClusterIp.at(family));
        let endpoint = SocketAddr::new(address, 8080);
        assert_eq!(outcome, Outcome::To(endpoint, Source::Masqueraded));

        // S15: of a Service, of none, and nobody's business
        let undefined = SocketAddr::new(To::ClusterIp.at(family).ip(), 81);
        let outcome = services.connect(PortKind::Pod, own, undefined);
        assert_eq!(outcome, Outcome::Rejected(Reason::NoService));
        let unallocated = ["10.96.7.7:80", "[fd96::77]:80"][family].parse().unwrap();
        let outcome = services.connect(PortKind::Pod, own, unallocated);
        assert_eq!(outcome, Outcome::Dropped(Reason::NoService));
        let elsewhere = ["198.51.100.7:80", "[2001:db8:51::7]:80"][family].parse().unwrap();
        assert_eq!(services.connect(PortKind::Pod, own, elsewhere), Outcome::Nothing);

        // S17: a proxy's address is reached by way of the proxy
        let proxy = ["203.0.113.99:80", "[2001:db8:f::99]:80"][family].parse().unwrap();
        assert_eq!(services.connect(PortKind::Pod, own, proxy), Outcome::Nothing);
    }
}

impl From {
    /// The kind of the port that it comes in by, and its address.
    fn is(self, family: usize) -> (PortKind, IpAddr) {
        let (kind, addresses) = match self {
            Self::Pod => (PortKind::Pod, ["10.1.0.9", "fd01::9"]),
            Self::Node => (PortKind::Host, ["10.1.0.1", "fd01::1"]),
            Self::Outside => (PortKind::Uplink, ["198.51.100.1", "2001:db8:51::1"]),
        };
        (kind, addresses[family].parse().expect("an address"))
    }
}

impl To {
    fn at(self, family: usize) -> SocketAddr {
        let places = match self {
            Self::ClusterIp => ["10.96.0.10:80", "[fd96::10]:80"],
            Self::ExternalIp => ["203.0.113.10:80", "[2001:db8:f::10]:80"],
            Self::NodePort => ["192.0.2.1:30080", "[2001:db8::1]:30080"],
            Self::LoadBalancer => ["203.0.113.20:80", "[2001:db8:f::20]:80"],
        };
        places[family].parse().expect("an address and a port")
    }
}

#[test]
fn least_connections_even_out_what_there_is_by_weight() {
    let pod = |last: u8, weight: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p{last}, labels: {{app: web}}, \
             annotations: {{millrace.dev/weight: '{weight}'}}}}, spec: {{nodeName: here, containers: \
             [{{name: c}}]}}, status: {{podIPs: [{{ip: 10.9.0.{last}}}]}}}}\n"
        )
    };
    let service = "---\n{apiVersion: v1, kind: Service, metadata: {name: web, annotations: \
                   {millrace.dev/algorithm: least-connections}}, spec: {clusterIP: 10.96.0.9, \
                   selector: {app: web}, ports: [{port: 80}]}}\n";
    let pods = [("1", 1), ("1", 2), ("3", 3)].map(|(weight, last)| pod(last, weight)).concat();
    let mut filter = Services::of(&format!("{NODES}{pods}{service}"), "here");
    // the first has what others have opened
    let mut open = [5, 0, 0];
    (0..5).for_each(|_| Services::opened("10.9.0.1:80".parse().expect("an address")));
    for client in 1..=20u8 {
        let from = SocketAddr::from(([10, 1, 0, client], 1000));
        let outcome = filter.connect(PortKind::Pod, from, "10.96.0.9:80".parse().expect("one"));
        let Outcome::To(to, _) = outcome else { panic!("{outcome:?}") };
        let IpAddr::V4(address) = to.ip() else { panic!("{to}") };
        open[usize::from(address.octets()[3]) - 1] += 1;
    }
    assert_eq!(open, [5, 5, 15]);
}

/// Two nodes, some of the pods, and a Service that is reached in every way.
fn manifests(local: Local, pods: &[(&str, &str, [&str; 2])]) -> String {
    let policy = match local {
        Local::None => "",
        Local::External => "externalTrafficPolicy: Local, ",
        Local::Internal => "internalTrafficPolicy: Local, ",
    };
    let pod = |(name, node, [v4, v6]): &(&str, &str, [&str; 2])| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: web}}}}, \
             spec: {{nodeName: {node}, containers: [{{name: c}}]}}, \
             status: {{podIPs: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}}}\n"
        )
    };
    let pods: String = pods.iter().map(pod).collect();
    format!("{NODES}{pods}{}", SERVICE.replace("POLICY", policy))
}

const V4: usize = 0;
const V6: usize = 1;
/// Each with its node, and its addresses.
const PODS: [(&str, &str, [&str; 2]); 3] = [
    ("near", "here", ["10.1.0.2", "fd01::2"]),
    ("far", "there", ["10.1.1.2", "fd01:0:0:1::2"]),
    ("further", "there", ["10.1.1.3", "fd01:0:0:1::3"]),
];
const NODES: &str = "
{apiVersion: v1, kind: Node, metadata: {name: here}, status: {addresses: [
 {type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: there}}
---
{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: kubernetes},
 spec: {cidrs: [10.96.0.0/12, 'fd96::/112']}}
";
const SERVICE: &str = "---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: LoadBalancer, POLICY
 clusterIPs: [10.96.0.10, 'fd96::10'], externalIPs: [203.0.113.10, '2001:db8:f::10'],
 selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]},
 status: {loadBalancer: {ingress: [{ip: 203.0.113.20}, {ip: '2001:db8:f::20'},
 {ip: 203.0.113.99, ipMode: Proxy}, {ip: '2001:db8:f::99', ipMode: Proxy}]}}}
";
