//! What was found about a packet, for people.

use std::fmt::Write;

use crate::api::types::{
    Connected, DeliveryStatus, HookStatus, LiveTrace, OffloadStatus, RuleStatus, StageTrace, Trace,
};

/// A packet, stage by stage.
pub(super) fn text(trace: &Trace) -> String {
    let report = &trace.report;
    let packet = &report.packet;
    let mut text = format!(
        "{} {} → {}, {} bytes",
        packet.protocol, packet.source, packet.destination, packet.length
    );
    if packet.ttl > 0 {
        line(&mut text, format_args!(", TTL {}", packet.ttl));
    }
    line(&mut text, format_args!(", comes in by {}\n", port(&packet.port, trace)));
    if let Some(connection) = &report.connection {
        line(&mut text, format_args!("{}\n", connected(connection)));
    }
    text.push('\n');
    let width = report.stages.iter().map(|step| step.stage.len()).max().unwrap_or_default();
    for step in &report.stages {
        line(&mut text, format_args!("  {:<width$}  {}\n", step.stage, said(step)));
        for more in aside(step) {
            line(&mut text, format_args!("  {:<width$}  {more}\n", ""));
        }
    }
    if !report.stages.is_empty() {
        text.push('\n');
    }
    let ending = &report.ending;
    let by = ending.by.as_deref().unwrap_or("the host");
    line(&mut text, format_args!("{} by {by}", ending.fate));
    if let Some(reason) = &ending.reason {
        let help = ending.help.as_deref().unwrap_or_default();
        line(&mut text, format_args!(": {reason}. {help}"));
    }
    text.push('\n');
    if let Some(delivery) = &ending.delivery {
        leaves(&mut text, delivery, trace);
    }
    text
}

/// A packet that passed, and how one like it would.
pub(super) fn live(packet: &LiveTrace) -> String {
    let happened = &packet.happened;
    let by = happened.by.as_deref().unwrap_or("the host");
    let mut text = format!("It was {} by {by}", happened.fate);
    if let Some(rule) = &happened.rule {
        line(&mut text, format_args!(", {}", ruled(rule)));
    }
    if let Some(reason) = &happened.reason {
        line(&mut text, format_args!(" ({reason})"));
    }
    if let Some(egress) = &happened.egress {
        line(&mut text, format_args!(", left by {}", port(egress, &packet.trace)));
    }
    let carried = match &*happened.carrier {
        "chain" => "the chain was asked",
        "worker" => "a worker remembered",
        _ => "the kernel carried it",
    };
    line(&mut text, format_args!("; {carried}. One like it:\n{}", self::text(&packet.trace)));
    text
}

fn connected(Connected { direction, flow }: &Connected) -> String {
    let carried = |generation: bool| if generation { "the kernel" } else { "workers" };
    format!(
        "it belongs to a connection ({}, idle {} ms; this is its {direction} way; carried by {} \
         there, by {} back): its packets go as was decided for it",
        flow.state,
        flow.idle_ms,
        carried(flow.original.generation.is_some()),
        carried(flow.reply.generation.is_some()),
    )
}

/// What a stage did, in a line.
fn said(step: &StageTrace) -> String {
    let shadow = if step.mode == "shadow" { " (shadow: it does not count)" } else { "" };
    let what = match (&*step.outcome, step.control.as_deref()) {
        ("failed", _) => format!("FAILED: {}", step.fault.as_deref().unwrap_or_default()),
        ("absent", _) => "has no working filter".to_owned(),
        ("not-asked", _) => "is not asked".to_owned(),
        (_, Some(control @ ("drop" | "reject"))) => {
            format!("{control}, {}", step.reason.as_deref().unwrap_or_default())
        }
        _ if step.decided.is_empty() => "has nothing to say".to_owned(),
        _ => step.decided.join(", "),
    };
    format!("{}{shadow}", what.lines().next().unwrap_or_default())
}

/// What else there is to say about it.
fn aside(step: &StageTrace) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(rule) = &step.rule {
        lines.push(format!("by {}", ruled(rule)));
    }
    if !step.tags.is_empty() {
        lines.push(format!("depends on {}", step.tags.join(", ")));
    }
    if let Some(HookStatus { verdict, reason, rule, fault }) = &step.hook {
        let mut line = format!("its packet hook says {verdict}");
        for more in [reason.as_deref(), fault.as_deref()].into_iter().flatten() {
            line = format!("{line}, {more}");
        }
        if let Some(rule) = rule {
            line = format!("{line}, by {}", ruled(rule));
        }
        lines.push(line);
    }
    lines
}

fn ruled(rule: &RuleStatus) -> String {
    match (&rule.name, &rule.help) {
        (Some(name), Some(help)) if !help.is_empty() => {
            format!("rule {}, {name}: {help}", rule.id)
        }
        (Some(name), _) => format!("rule {}, {name}", rule.id),
        (None, _) => format!("rule {}", rule.id),
    }
}

fn leaves(text: &mut String, delivery: &DeliveryStatus, trace: &Trace) {
    let ports: Vec<_> = delivery.ports.iter().map(|name| port(name, trace)).collect();
    line(text, format_args!("  leaves by     {}", ports.join(", ")));
    if delivery.mtu > 0 {
        line(text, format_args!(" (MTU {})", delivery.mtu));
    }
    text.push('\n');
    let ends = [("from", delivery.source), ("to", delivery.destination)];
    for (which, end) in ends {
        if let Some(end) = end {
            line(text, format_args!("  translated    {which} {end}\n"));
        }
    }
    if let (Some(from), Some(to)) = (&delivery.source_mac, &delivery.destination_mac) {
        line(text, format_args!("  link layer    {from} → {to}\n"));
    }
    if delivery.ttl > 0 && delivery.ttl != trace.report.packet.ttl {
        line(text, format_args!("  TTL           {}\n", delivery.ttl));
    }
    let OffloadStatus { there, back, why_not } = &delivery.offload;
    let carried = match (there, back) {
        (true, true) => "the kernel, both ways",
        (true, false) => "the kernel there, workers back",
        (false, true) => "workers there, the kernel back",
        (false, false) => "workers",
    };
    let why = why_not.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    line(text, format_args!("  carried by    {carried}{why}\n"));
}

/// A port, with the pod behind it.
fn port(name: &str, trace: &Trace) -> String {
    match trace.pods.get(name) {
        Some(pod) => format!("{name} ({pod})"),
        None => name.to_owned(),
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trace, as a host answers it.
    fn trace(ending: serde_json::Value) -> Trace {
        serde_json::from_value(serde_json::json!({
            "packet": {
                "port": "mp1", "class": "flow", "protocol": "tcp", "source": "10.1.0.2:50000",
                "destination": "10.1.0.3:80", "vlan": 0, "ttl": 64, "length": 54,
            },
            "connection": null,
            "stages": [
                {
                    "stage": "deny", "filter": "deny-list", "version": 2, "mode": "shadow",
                    "outcome": "answered", "control": "drop", "reason": "denied",
                    "rule": {"id": 1, "name": "denied", "help": "A rule matches."},
                    "decided": [], "tags": [], "fault": null, "hook": null,
                },
                {
                    "stage": "router", "filter": "router", "version": 1, "mode": "enforce",
                    "outcome": "answered", "control": "continue", "reason": null, "rule": null,
                    "decided": ["egress mp2", "decrement-ttl"], "tags": ["port 3"],
                    "fault": null, "hook": null,
                },
            ],
            "ending": ending,
            "pods": {"mp1": "default/shop", "mp2": "default/cart"},
        }))
        .unwrap()
    }

    #[test]
    fn a_packet_is_told_from_its_arrival_to_its_end() {
        let trace = trace(serde_json::json!({
            "fate": "forwarded", "by": "router", "reason": null, "help": null,
            "delivery": {
                "ports": ["mp2"], "mtu": 1500, "source": null, "destination": "10.1.0.9:8080",
                "sourceMac": "02:00:00:00:00:01", "destinationMac": "02:00:00:00:00:02", "ttl": 63,
                "offload": {"there": true, "back": true, "whyNot": null},
            },
        }));
        assert_eq!(
            text(&trace),
            "tcp 10.1.0.2:50000 → 10.1.0.3:80, 54 bytes, TTL 64, comes in by mp1 (default/shop)

  deny    drop, denied (shadow: it does not count)
          by rule 1, denied: A rule matches.
  router  egress mp2, decrement-ttl
          depends on port 3

forwarded by router
  leaves by     mp2 (default/cart) (MTU 1500)
  translated    to 10.1.0.9:8080
  link layer    02:00:00:00:00:01 → 02:00:00:00:00:02
  TTL           63
  carried by    the kernel, both ways
"
        );
    }

    #[test]
    fn a_drop_says_why() {
        let trace = trace(serde_json::json!({
            "fate": "dropped", "by": null, "reason": "too-big", "help": "It is too large.",
            "delivery": null,
        }));
        let text = text(&trace);
        assert!(text.ends_with("dropped by the host: too-big. It is too large.\n"), "{text}");
    }
}
