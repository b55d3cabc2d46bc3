//! Services as kube-proxy writes them in its iptables mode.
//!
//! What it has for Services that this cluster has none of is there, and empty, where a packet
//! passes it.

use std::fmt::Write;

use super::facts::Portal;
use super::site::PODS;

/// What `iptables-restore` is told.
pub(super) fn services(portals: &[Portal]) -> String {
    let (mut chains, mut rules) = (NAT_CHAINS.to_owned(), NAT_RULES.to_owned());
    let mut line = |text: std::fmt::Arguments<'_>| {
        writeln!(rules, "{text}").expect("a string takes all");
    };
    for (number, portal) in portals.iter().enumerate() {
        let Portal { name, protocol, at, endpoints } = portal;
        let (address, port) = (at.ip(), at.port());
        let chain = format!("KUBE-SVC-{number:016}");
        writeln!(chains, ":{chain} - [0:0]").expect("a string takes all");
        line(format_args!(
            "-A KUBE-SERVICES -d {address}/32 -p {protocol} -m comment --comment \"{name} cluster IP\" \
             -m {protocol} --dport {port} -j {chain}"
        ));
        line(format_args!(
            "-A {chain} ! -s {PODS} -d {address}/32 -p {protocol} -m comment --comment \"{name} cluster \
             IP\" -m {protocol} --dport {port} -j KUBE-MARK-MASQ"
        ));
        for (choice, endpoint) in endpoints.iter().enumerate() {
            let leaf = format!("KUBE-SEP-{:016}", number * 8 + choice);
            writeln!(chains, ":{leaf} - [0:0]").expect("a string takes all");
            let rest = endpoints.len() - choice;
            let chance = match rest {
                1 => String::new(),
                _ => format!("-m statistic --mode random --probability {:.10} ", 1.0 / rest as f64),
            };
            line(format_args!(
                "-A {chain} -m comment --comment \"{name} -> {endpoint}\" {chance}-j {leaf}"
            ));
            line(format_args!(
                "-A {leaf} -s {}/32 -m comment --comment \"{name}\" -j KUBE-MARK-MASQ",
                endpoint.ip()
            ));
            line(format_args!(
                "-A {leaf} -p {protocol} -m comment --comment \"{name}\" -m {protocol} -j DNAT \
                 --to-destination {endpoint}"
            ));
        }
    }
    // the last one of the list
    line(format_args!(
        "-A KUBE-SERVICES -m comment --comment \"node ports\" -m addrtype --dst-type LOCAL -j \
         KUBE-NODEPORTS"
    ));
    format!("{FILTER}*nat\n{chains}{rules}COMMIT\n")
}

const NAT_CHAINS: &str = "\
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
";

const NAT_RULES: &str = "\
-A PREROUTING -m comment --comment \"portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"masquerading\" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment \"masquerading\" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
";

const FILTER: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"firewall\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"health checks\" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"from outside\" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"firewall\" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"forwarding\" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"portals\" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"from outside\" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"firewall\" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"portals\" -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment \"forwarding\" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment \"forwarding\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";
