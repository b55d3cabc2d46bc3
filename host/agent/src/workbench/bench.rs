//! `millrace filter bench`: what a filter's hooks cost for each packet of a capture.
//!
//! Only the filter is measured, as a worker calls it: slots or packets are copied in, the hook is
//! called, answers are read. Bursts take turns, so that what slows the machine down slows down
//! all of them.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Args;
use millrace_abi::{Origin, Slot};
use millrace_filter::testing::capture;
use millrace_sandbox::{Grant, Hook, Instance, now_ns};
use serde::Serialize;

use super::subject::{PATIENCE, Subject};
use crate::config::{ConfigSource, ModuleSource};
use crate::output::{Heading, Output, Table, count, print};

/// Measure what a filter costs for each packet of a capture.
///
/// Its hooks are called in the sandbox of a host with the packets of the capture, again and again,
/// in bursts of several sizes: the median and the spread are nanoseconds for one packet. What a
/// filter remembers, it remembers from call to call, so flows are new only once. A host asks the
/// flow hook once for each flow, and shows only packets that the filter asks for.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter bench ./quiet-ports.wasm --config config.json --pcap captures/example.pcap
  millrace filter bench bridge --pcap traffic.pcapng -o json")]
pub(crate) struct BenchArgs {
    /// The name of a built-in filter, or the path of a module (which has a `/` in it or ends in
    /// `.wasm`).
    module: ModuleSource,
    /// The capture, pcap or pcapng.
    #[arg(long, value_name = "FILE")]
    pcap: PathBuf,
    /// The filter's configuration: JSON, or the path of a JSON file.
    #[arg(long, value_name = "JSON|FILE")]
    config: Option<ConfigSource>,
    /// Print it for people, or as JSON for programs.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// One hook with bursts of one size.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    hook: Hook,
    burst: usize,
    /// Nanoseconds per packet; below and above are a twentieth of the samples each.
    median_ns: f64,
    low_ns: f64,
    high_ns: f64,
}

/// A packet, as hooks see it.
struct Packet {
    slot: Slot,
    frame: Vec<u8>,
}

/// Measures and prints.
pub(super) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let subject = Subject::read(&args.module)?;
    let packets = read(&args.pcap)?;
    let config = args.config.clone().unwrap_or_default().read()?.to_string();
    let manifest = subject.module.manifest();
    let mut tracks = Vec::new();
    for hook in [Hook::Flow, Hook::Packet] {
        for burst in BURSTS {
            if manifest.has(hook) {
                let grant = Grant { deadline: PATIENCE, ..Grant::new("bench") };
                let instance = subject.module.instantiate(&grant, &config)?;
                tracks.push(Track { hook, burst, instance, next: 0, samples: Vec::new() });
            }
        }
    }
    if tracks.is_empty() {
        bail!("{} has neither of the hooks that packets call", subject.title);
    }

    for _ in 0..SAMPLES {
        for track in &mut tracks {
            track.sample(&packets)?;
        }
    }
    let costs: Vec<Cost> = tracks.into_iter().map(Track::cost).collect();
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&costs)?),
        Output::Table => print(&format!(
            "{}, {} packets of {}, {SAMPLES} samples\n{}",
            subject.label(),
            count(packets.len() as u64),
            args.pcap.display(),
            table(&costs)
        )),
    }
}

/// The packets of a capture that a host would show to filters.
fn read(path: &Path) -> anyhow::Result<Vec<Packet>> {
    let mut interfaces = Vec::new();
    let mut packets = Vec::new();
    for captured in capture::read(path)? {
        let known = interfaces.iter().position(|name| *name == captured.interface);
        let ingress = known.unwrap_or_else(|| {
            interfaces.push(captured.interface.clone());
            interfaces.len() - 1
        });
        let mut slot = Slot { ingress: ingress as u16 + 1, ..Slot::ZERO };
        if millrace_parse::parse(&captured.frame, &mut slot).is_ok() {
            packets.push(Packet { slot, frame: captured.frame });
        }
    }
    if packets.is_empty() {
        bail!("there is no packet in {} that is not malformed", path.display());
    }
    Ok(packets)
}

/// One hook with bursts of one size, on its way.
struct Track {
    hook: Hook,
    burst: usize,
    instance: Instance,
    /// The packet that the next burst begins with.
    next: usize,
    /// Nanoseconds per packet.
    samples: Vec<f64>,
}

impl Track {
    /// Calls the hook for a while.
    fn sample(&mut self, packets: &[Packet]) -> anyhow::Result<()> {
        let (start, mut done) = (Instant::now(), 0);
        let elapsed = loop {
            done += match self.hook {
                Hook::Flow => self.flows(packets)?,
                Hook::Packet | Hook::Tick | Hook::Update => self.packets(packets)?,
            };
            let elapsed = start.elapsed();
            if elapsed >= SAMPLE {
                break elapsed;
            }
        };
        self.samples.push(elapsed.as_nanos() as f64 / done as f64);
        Ok(())
    }

    /// One call of the flow hook; returns with how many packets.
    fn flows(&mut self, packets: &[Packet]) -> anyhow::Result<usize> {
        let now = now_ns();
        for (at, place) in self.instance.slots_mut(self.burst).iter_mut().enumerate() {
            *place = packets[(self.next + at) % packets.len()].slot;
            place.now_ns = now;
        }
        self.next = (self.next + self.burst) % packets.len();
        let decisions = self.instance.flow(self.burst, Origin::New, now);
        black_box(decisions.map_err(|fault| anyhow!("the filter failed: {fault}"))?);
        self.instance.take_emitted(|_, _| {});
        Ok(self.burst)
    }

    /// One call of the packet hook; returns with how many packets: those that have room.
    fn packets(&mut self, packets: &[Packet]) -> anyhow::Result<usize> {
        let now = now_ns();
        let mut shown = 0;
        while shown < self.burst {
            let Packet { slot, frame } = &packets[(self.next + shown) % packets.len()];
            if !self.instance.push_packet(&Slot { now_ns: now, ..*slot }, frame) {
                break;
            }
            shown += 1;
        }
        self.next = (self.next + shown) % packets.len();
        self.instance
            .show_packets(Origin::New, now, &mut |_, record, _| {
                black_box(record);
            })
            .map_err(|fault| anyhow!("the filter failed: {fault}"))?;
        self.instance.take_emitted(|_, _| {});
        Ok(shown)
    }

    fn cost(mut self) -> Cost {
        self.samples.sort_by(f64::total_cmp);
        let at = |share: f64| self.samples[((self.samples.len() - 1) as f64 * share) as usize];
        Cost {
            hook: self.hook,
            burst: self.burst,
            median_ns: at(0.5),
            low_ns: at(0.05),
            high_ns: at(0.95),
        }
    }
}

fn table(costs: &[Cost]) -> String {
    let mut table = Table::new([
        Heading::text("hook"),
        Heading::number("burst"),
        Heading::number("ns per packet"),
        Heading::number("5 %"),
        Heading::number("95 %"),
    ]);
    for cost in costs {
        let ns = |ns: f64| format!("{ns:.1}");
        table.row([
            cost.hook.label().to_owned(),
            cost.burst.to_string(),
            ns(cost.median_ns),
            ns(cost.low_ns),
            ns(cost.high_ns),
        ]);
    }
    table.text()
}

/// Packets in one call.
const BURSTS: [usize; 4] = [1, 8, 64, 256];
const SAMPLES: usize = 101;
/// How long a sample takes at least.
const SAMPLE: Duration = Duration::from_millis(2);
