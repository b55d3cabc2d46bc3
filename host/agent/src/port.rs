//! `millrace port`: adds ports to a running host, and takes them away.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use crate::api::client::segment;
use crate::api::types::{Port, PortSpec};
use crate::output::Asking;
use crate::show::ports;

/// Add ports to a running host, and take them away.
#[derive(Subcommand, Debug)]
pub(crate) enum PortCommand {
    Add(AddArgs),
    Remove(RemoveArgs),
}

/// Forward to and from another interface.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace port add eth1,kind=uplink
  millrace port add veth3,vlans=trunk:10+20+native:1")]
pub(crate) struct AddArgs {
    /// The interface, what it leads to (wire, pod, host, uplink or remote), and the VLANs it
    /// carries (transparent, access:10, trunk:10+20-29+native:1).
    #[arg(value_name = "NAME[,kind=KIND][,vlans=VLANS]")]
    port: PortSpec,
    #[command(flatten)]
    asking: Asking,
}

/// Give an interface back to the kernel.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace port remove eth1")]
pub(crate) struct RemoveArgs {
    /// The port.
    name: String,
    #[command(flatten)]
    asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(command: &PortCommand) -> anyhow::Result<()> {
    match command {
        PortCommand::Add(AddArgs { port, asking }) => {
            let added: Port = asking.client()?.send(Method::POST, "/v1/ports", port)?;
            asking.print(&added, |port| ports::text(std::slice::from_ref(port)))
        }
        PortCommand::Remove(RemoveArgs { name, asking }) => {
            asking.client()?.delete(&format!("/v1/ports/{}", segment(name)))?;
            asking.print(&json!({ "removed": name }), |_| format!("port {name} is removed"))
        }
    }
}
