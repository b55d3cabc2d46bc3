//! A cluster as nftables has it: Services as kube-proxy writes them in its nftables mode, and policies
//! as a chain for each.
//!
//! What kube-proxy has for Services that this cluster has none of is there, and empty, where a
//! packet passes it.

use std::fmt::Write;

use super::facts::{Fence, Portal};
use super::site::PODS;

/// What `nft` is told of Services.
pub(super) fn services(portals: &[Portal]) -> String {
    let mut rules = FRAME.replace("PODS", PODS);
    let mut leads = Vec::new();
    for (number, portal) in portals.iter().enumerate() {
        let Portal { name, protocol, at, endpoints } = portal;
        let chain = format!("service-{number:08}-{name}");
        add(&mut rules, format_args!("chain ip kube-proxy {chain}"));
        add(
            &mut rules,
            format_args!(
                "rule ip kube-proxy {chain} ip daddr {} {protocol} dport {} ip saddr != {PODS} \
                 jump mark-for-masquerade",
                at.ip(),
                at.port()
            ),
        );
        let mut choices = Vec::new();
        for (choice, endpoint) in endpoints.iter().enumerate() {
            let (address, port) = (endpoint.ip(), endpoint.port());
            let leaf = format!("endpoint-{number:08}-{name}__{address}/{port}");
            add(&mut rules, format_args!("chain ip kube-proxy {leaf}"));
            add(
                &mut rules,
                format_args!(
                    "rule ip kube-proxy {leaf} ip saddr {address} jump mark-for-masquerade"
                ),
            );
            add(
                &mut rules,
                format_args!(
                    "rule ip kube-proxy {leaf} meta l4proto {protocol} dnat to {endpoint}"
                ),
            );
            choices.push(format!("{choice} : goto {leaf}"));
        }
        add(
            &mut rules,
            format_args!(
                "rule ip kube-proxy {chain} numgen random mod {} vmap {{ {} }}",
                choices.len(),
                choices.join(", ")
            ),
        );
        leads.push(format!("{} . {protocol} . {} : goto {chain}", at.ip(), at.port()));
    }
    let mut addresses: Vec<_> = portals.iter().map(|it| it.at.ip().to_string()).collect();
    addresses.dedup();
    elements(&mut rules, "ip kube-proxy cluster-ips", &addresses);
    elements(&mut rules, "ip kube-proxy service-ips", &leads);
    rules
}

/// What it is told of policies.
pub(super) fn policies(fences: &[Fence]) -> String {
    let mut rules = POLICIES.to_owned();
    let mut leads = Vec::new();
    for (number, Fence { pods, gates }) in fences.iter().enumerate() {
        let chain = format!("policy-{number}");
        add(&mut rules, format_args!("chain inet policies {chain}"));
        for gate in gates {
            let peers: Vec<_> = gate.peers.iter().map(ToString::to_string).collect();
            let peers = peers.join(", ");
            for (protocol, port) in &gate.ports {
                add(
                    &mut rules,
                    format_args!(
                        "rule inet policies {chain} ip saddr {{ {peers} }} {protocol} dport {port} \
                         accept"
                    ),
                );
            }
        }
        add(&mut rules, format_args!("rule inet policies {chain} drop"));
        leads.extend(pods.iter().map(|pod| format!("{pod} : goto {chain}")));
    }
    elements(&mut rules, "inet policies ingress", &leads);
    rules
}

fn add(rules: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(rules, "add {what}").expect("a string takes all");
}

fn elements(rules: &mut String, of: &str, all: &[String]) {
    for some in all.chunks(CHUNK) {
        add(rules, format_args!("element {of} {{ {} }}", some.join(", ")));
    }
}

/// Elements of a line.
const CHUNK: usize = 500;

/// What a packet passes whatever Services there are.
const FRAME: &str = "\
add table ip kube-proxy
add set ip kube-proxy cluster-ips { type ipv4_addr; }
add set ip kube-proxy nodeport-ips { type ipv4_addr; }
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
add chain ip kube-proxy filter-prerouting-pre-dnat { type filter hook prerouting priority -110; }
add chain ip kube-proxy filter-input { type filter hook input priority 0; }
add chain ip kube-proxy filter-forward { type filter hook forward priority -110; }
add chain ip kube-proxy filter-output { type filter hook output priority 0; }
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority srcnat; }
add chain ip kube-proxy services
add chain ip kube-proxy firewall-check
add chain ip kube-proxy nodeport-endpoints-check
add chain ip kube-proxy service-endpoints-check
add chain ip kube-proxy cluster-ips-check
add chain ip kube-proxy masquerading
add chain ip kube-proxy mark-for-masquerade
add rule ip kube-proxy filter-prerouting-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-input ct state new jump nodeport-endpoints-check
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state invalid drop
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-postrouting jump masquerading
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
add rule ip kube-proxy nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap \
@no-endpoint-nodeports
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap \
@no-endpoint-services
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add rule ip kube-proxy masquerading meta mark & 0x4000 == 0 return
add rule ip kube-proxy masquerading meta mark set meta mark ^ 0x4000
add rule ip kube-proxy masquerading masquerade fully-random
add rule ip kube-proxy mark-for-masquerade meta mark set meta mark | 0x4000
";

/// What a packet passes whatever policies there are.
const POLICIES: &str = "\
add table inet policies
add map inet policies ingress { type ipv4_addr : verdict; }
add chain inet policies forward { type filter hook forward priority 0; }
add rule inet policies forward ct state established,related accept
add rule inet policies forward ct state invalid drop
add rule inet policies forward ip daddr vmap @ingress
";
