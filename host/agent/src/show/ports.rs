//! `millrace ports`: what packets come in and leave by.

use clap::Args;

use crate::api::types::PortStatus;
use crate::output::{Asking, Heading, Table};
use crate::show::status::word;

/// Show the ports: their state, how they are held, and what is odd about them.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace ports")]
pub(crate) struct PortsArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &PortsArgs) -> anyhow::Result<()> {
    let ports: Vec<PortStatus> = args.asking.client()?.get("/v1/ports")?;
    args.asking.print(&ports, |ports| text(ports))
}

/// Ports as a table, with notes under it.
pub(crate) fn text(ports: &[PortStatus]) -> String {
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
    ]);
    for port in ports {
        table.row([
            port.name.clone(),
            port.kind.to_string(),
            word(port.state).to_owned(),
            port.attached.to_string(),
            port.bound.to_string(),
            port.queues.to_string(),
            port.mtu.to_string(),
            port.vlans.clone(),
        ]);
    }
    let notes = ports
        .iter()
        .flat_map(|port| port.notes.iter().map(move |note| format!("\n! {}: {note}", port.name)));
    table.text() + &notes.collect::<String>()
}
