//! `millrace capture`: packets as they pass, with what became of them.
//!
//! - [`pcapng`]: the format of captures

pub(crate) mod pcapng;

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Args;
use millrace_control::PodName;
use millrace_dataplane::control::capture::CapturedPacket;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::client::{Client, segment};
use crate::output::{Asking, print};
use crate::workbench::summary;

/// Show packets as they pass, or write them to a file, with what became of each.
///
/// Packets that the kernel's flow cache carries are among them. Each is as it came in, once, with
/// a comment: its fate, the stage and the rule that decided, where it left, and who carried it (the
/// chain was asked, a worker remembered, or the kernel did). Files are pcapng, for Wireshark and
/// others, and for `millrace filter test`. Who is too slow loses packets, which are counted in the
/// statistics at the end. Up to 8 captures and live traces go on at a time, each with packets of its
/// own; without one, packets pay nothing.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace capture host 10.1.0.3 and tcp port 80
  millrace capture --pod shop/web -c 100 -w web.pcapng
  millrace capture -w - udp | tcpdump -n -r -

Filters are made of: host ADDRESS, net PREFIX, port N, portrange N-M (with src or dst before), tcp,
udp, sctp, icmp, icmp6, ip, ip6, arp, vlan N; and, or, not, and parentheses.")]
pub(crate) struct CaptureArgs {
    /// Which packets; all, if nothing is said.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Only packets that this pod sends, as NAMESPACE/NAME, or NAME in `default`.
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Only packets that come in by this port.
    #[arg(long, value_name = "PORT", conflicts_with = "pod")]
    port: Option<String>,
    /// End after so many packets.
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Bytes of each packet, from its Ethernet header on; what the kernel carries is cut off at
    /// 2048 in any case.
    #[arg(short, long, value_name = "BYTES", default_value_t = 262_144)]
    snap: u32,
    /// Write pcapng to this file, or to standard output if it is `-`, instead of showing packets.
    #[arg(short, long, value_name = "FILE|-")]
    write: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// Asks, and shows or writes what comes.
pub(crate) fn run(args: &CaptureArgs) -> anyhow::Result<()> {
    let interrupts = Interrupts::listen(args.asking.client()?)?;
    let mut query = format!("name={}&snap={}", interrupts.name(), args.snap);
    let filter = args.filter.join(" ");
    if !filter.is_empty() {
        query.push_str(&format!("&filter={}", segment(&filter)));
    }
    if let Some(pod) = &args.pod {
        match pod.parse::<PodName>() {
            Ok(pod) => query.push_str(&format!("&pod={}", segment(&pod.to_string()))),
            Err(error) => bail!("`{pod}`: {error}"),
        }
    }
    if let Some(port) = &args.port {
        query.push_str(&format!("&port={}", segment(port)));
    }
    for (key, value) in [("count", args.count), ("seconds", args.seconds)] {
        if let Some(value) = value {
            query.push_str(&format!("&{key}={value}"));
        }
    }

    let client = args.asking.client()?;
    let stream = client.stream(&format!("/v1/capture?{query}"))?;
    interrupts.end_capture();
    match &args.write {
        None => show(stream),
        Some(path) if path.as_os_str() == "-" => {
            let out = io::stdout();
            if out.is_terminal() {
                bail!("a capture is no text: send it to a file, or leave `-w -` away");
            }
            copy(stream, out.lock())
        }
        Some(path) => {
            let file = File::create(path).with_context(|| path.display().to_string())?;
            copy(stream, file).with_context(|| path.display().to_string())
        }
    }
}

/// Interrupts of this program, which have the host end the capture, so that the statistics come.
pub(crate) struct Interrupts {
    runtime: Runtime,
    signals: Signal,
    client: Client,
    name: String,
}

impl Interrupts {
    /// From now on they do not end the program.
    pub(crate) fn listen(client: Client) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("signals")?;
        let signals = {
            let _inside = runtime.enter();
            signal(SignalKind::interrupt()).context("signals")?
        };
        // another of its number may be there in another container
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{}-{}", std::process::id(), now.as_nanos());
        Ok(Self { runtime, signals, client, name })
    }

    /// The name to begin the capture under.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Has each of them end the capture that has begun.
    pub(crate) fn end_capture(self) {
        let Self { runtime, mut signals, client, name } = self;
        thread::spawn(move || {
            while runtime.block_on(signals.recv()).is_some() {
                // a host that is gone has ended it
                let _ = client.delete(&format!("/v1/capture?name={name}"));
            }
        });
    }
}

/// What a comment says of a packet.
pub(crate) fn comment(packet: &CapturedPacket) -> String {
    let mut text = packet.fate.to_string();
    if let Some(reason) = &packet.reason {
        text.push_str(&format!(" ({reason})"));
    }
    text.push_str(&format!(" by {}", packet.by.as_deref().unwrap_or("the host")));
    if let Some(rule) = &packet.rule {
        let name = rule.name.as_deref().unwrap_or_default();
        text.push_str(format!(", rule {} {name}", rule.id).trim_end());
    }
    if let Some(egress) = &packet.egress {
        text.push_str(&format!(", leaves by {egress}"));
    }
    match &*packet.carrier {
        "chain" => text.push_str("; the chain was asked"),
        "worker" => text.push_str("; remembered by a worker"),
        _ => text.push_str("; carried by the kernel"),
    }
    text
}

fn copy(mut from: impl Read, mut to: impl Write) -> anyhow::Result<()> {
    match io::copy(&mut from, &mut to).and_then(|_| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints a line for each packet.
fn show(stream: impl Read) -> anyhow::Result<()> {
    let mut reader =
        PcapNgReader::new(BufReader::new(stream)).context("the host has broken off")?;
    let mut names = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.context("the host has broken off")? {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                names.push(name.unwrap_or_default());
            }
            Block::EnhancedPacket(packet) => {
                let comment = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::Comment(comment) => Some(&**comment),
                    _ => None,
                });
                let port = names.get(packet.interface_id as usize).map_or("?", String::as_str);
                let of_day = packet.timestamp.as_secs() % 86_400;
                print(&format!(
                    "{:02}:{:02}:{:02}.{:06} {port} {}, {} bytes: {}",
                    of_day / 3600,
                    of_day / 60 % 60,
                    of_day % 60,
                    packet.timestamp.subsec_micros(),
                    summary(&packet.data),
                    packet.original_len,
                    comment.unwrap_or_default(),
                ))?;
            }
            Block::InterfaceStatistics(statistics) => {
                use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
                let lost = statistics.options.iter().find_map(|option| match option {
                    InterfaceStatisticsOption::IsbIfDrop(lost) if *lost > 0 => Some(*lost),
                    _ => None,
                });
                if let Some(lost) = lost {
                    eprintln!("millrace: {lost} packets were lost to the capture");
                }
            }
            _ => {}
        }
    }
    Ok(())
}
