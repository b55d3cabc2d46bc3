//! `millrace policy test`: whether a connection is made, and which rule says so.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use millrace_control::PodName;
use millrace_control::policy::ClusterNetworkPolicy;
use millrace_control::source::Manifests;
use millrace_rehearsal::{Answer, End, Rehearsal, Traffic, Verdict};

use crate::output::{Heading, Table, print};

/// Ask the policies among manifests whether a connection is made, and which rule says so. The filter
/// that judges on nodes judges here; nothing of a cluster is needed. Services are not looked at, and
/// no address has a name of a domain.
///
/// An end is a pod (NAMESPACE/NAME, or NAME in `default`), `node:NAME`, or an address. Pods without
/// an address get one of their node's prefixes. The exit code is 0 if the connection is made.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  millrace policy test manifests --from shop/web --to shop/db:5432
  millrace policy test manifests --from 198.51.100.7 --to shop/web:443/tcp
  millrace policy test manifests --from web --to dns/server:53/udp
  millrace policy test manifests --from web --to db/icmp
  millrace policy test manifests --matrix --on 5432/tcp")]
pub(crate) struct TestArgs {
    /// The directory of the manifests: `*.yaml`, `*.yml` and `*.json`.
    directory: PathBuf,
    /// Who opens the connection.
    #[arg(long, value_name = "END", value_parser = end, requires = "to")]
    from: Option<End>,
    /// Whom it is for: END:PORT, END:PORT/PROTOCOL, or END/icmp. The protocol is `tcp` (unless it is
    /// said), `udp` or `sctp`.
    #[arg(long, value_name = "END:PORT", requires = "from")]
    to: Option<Server>,
    /// Ask for every pair of pods instead.
    #[arg(long, conflicts_with_all = ["from", "to"], required_unless_present = "from")]
    matrix: bool,
    /// What pairs are asked for: PORT/PROTOCOL, or `icmp`.
    #[arg(long, value_name = "PORT/PROTOCOL", requires = "matrix", default_value = "80/tcp")]
    on: Wanted,
}

/// Whom a connection is for, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    end: End,
    wanted: Wanted,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Icmp,
    Port { port: u16, protocol: Protocol },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Asks and prints.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let (world, complaints) = Manifests::open(&args.directory)?.read()?;
    for complaint in &complaints {
        eprintln!("millrace: {complaint}");
    }
    if world.cluster_policies.values().any(ClusterNetworkPolicy::asks_for_names) {
        eprintln!(
            "millrace: nodes learn which addresses a name has from answers to pods: here nobody has \
             one, and a rule is about nobody by `domainNames`"
        );
    }
    let mut cluster = Rehearsal::new(world)?;
    let all = match (&args.from, &args.to) {
        (Some(from), Some(to)) => one(&mut cluster, from, to)?,
        _ => matrix(&mut cluster, args.on)?,
    };
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One connection; true if it is made with every IP version.
fn one(cluster: &mut Rehearsal, from: &End, to: &Server) -> anyhow::Result<bool> {
    let answers = cluster.ask(
        from,
        &to.end,
        to.wanted.traffic(matches!(from, End::Address(it) if it.is_ipv6())),
    )?;
    if answers.is_empty() {
        bail!("the two ends have no IP version in common, or one has no address");
    }
    for answer in &answers {
        let (source, destination) = answer.ends;
        print(&format!(
            "{} ({source}) → {} ({destination}), {}: {}",
            Shown(from),
            Shown(&to.end),
            to.wanted,
            if answer.is_allowed() { "allowed" } else { "denied" }
        ))?;
        for line in said(answer) {
            print(&format!("  {line}"))?;
        }
    }
    Ok(answers.iter().all(Answer::is_allowed))
}

/// What was said, where.
fn said(answer: &Answer) -> Vec<String> {
    if answer.said.is_empty() {
        return vec!["no pod is an end of it: policies are not asked".to_owned()];
    }
    let line = |(node, verdict): &(String, Verdict)| match verdict {
        Verdict::Allowed(None) => format!("node {node}: no policy is against it"),
        Verdict::Allowed(Some(rule)) => format!("node {node}: allowed by {rule}"),
        Verdict::Denied(rule) => format!("node {node}: denied by {rule}"),
    };
    answer.said.iter().map(line).collect()
}

/// Every pair of pods, from whom by rows, to whom by columns; true if all connections are made.
fn matrix(cluster: &mut Rehearsal, on: Wanted) -> anyhow::Result<bool> {
    let pods: Vec<_> = cluster.pods().cloned().collect();
    if pods.is_empty() {
        bail!("there are no pods among the manifests");
    }
    let headings = pods.iter().map(|pod| Heading::text(&pod.to_string()));
    let mut table = Table::new([Heading::text("from \\ to")].into_iter().chain(headings));
    let mut denied: BTreeMap<String, u64> = BTreeMap::new();
    for from in &pods {
        let mut row = vec![from.to_string()];
        for to in &pods {
            let ends = (End::Pod(from.clone()), End::Pod(to.clone()));
            let answers = cluster.ask(&ends.0, &ends.1, on.traffic(false))?;
            row.push(match answers.iter().find(|answer| !answer.is_allowed()) {
                None if answers.is_empty() => "no address".to_owned(),
                None => "ok".to_owned(),
                Some(answer) => {
                    if let Some((_, Verdict::Denied(rule))) = answer.said.last() {
                        *denied.entry(rule.clone()).or_default() += 1;
                    }
                    "-".to_owned()
                }
            });
        }
        table.row(row);
    }
    print(&table.text())?;
    for (rule, pairs) in &denied {
        let unit = if *pairs == 1 { "pair is" } else { "pairs are" };
        print(&format!("{pairs} {unit} denied by {rule}"))?;
    }
    Ok(denied.is_empty())
}

impl Wanted {
    fn traffic(self, is_v6: bool) -> Traffic {
        match self {
            // policies know no protocol that is neither
            Self::Icmp => Traffic { protocol: if is_v6 { 58 } else { 1 }, port: 0 },
            Self::Port { port, protocol } => {
                let protocol = match protocol {
                    Protocol::Tcp => 6,
                    Protocol::Udp => 17,
                    Protocol::Sctp => 132,
                };
                Traffic { protocol, port }
            }
        }
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_suffix("/icmp") {
            return Ok(Self { end: end(name)?, wanted: Wanted::Icmp });
        }
        let wrong = || format!("`{text}`: write END:PORT, END:PORT/PROTOCOL or END/icmp");
        // a pod's name has a slash, too, but no colon behind it
        let (name, wanted) = text.rsplit_once(':').ok_or_else(wrong)?;
        let name = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(name);
        Ok(Self { end: end(name)?, wanted: wanted.parse()? })
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "icmp" {
            return Ok(Self::Icmp);
        }
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(format!("`{other}` is none of `tcp`, `udp` and `sctp`")),
        };
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self::Port { port, protocol }),
            _ => Err(format!("`{port}` is no port: write a number, 1 to 65535")),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp => f.write_str("ICMP"),
            Self::Port { port, protocol: Protocol::Tcp } => write!(f, "port {port}/TCP"),
            Self::Port { port, protocol: Protocol::Udp } => write!(f, "port {port}/UDP"),
            Self::Port { port, protocol: Protocol::Sctp } => write!(f, "port {port}/SCTP"),
        }
    }
}

/// An end, as people write it.
struct Shown<'e>(&'e End);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            End::Pod(name) => write!(f, "{name}"),
            End::Node(name) => write!(f, "node {name}"),
            End::Address(_) => f.write_str("outside"),
        }
    }
}

fn end(text: &str) -> Result<End, String> {
    if let Some(node) = text.strip_prefix("node:") {
        return Ok(End::Node(node.to_owned()));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(End::Address(address));
    }
    text.parse::<PodName>().map(End::Pod).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_pods_nodes_and_addresses_with_a_port_and_a_protocol() {
        let tcp = |port| Wanted::Port { port, protocol: Protocol::Tcp };
        let pod = |text: &str| End::Pod(text.parse().unwrap());
        for (text, end, wanted) in [
            ("web:80", pod("default/web"), tcp(80)),
            ("shop/web:80/tcp", pod("shop/web"), tcp(80)),
            (
                "shop/web:53/udp",
                pod("shop/web"),
                Wanted::Port { port: 53, protocol: Protocol::Udp },
            ),
            ("shop/web/icmp", pod("shop/web"), Wanted::Icmp),
            ("node:a:22", End::Node("a".to_owned()), tcp(22)),
            ("10.0.0.1:80", End::Address([10, 0, 0, 1].into()), tcp(80)),
            ("[fd00::1]:80", End::Address("fd00::1".parse().unwrap()), tcp(80)),
        ] {
            assert_eq!(text.parse(), Ok(Server { end, wanted }), "{text}");
        }
        for text in ["web", "web:0", "web:http", "web:80/gre", "a/b/c:80", ":80"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }
}
