//! `millrace status`: a host on one screen, with what is odd about it.

use std::fmt::Write;

use clap::Args;

use crate::api::types::{HostStatus, PortState, StageState};
use crate::node::ChainState;
use crate::output::{Asking, age, count};
use crate::show::chain;

/// Show a running host: what it forwards between, through which filters, and what is odd.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace status
  millrace status -o json | jq .ports[].name")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let status: HostStatus = args.asking.client()?.get("/v1/status")?;
    args.asking.print(&status, text)
}

fn text(host: &HostStatus) -> String {
    let cores: Vec<_> =
        host.workers.iter().filter_map(|worker| worker.core).map(|core| core.to_string()).collect();
    let mut lines = vec![format!(
        "millrace {} (filter ABI {}), process {}, up {}",
        host.version,
        host.abi,
        host.pid,
        age(host.uptime_ms)
    )];
    let mut line = |head: &str, text: String| lines.push(format!("{head:<9}{text}"));
    line("workers", format!("{} on cores {}", host.workers.len(), cores.join(", ")));
    let ports = || host.ports.iter().map(|port| &port.status);
    let names = ports().map(|port| format!("{} ({})", port.name, word(port.state)));
    line("ports", or_none(&names.collect::<Vec<_>>().join(", ")));
    let said_by = host.resources.iter().flat_map(|it| &it.filter_chains);
    let said_by = said_by.filter(|(_, it)| it.state == ChainState::InForce);
    let said_by: String = said_by.map(|(name, _)| format!(" (FilterChain {name})")).collect();
    line("chain", or_none(&chain(&host.filters)) + &said_by);
    let sum = |of: fn(&crate::api::types::PortStatus) -> u64| ports().map(of).sum();
    let received = count(sum(|port| port.counters.rx_packets));
    let sent = count(sum(|port| port.counters.tx_packets));
    line(
        "packets",
        format!("{received} in, {sent} out; `millrace drops` says what became of the rest"),
    );
    if let Some(cache) = &host.cache {
        let hits = cache.packets.get(HIT).copied().unwrap_or_default();
        line(
            "flows",
            format!(
                "{} connections, {} opened; the kernel carried {} packets of them",
                count(cache.connections),
                count(cache.opened),
                count(hits)
            ),
        );
    }
    if let Some(cache) = host.cache.as_ref().filter(|cache| cache.redecided.connections() > 0) {
        line("changes", crate::redecide::text(&cache.redecided));
    }
    if let Some(metrics) = &host.metrics {
        line("metrics", format!("http://{metrics}/metrics"));
    }

    let mut text = lines.join("\n");
    for note in oddities(host) {
        write!(text, "\n! {note}").expect("a String takes everything");
    }
    text
}

/// What somebody should look after.
fn oddities(host: &HostStatus) -> Vec<String> {
    let mut notes = [&host.others[..], &host.refused].concat();
    if host.ports.is_empty() {
        notes.push("there are no ports: add some with `millrace port add`".to_owned());
    }
    if host.filters.is_empty() {
        notes.push(
            "no filter says where packets go, so all are dropped: `millrace filter load bridge \
             bridge`"
                .to_owned(),
        );
    }
    if let Some(cache) = host.cache.as_ref().filter(|cache| cache.full + cache.refused > 0) {
        notes.push(format!(
            "the kernel's flow cache had no room for {} flows, and refused {}: workers carry them",
            count(cache.full),
            count(cache.refused)
        ));
    }
    if let Some(without) = host.cache.as_ref().map(|cache| &cache.without_port)
        && let Some(most) = without.destinations.first()
    {
        notes.push(format!(
            "no port was left to masquerade {} connections with, {} of them to {} ({}): all that are \
             reserved for this are in use towards it",
            count(without.refused()),
            count(most.refused),
            most.destination,
            most.protocol
        ));
    }
    for port in host.ports.iter().map(|port| &port.status) {
        if port.state == PortState::Gone {
            notes.push(format!("port {}: its interface is gone, and is waited for", port.name));
        }
        notes.extend(port.notes.iter().map(|note| format!("port {}: {note}", port.name)));
    }
    let resources = host.resources.as_ref();
    for (name, chain) in resources.iter().flat_map(|it| &it.filter_chains) {
        notes.extend(chain.problems.iter().map(|problem| format!("FilterChain {name}: {problem}")));
    }
    for (name, filter) in resources.iter().flat_map(|it| &it.filters) {
        notes.extend(filter.problems.iter().map(|problem| format!("Filter {name}: {problem}")));
    }
    for stage in &host.filters {
        let fault = stage.last_fault.as_ref();
        let fault = fault.map_or_else(String::new, |fault| {
            format!(" ({}, {} ago)", fault.detail, age(fault.age_ms))
        });
        let name = &stage.name;
        match stage.state {
            StageState::Running => {}
            StageState::RolledBack => notes.push(format!(
                "filter {name} failed too often, and runs in the version before{fault}"
            )),
            StageState::Ejected => notes.push(format!(
                "filter {name} failed too often, and is not asked any more{fault}: swap it"
            )),
        }
    }
    notes
}

/// The word for a port's state.
pub(crate) fn word(state: PortState) -> &'static str {
    match state {
        PortState::Up => "up",
        PortState::Down => "down",
        PortState::Gone => "gone",
    }
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { text.to_owned() }
}

/// What the kernel calls packets that it carried.
const HIT: &str = "hit";
