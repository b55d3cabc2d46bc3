//! `millrace trace`: what would become of a packet, stage by stage.
//!
//! - [`compose`]: packets as whoever is behind a port would send them
//! - `text`: what was found, for people

pub(crate) mod compose;
mod text;

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use hyper::Method;
use millrace_filter::testing::capture as file;

use crate::api::client::segment;
use crate::api::types::{LiveTrace, Trace, TracePacket, TraceProtocol};
use crate::capture::Interrupts;
use crate::output::{Asking, Output, print};

/// Show what would become of a packet: what each filter decides, by which rule, and how it leaves.
///
/// Nobody sends the packet, no connection is opened, nothing is counted or learned: the filters in
/// force are asked, with what they know now. Of a pod the packet is as that would send it; of other
/// ports, say `--source`, `--source-mac` and `--destination-mac`, or take it from a capture.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace trace --from shop/web --to 10.0.0.5:80
  millrace trace --from host --to '[fd01::3]:53' --protocol udp -o json
  millrace trace --from shop/web --pcap capture.pcapng --packet 3
  millrace trace --live 'host 10.1.0.3 and tcp port 80' -c 3")]
pub(crate) struct TraceArgs {
    /// Where it comes in: a pod as NAMESPACE/NAME or NAME in `default`, a port, or `host`.
    #[arg(long, value_name = "POD|PORT", required_unless_present = "live")]
    from: Option<String>,
    /// Where it goes: an address with a port, as `10.0.0.5:80` or `[fd00::5]:80`; for icmp, an
    /// address.
    #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["pcap", "live"])]
    to: Option<String>,
    /// Its protocol. Of tcp it is the packet that opens a connection, of icmp an echo request.
    #[arg(long, value_enum, value_name = "PROTOCOL", default_value_t)]
    protocol: TraceProtocol,
    /// The address it comes from, instead of the pod's own.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// The port it comes from; 50000 unless said.
    #[arg(long, value_name = "PORT")]
    source_port: Option<u16>,
    /// The link-layer address it comes from.
    #[arg(long, value_name = "MAC")]
    source_mac: Option<String>,
    /// The link-layer address it is sent to.
    #[arg(long, value_name = "MAC")]
    destination_mac: Option<String>,
    /// Its time to live, or hop limit.
    #[arg(long, value_name = "HOPS")]
    ttl: Option<u8>,
    /// Bytes of the IP packet.
    #[arg(long, value_name = "BYTES")]
    length: Option<u32>,
    /// Trace packets that really pass: those that a filter means, as of `millrace capture`.
    #[arg(long, value_name = "FILTER", conflicts_with_all = [
        "from", "to", "source", "source_port", "source_mac", "destination_mac", "ttl", "length",
        "pcap",
    ])]
    live: Option<String>,
    /// Of packets that pass: how many.
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    count: u64,
    /// Take a packet of this capture, pcap or pcapng, as it is.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "to", "source", "source_port", "source_mac", "destination_mac", "ttl", "length",
    ])]
    pcap: Option<PathBuf>,
    /// Which one of the capture, counted from 1.
    #[arg(long, value_name = "N", requires = "pcap", default_value_t = 1)]
    packet: usize,
    #[command(flatten)]
    asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &TraceArgs) -> anyhow::Result<()> {
    if let Some(filter) = &args.live {
        return live(args, filter);
    }
    let packet = TracePacket {
        from: args.from.clone().context("it comes in somewhere")?,
        frame: args.pcap.as_ref().map(|_| frame(args)).transpose()?,
        to: args.to.clone(),
        protocol: args.protocol,
        source: args.source,
        source_port: args.source_port,
        source_mac: args.source_mac.clone(),
        destination_mac: args.destination_mac.clone(),
        ttl: args.ttl,
        length: args.length,
    };
    let trace: Trace = args.asking.client()?.send(Method::POST, "/v1/trace", &packet)?;
    args.asking.print(&trace, text::text)
}

/// Traces packets as they pass.
fn live(args: &TraceArgs, filter: &str) -> anyhow::Result<()> {
    let client = args.asking.client()?;
    let interrupts = Interrupts::listen(args.asking.client()?)?;
    let (name, filter) = (interrupts.name(), segment(filter));
    let query = format!("name={name}&filter={filter}&count={}", args.count);
    let mut packets = client.lines(&format!("/v1/trace/live?{query}"))?;
    interrupts.end_capture();
    while let Some(packet) = packets.next::<LiveTrace>()? {
        match args.asking.output() {
            Output::Table => print(&format!("{}\n", text::live(&packet)))?,
            Output::Json => print(&serde_json::to_string(&packet)?)?,
        }
    }
    Ok(())
}

/// The packet of a capture, in Base64.
fn frame(args: &TraceArgs) -> anyhow::Result<String> {
    let path = args.pcap.as_ref().context("there is a capture")?;
    let packets = file::read(path)?;
    let Some(packet) = args.packet.checked_sub(1).and_then(|at| packets.get(at)) else {
        bail!(
            "{} has {} packets: there is no packet {}",
            path.display(),
            packets.len(),
            args.packet
        );
    };
    if packet.frame.len() < packet.wire_len {
        bail!("packet {} is cut off in the capture: capture whole packets", args.packet);
    }
    Ok(BASE64.encode(&packet.frame))
}
