//! How a node keeps flows: how many, for how long, and with what of the kernel.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use millrace_dataplane::connections::{self, Limits, Timeouts};
use millrace_dataplane::control::{CacheSettings, Capacity, MissLimit, PortRange};
use millrace_fastpath::Features;

use crate::node::pins::DEFAULT_PINS;

/// How flows are kept.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Flows")]
pub(crate) struct FlowArgs {
    /// The folder of a BPF file system where flows are kept: they go on without an agent, and the
    /// next one has them. What else it has to know is in node.json, beside the admin socket.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_PINS)]
    pub(crate) pins: PathBuf,

    /// Packets per second, of each pod, that no known flow has: a new connection is one of them. More are
    /// dropped, and counted at the pod's port. A source outside has as many, and all that send by one
    /// interface, or from one node, twice that. 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    miss_limit: u32,

    /// Connections at most. When there are as many, those that one side alone takes part in make room,
    /// of who has most.
    #[arg(long, value_name = "N", default_value_t = connections::Settings::default().limits.total,
          value_parser = at_least_one)]
    max_flows: usize,

    /// Connections at most that one pod has opened; by default half of all.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_flows_per_pod: Option<usize>,

    /// Directions of connections at most that the kernel carries, of each IP family; others are carried
    /// by the agent. Memory for them is taken at once, about 500 bytes each. Flows that are kept in
    /// `--pins` already stay in what there is: `millrace cleanup`, or a reboot, ends that.
    #[arg(long, value_name = "N", default_value_t = CacheSettings::default().capacity.0,
          value_parser = clap::value_parser!(u32).range(1024..=1 << 24))]
    kernel_flows: u32,

    /// How long connections in a state may be silent, as `tcp-established=2h4m`; other states are
    /// tcp-handshake, tcp-fin-wait, tcp-close-wait, tcp-last-ack, tcp-time-wait, tcp-close, unreplied and
    /// replied (UDP and all else), icmp, and sctp.
    #[arg(long = "flow-timeout", value_name = "STATE=TIME")]
    timeouts: Vec<Timeout>,

    /// The ports of the node that pods are masqueraded to, but for those that processes of the node use.
    #[arg(long, value_name = "FIRST-LAST", default_value = "49152-65535", value_parser = port_range)]
    masquerade_ports: PortRange,

    /// Do without a feature of the kernel that it has: each has another way to the same. For looking into
    /// faults.
    #[arg(long, value_name = "FEATURE", value_enum, value_delimiter = ',')]
    without: Vec<Feature>,
}

/// A feature of the kernel that may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Feature {
    /// Programs at links of their own (Linux 6.6); else at a clsact qdisc
    Tcx,
    /// Packets that are handed over to a pod are marked as its own (Linux 6.15); else the program does
    PeerMarks,
    /// Checksums changed where they stand (Linux 6.2); else by the kernel's helpers
    DirectChecksums,
}

/// How long connections in one state may be silent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Timeout {
    state: String,
    time: Duration,
}

impl FlowArgs {
    /// What the dataplane is told of it.
    pub(crate) fn settings(self) -> CacheSettings {
        let mut timeouts = Timeouts::default();
        for Timeout { state, time } in &self.timeouts {
            *place(&mut timeouts, state).expect("it is parsed") = *time;
        }
        let mut features = Features::of_kernel();
        for feature in self.without {
            match feature {
                Feature::Tcx => features.tcx = false,
                Feature::PeerMarks => features.peer_marks_packets = false,
                Feature::DirectChecksums => features.direct_checksums = false,
            }
        }
        let per_owner = self.max_flows_per_pod.unwrap_or(self.max_flows.div_ceil(2));
        CacheSettings {
            capacity: Capacity(self.kernel_flows),
            connections: connections::Settings {
                timeouts,
                limits: Limits { total: self.max_flows, per_owner },
                ..connections::Settings::default()
            },
            features,
            masquerade: self.masquerade_ports,
            pins: Some(self.pins),
            miss_limit: (self.miss_limit > 0).then(|| MissLimit {
                every: Duration::from_secs(1) / self.miss_limit,
                burst: MISS_BURST,
            }),
        }
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (state, time) = text.split_once('=').ok_or("state and time: `tcp-established=2h4m`")?;
        if place(&mut Timeouts::default(), state).is_none() {
            return Err(format!("there is no state `{state}`; `--help` names all there are"));
        }
        let time = humantime::parse_duration(time).map_err(|error| format!("`{time}`: {error}"))?;
        if time.is_zero() {
            return Err("a connection has to be silent for some time".to_owned());
        }
        Ok(Self { state: state.to_owned(), time })
    }
}

/// Where the time of a state is.
fn place<'t>(timeouts: &'t mut Timeouts, state: &str) -> Option<&'t mut Duration> {
    Some(match state {
        "tcp-handshake" => &mut timeouts.tcp_handshake,
        "tcp-established" => &mut timeouts.tcp_established,
        "tcp-fin-wait" => &mut timeouts.tcp_fin_wait,
        "tcp-close-wait" => &mut timeouts.tcp_close_wait,
        "tcp-last-ack" => &mut timeouts.tcp_last_ack,
        "tcp-time-wait" => &mut timeouts.tcp_time_wait,
        "tcp-close" => &mut timeouts.tcp_close,
        "unreplied" => &mut timeouts.unreplied,
        "replied" => &mut timeouts.replied,
        "icmp" => &mut timeouts.icmp,
        "sctp" => &mut timeouts.sctp,
        _ => return None,
    })
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there has to be one at least".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("a number: {error}")),
    }
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let ends = text.split_once('-').ok_or("the first port and the last: `49152-65535`")?;
    let port = |text: &str| text.trim().parse().map_err(|_| format!("`{text}` is no port"));
    let (first, last) = (port(ends.0)?, port(ends.1)?);
    match first {
        0 => Err("0 is no port".to_owned()),
        _ if first > last => Err(format!("{first} is behind {last}")),
        _ => Ok(PortRange { first, last }),
    }
}

/// Misses of one pod at once: some milliseconds of a worker, which others wait for.
const MISS_BURST: u32 = 1024;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        flows: FlowArgs,
    }

    fn settings(words: &[&str]) -> Result<CacheSettings, String> {
        let words = Words::try_parse_from([&["words"], words].concat());
        words.map(|words| words.flows.settings()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let (said, usual) = (settings(&[]).unwrap(), CacheSettings::default());
        assert_eq!(said.capacity, usual.capacity);
        assert_eq!(said.connections, usual.connections);
        assert_eq!(said.masquerade, usual.masquerade);
        assert_eq!(said.features, usual.features);
        assert_eq!(said.miss_limit.map(|it| it.burst), Some(MISS_BURST));
    }

    #[test]
    fn each_state_has_its_time_and_each_feature_can_be_done_without() {
        let said = settings(&[
            "--flow-timeout=tcp-established=2h4m",
            "--flow-timeout=replied=90s",
            "--max-flows=1000",
            "--masquerade-ports=32768-40000",
            "--without=tcx,peer-marks,direct-checksums",
            "--miss-limit=0",
        ]);
        let said = said.unwrap();
        let timeouts = Timeouts {
            tcp_established: Duration::from_secs(7440),
            replied: Duration::from_secs(90),
            ..Timeouts::default()
        };
        assert_eq!(said.connections.timeouts, timeouts);
        assert_eq!(said.connections.limits, Limits { total: 1000, per_owner: 500 });
        assert_eq!(said.masquerade, PortRange { first: 32_768, last: 40_000 });
        assert_eq!((said.features, said.miss_limit.is_none()), (Features::OFF, true));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_does() {
        for (word, why) in [
            ("--flow-timeout=tcp=1s", "no state `tcp`"),
            ("--flow-timeout=icmp", "tcp-established=2h4m"),
            ("--flow-timeout=icmp=soon", "`soon`"),
            ("--flow-timeout=icmp=0s", "some time"),
            ("--masquerade-ports=9-5", "9 is behind 5"),
            ("--masquerade-ports=0-5", "no port"),
            ("--masquerade-ports=80", "49152-65535"),
            ("--max-flows=0", "one at least"),
            ("--kernel-flows=10", "1024"),
            ("--without=bpf", "direct-checksums"),
        ] {
            let error = settings(&[word]).expect_err(word);
            assert!(error.contains(why), "{word}: {error}");
        }
    }
}
