//! `millrace ports`: what packets come in and leave by.

use clap::Args;

use crate::api::types::Port;
use crate::output::{Asking, Heading, Table, short};
use crate::show::status::word;

/// Show the ports: their state, how they are held, who is behind them, and what is odd about them.
///
/// XDP is `cache` of a port whose packets the kernel's flow cache carries; workers have all packets
/// of the others. Packets and bytes are of both ways, in / out, whoever carried them.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace ports
  millrace ports -o json | jq '.[] | {name, pod, carried: .counters.rxKernelPackets}'")]
pub(crate) struct PortsArgs {
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &PortsArgs) -> anyhow::Result<()> {
    let ports: Vec<Port> = args.asking.client()?.get("/v1/ports")?;
    args.asking.print(&ports, |ports| text(ports))
}

/// Ports as a table, with notes under it.
pub(crate) fn text(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "there are no ports; add one with `millrace port add`".to_owned();
    }
    let mut table = Table::new([
        Heading::text("port"),
        Heading::text("kind"),
        Heading::text("state"),
        Heading::text("xdp"),
        Heading::text("frames"),
        Heading::number("queues"),
        Heading::number("mtu"),
        Heading::text("vlans"),
        Heading::number("packets"),
        Heading::number("bytes"),
        Heading::text("pod"),
        Heading::text("mac"),
        Heading::text("addresses"),
    ]);
    for Port { status: port, pod, addresses } in ports {
        let counted = &port.counters;
        let both = |came, left| format!("{} / {}", short(came as f64), short(left as f64));
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        table.row([
            port.name.clone(),
            port.kind.to_string(),
            word(port.state).to_owned(),
            port.attached.to_string(),
            port.bound.to_string(),
            port.queues.to_string(),
            port.mtu.to_string(),
            port.vlans.clone(),
            both(counted.rx_packets, counted.tx_packets),
            both(counted.rx_bytes, counted.tx_bytes),
            pod.clone().unwrap_or_else(|| "-".to_owned()),
            port.mac.clone().unwrap_or_else(|| "-".to_owned()),
            addresses.join(" "),
        ]);
    }
    let notes = ports
        .iter()
        .map(|port| &port.status)
        .flat_map(|port| port.notes.iter().map(move |note| format!("\n! {}: {note}", port.name)));
    table.text() + &notes.collect::<String>()
}
