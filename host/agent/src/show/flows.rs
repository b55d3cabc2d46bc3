//! `millrace flows`: the connections of a node, and who carries them.

use anyhow::bail;
use clap::Args;
use clap::builder::PossibleValuesParser;
use millrace_control::PodName;

use crate::api::client::segment;
use crate::api::types::{Flow, FlowDirection, Flows};
use crate::output::{Asking, Heading, Table, age, count, short};

/// Show the connections of pods: how far they are, who decided, and whether the kernel carries them.
///
/// Counters are of both ways, there / back, and include what the kernel carried. KERNEL says which
/// ways are in its flow cache; workers carry the others. Where there are policies, DECIDED BY names
/// the rule that lets a connection go on or does not, and what those would deny that are audited. ANEW says how often something else was
/// decided while the connection lived.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace flows
  millrace flows --pod shop/web --proto tcp --state established
  millrace flows --sort bytes --limit 20
  millrace flows -o json | jq '.flows[] | select(.original.generation == null)'")]
pub(crate) struct FlowsArgs {
    /// Only the connections of this pod, as NAMESPACE/NAME, or NAME in `default`.
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Only the connections that go by way of this port.
    #[arg(long, value_name = "PORT", conflicts_with = "pod")]
    port: Option<String>,
    /// Only connections of this protocol.
    #[arg(long = "proto", visible_alias = "protocol", value_name = "PROTOCOL",
          value_parser = PossibleValuesParser::new(PROTOCOLS))]
    protocol: Option<String>,
    /// Only connections in this state.
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// Those with the most first.
    #[arg(long, value_name = "ORDER", value_parser = PossibleValuesParser::new(ORDERS))]
    sort: Option<String>,
    /// So many at most.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &FlowsArgs) -> anyhow::Result<()> {
    let mut path = format!("/v1/flows?limit={}", args.limit);
    if let Some(pod) = &args.pod {
        match pod.parse::<PodName>() {
            Ok(pod) => path.push_str(&format!("&pod={pod}")),
            Err(error) => bail!("`{pod}`: {error}"),
        }
    }
    let rest = [
        ("port", &args.port),
        ("protocol", &args.protocol),
        ("state", &args.state),
        ("sort", &args.sort),
    ];
    for (key, value) in rest {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", segment(value)));
        }
    }
    let flows: Flows = args.asking.client()?.get(&path)?;
    args.asking.print(&flows, text)
}

fn text(answer: &Flows) -> String {
    if answer.flows.is_empty() {
        return "there are no connections".to_owned();
    }
    let mut table = Table::new([
        Heading::text("protocol"),
        Heading::text("state"),
        Heading::text("from"),
        Heading::text("to"),
        Heading::text("decided by"),
        Heading::text("leaves by"),
        Heading::number("anew"),
        Heading::text("kernel"),
        Heading::number("packets"),
        Heading::number("bytes"),
        Heading::number("idle"),
    ]);
    for Flow { status, client_pod, server_pod, policy } in &answer.flows {
        let (there, back) = (&status.original, &status.reply);
        let both = |of: fn(&FlowDirection) -> u64| {
            format!("{} / {}", short(of(there) as f64), short(of(back) as f64))
        };
        let named = |end: String, pod: &Option<String>| match pod {
            Some(pod) => format!("{end} ({pod})"),
            None => end,
        };
        table.row([
            status.protocol.to_string(),
            status.state.to_string(),
            named(there.source.to_string(), client_pod),
            named(there.destination.to_string(), server_pod),
            decider(there, policy.as_deref()),
            leaves(there),
            status.redecided.to_string(),
            kernel(there, back).to_owned(),
            both(|way| way.packets),
            both(|way| way.bytes),
            age(status.idle_ms),
        ]);
    }
    let (shown, all) = (answer.flows.len() as u64, answer.connections);
    match shown < all {
        true => format!("{}\n\n{} of {} connections", table.text(), count(shown), count(all)),
        false => table.text(),
    }
}

/// Which ways the kernel carries.
fn kernel(there: &FlowDirection, back: &FlowDirection) -> &'static str {
    match (there.generation, back.generation) {
        (Some(_), Some(_)) => "both",
        (Some(_), None) => "there",
        (None, Some(_)) => "back",
        (None, None) => "no",
    }
}

/// Where its packets leave, or why they do not.
fn leaves(way: &FlowDirection) -> String {
    match (&way.egress, &way.reason) {
        (Some(egress), _) => egress.clone(),
        (None, Some(reason)) => reason.to_string(),
        (None, None) => "-".to_owned(),
    }
}

fn decider(way: &FlowDirection, policy: Option<&str>) -> String {
    if let Some(policy) = policy {
        return policy.to_owned();
    }
    let stage = way.by.as_deref().unwrap_or("the host");
    if way.rule == 0 { stage.to_owned() } else { format!("{stage}, rule {}", way.rule) }
}

/// Protocols that have a word; of others there is a number.
const PROTOCOLS: [&str; 5] = ["tcp", "udp", "icmp", "icmpv6", "sctp"];
/// How far connections can have come.
const STATES: [&str; 11] = [
    "unreplied",
    "replied",
    "syn-sent",
    "syn-received",
    "established",
    "fin-wait",
    "close-wait",
    "last-ack",
    "time-wait",
    "reset",
    "closed",
];
/// What they can be sorted by.
const ORDERS: [&str; 3] = ["packets", "bytes", "idle"];

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::api::types::FlowStatus;

    fn way(source: &str, destination: &str, generation: u32) -> FlowDirection {
        FlowDirection {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ingress: "mp1".into(),
            egress: Some("mp2".into()),
            reason: None,
            by: Some("router".into()),
            rule: 3,
            generation: NonZeroU32::new(generation),
            packets: 1500,
            bytes: 12,
            kernel_packets: 1499,
        }
    }

    #[test]
    fn a_connection_is_one_row_that_says_who_decided_and_who_carries_it() {
        let status = FlowStatus {
            protocol: "tcp".into(),
            state: "established".into(),
            idle_ms: 2500,
            redecided: 3,
            original: way("10.1.0.2:4000", "[fd01::3]:7", 8),
            reply: way("[fd01::3]:7", "10.1.0.2:4000", 0),
        };
        let flow =
            Flow { status, client_pod: Some("default/web".into()), server_pod: None, policy: None };
        let text = text(&Flows { connections: 2, flows: vec![flow] });
        for said in [
            "10.1.0.2:4000 (default/web)  [fd01::3]:7  router, rule 3  mp2           3",
            "there",
            "1.5k / 1.5k",
            "2 s",
            "1 of 2 connections",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
}
