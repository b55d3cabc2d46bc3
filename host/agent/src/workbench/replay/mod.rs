//! `millrace filter test`: a capture through a filter, without root and without a network.
//!
//! - `stand`: the filter in a dataplane in memory
//! - [`summary`](mod@summary): a packet in a few words
//! - [`expectation`]: what should become of packets, and what differs
//!
//! What is printed is a file of expectations: verdicts are lines, all else is comments.

mod expectation;
mod stand;
pub(crate) mod summary;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use millrace_dataplane::control::status::{MetricStatus, StageStatus};
use millrace_filter::testing::capture::{self, Captured};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use self::expectation::Expectations;
use self::stand::{Passed, Stand};
use self::summary::summary;
use super::subject::Subject;
use crate::config::{ConfigSource, ModuleSource};
use crate::output::print;

/// Let a capture pass a filter, and compare what becomes of each packet with what should.
///
/// The filter runs in the sandbox of a host, in a dataplane in memory; root and a network are not
/// needed. Time passes as it did in the capture. Packets come in by the interfaces that a pcapng
/// file names, else by `in`. Those that the filter leaves to others leave by all other ports, or by
/// `out` if there are none.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter test ./quiet-ports.wasm --config config.json --pcap captures/example.pcap
  millrace filter test ./quiet-ports.wasm --config config.json --pcap captures/example.pcap \\
      > captures/example.expected
  millrace filter test ./quiet-ports.wasm --config config.json --pcap captures/example.pcap \\
      --expect captures/example.expected --out left.pcapng

Expectations are a text file, with one line for each packet, in order:
  pass                     it goes on; where to, others decide
  forward PORT             it leaves by this port
  flood                    it leaves by all other ports
  answer                   it goes back where it came from, changed
  drop REASON by RULE      it is dropped
  reject REASON by RULE    it is dropped, and its sender told
  *                        whatever
`rewritten` stands behind the verdict of a packet that leaves changed. A line may say less than
there is to say: `drop` expects any reason. What follows a `#` is a comment, and empty lines mean
nothing. What this command prints is such a file.

Exit codes:
  0  every packet did as expected
  1  one did not, the filter failed, or the command did
  2  the command line is wrong")]
pub(crate) struct TestArgs {
    /// The name of a built-in filter, or the path of a module (which has a `/` in it or ends in
    /// `.wasm`).
    module: ModuleSource,
    /// The capture, pcap or pcapng.
    #[arg(long, value_name = "FILE")]
    pcap: PathBuf,
    /// The filter's configuration: JSON, or the path of a JSON file.
    #[arg(long, value_name = "JSON|FILE")]
    config: Option<ConfigSource>,
    /// What should become of each packet; see below.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Write what left to this file, as pcapng with an interface for each port.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Lets the capture pass, prints verdicts, and compares them.
pub(super) fn run(args: &TestArgs) -> anyhow::Result<()> {
    let subject = Subject::read(&args.module)?;
    let packets = capture::read(&args.pcap)?;
    if packets.is_empty() {
        bail!("there is no packet in {}", args.pcap.display());
    }
    let expected = args.expect.as_deref().map(Expectations::read).transpose()?;
    let config = args.config.clone().unwrap_or_default().read()?;

    let ports = ports(&packets);
    let mut stand = Stand::new(&subject, &config, &ports)?;
    let mut passed = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        if number > 0 {
            stand.wait(packet.time.saturating_sub(packets[number - 1].time));
        }
        let named = ports.iter().find(|port| **port == *packet.interface);
        passed.push(stand.pass(named.unwrap_or(&ports[0]), &packet.frame));
    }
    let status = stand.status()?;
    print(&text(&packets, &passed, &status, &stand.log()?))?;
    if let Some(out) = &args.out {
        write(out, &ports, &packets, &passed).with_context(|| out.display().to_string())?;
    }

    let verdicts: Vec<_> = packets
        .iter()
        .zip(&passed)
        .map(|(packet, passed)| (summary(&packet.frame), passed.verdict.clone()))
        .collect();
    match (expected, &status.last_fault) {
        (Some(expected), _) => expected.compare(&verdicts),
        (None, Some(fault)) => bail!("the filter failed: {}", fault.detail),
        (None, None) => Ok(()),
    }
}

/// The names of the ports: interfaces of the capture and, if there is only one, the other side.
fn ports(packets: &[Captured]) -> Vec<String> {
    let mut ports: Vec<String> = Vec::new();
    for packet in packets {
        if !ports.contains(&(*packet.interface).to_owned()) {
            ports.push((*packet.interface).to_owned());
        }
    }
    match &mut ports[..] {
        // a file without names
        [only] if only == ONLY => vec!["in".to_owned(), "out".to_owned()],
        [_] => {
            ports.push("out".to_owned());
            ports
        }
        _ => ports,
    }
}

/// Verdicts and, as comments, everything else.
fn text(packets: &[Captured], passed: &[Passed], status: &StageStatus, log: &[String]) -> String {
    let mut text = String::new();
    let width = passed.iter().map(|passed| passed.verdict.len()).max().unwrap_or_default();
    for (number, (packet, passed)) in packets.iter().zip(passed).enumerate() {
        let (verdict, what) = (&passed.verdict, summary(&packet.frame));
        let cut =
            if packet.frame.len() < packet.wire_len { ", cut off in the capture" } else { "" };
        writeln!(text, "{verdict:<width$}  # {:>3} {what}{cut}", number + 1)
            .expect(TAKES_EVERYTHING);
    }

    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for passed in passed {
        *tally.entry(&passed.verdict).or_default() += 1;
    }
    let tally: Vec<_> = tally.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    writeln!(text, "# {} packets: {}", passed.len(), tally.join(", ")).expect(TAKES_EVERYTHING);
    for (name, value) in &status.counters.metrics {
        let value = match value {
            MetricStatus::Counter(number) => number.to_string(),
            MetricStatus::Gauge(number) => number.to_string(),
            MetricStatus::Histogram { buckets, sum } => {
                format!("{} values, {sum} together", buckets.iter().sum::<u64>())
            }
        };
        writeln!(text, "# metric {name}: {value}").expect(TAKES_EVERYTHING);
    }
    for line in log {
        writeln!(text, "# log {line}").expect(TAKES_EVERYTHING);
    }
    if let Some(fault) = &status.last_fault {
        let faults: u64 = status.counters.faults.values().sum();
        writeln!(text, "# {faults} faults; the last one: {}", one_line(&fault.detail))
            .expect(TAKES_EVERYTHING);
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// Writes what left, each packet with the time at which it came in.
fn write(
    out: &Path,
    ports: &[String],
    packets: &[Captured],
    passed: &[Passed],
) -> anyhow::Result<()> {
    let mut pcapng = PcapNgWriter::new(BufWriter::new(File::create(out)?))?;
    for port in ports {
        let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
        interface.options = vec![
            InterfaceDescriptionOption::IfName(port.as_str().into()),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        pcapng.write_pcapng_block(interface)?;
    }
    for (packet, passed) in packets.iter().zip(passed) {
        for (port, frame) in &passed.left {
            let interface = ports.iter().position(|name| name == port);
            write_packet(&mut pcapng, interface, packet.time, frame)?;
        }
    }
    pcapng.into_inner().into_inner().map(drop).map_err(|error| error.into_error().into())
}

fn write_packet(
    pcapng: &mut PcapNgWriter<BufWriter<File>>,
    interface: Option<usize>,
    time: Duration,
    frame: &[u8],
) -> anyhow::Result<()> {
    pcapng.write_pcapng_block(EnhancedPacketBlock {
        interface_id: interface.expect("packets leave by ports that there are") as u32,
        timestamp: time,
        original_len: frame.len() as u32,
        data: frame.into(),
        options: Vec::new(),
    })?;
    Ok(())
}

/// What the reader of captures calls the first interface of a file without names.
const ONLY: &str = "0";
/// `if_tsresol`: timestamps count 10 to the power -9 seconds.
const NANOSECONDS: u8 = 9;
const TAKES_EVERYTHING: &str = "a String takes everything";
