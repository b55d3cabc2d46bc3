//! What is measured of a path, and how.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use millrace_traffic::blast::{Blast, BlastSettings, Handing};
use millrace_traffic::cpu::CpuMeter;
use millrace_traffic::exchange::{ExchangeSettings, Over, exchange};
use millrace_traffic::sink::{Sink, discard_at};
use millrace_traffic::stream::{StreamSettings, stream};
use millrace_traffic::{Core, End};

use super::ground::{Ends, Ground};
use super::peer::Peer;
use crate::plan::Plan;
use crate::unit::Unit;

/// What is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// As many frames of 64 bytes as a pod can send.
    SmallFrames,
    /// The same from a pod that leaves it to the kernel to split what it sends (UDP segmentation):
    /// several times as many, so that the path is the limit.
    SplitFrames,
    /// As many frames of 1500 bytes as a pod can send.
    LargeFrames,
    /// One TCP connection in bulk.
    Stream,
    /// A byte there and back over TCP, again and again.
    Exchange,
    /// Nothing.
    Rest,
}

/// What is learned by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Frames of 64 bytes that arrive.
    SmallRate,
    /// What all cores together spend for one of them, its sender included.
    CpuPerPacket,
    /// How much of what the sender sends arrives; all of it if the sender is the limit.
    SmallShare,
    /// Frames of 64 bytes that arrive, of a sender that has them split.
    SplitRate,
    /// How much of what that sender sends arrives.
    SplitShare,
    /// What all cores together spend for one of them that arrives.
    CpuPerSplit,
    /// Frames of 1500 bytes that arrive.
    LargeRate,
    /// Bits of a TCP stream that arrive.
    StreamRate,
    /// What half of all round trips do not take.
    RoundTripMedian,
    /// What 99 of 100 round trips do not take.
    RoundTripTail,
    /// What the path uses without traffic.
    IdleCpu,
}

/// Which core does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Who sends, and asks. On veths the kernel's way of a packet begins here, too.
    pub sender: Core,
    /// Who carries packets, if that has a thread.
    pub carrier: Core,
    /// Who receives, and answers.
    pub receiver: Core,
}

impl Placement {
    /// The first core, the second and the third; on a machine with fewer, receiver and carrier
    /// share the last one.
    ///
    /// # Errors
    /// If this process may use no core, which cannot be.
    pub fn of(cores: &[Core]) -> Result<Self> {
        ensure!(!cores.is_empty(), "this process may use no core");
        let at = |place: usize| cores[place.min(cores.len() - 1)];
        Ok(Self { sender: at(0), carrier: at(1), receiver: at(2) })
    }
}

impl Measure {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 6] = [
        Self::SmallFrames,
        Self::SplitFrames,
        Self::LargeFrames,
        Self::Stream,
        Self::Exchange,
        Self::Rest,
    ];

    /// What the ends have to be like. Where only XDP is compared, senders complete checksums for
    /// everybody: frames are the same for all, and no peer hands on what nobody would accept.
    pub fn ends(self, peer: &Peer) -> Ends {
        match self {
            Self::SplitFrames => Ends { leave_checksums: false, ..peer.ends(false) },
            _ => peer.ends(self.is_read()),
        }
    }

    /// How often to take a sample, and how long each lasts. Promises about split frames are as
    /// close as peers are: many short samples make up for a machine that is now fast, now slow.
    pub fn extent(self, plan: &Plan) -> (usize, Duration) {
        match self {
            Self::SplitFrames => (plan.runs(120, 24), Duration::from_millis(200)),
            Self::Rest => (plan.runs(9, 6), Duration::from_secs(1)),
            _ => (
                plan.runs(15, 6),
                plan.much(Duration::from_millis(600), Duration::from_millis(250)),
            ),
        }
    }

    /// Whether somebody reads the packets, and looks at their checksums.
    fn is_read(self) -> bool {
        matches!(self, Self::Stream | Self::Exchange)
    }

    /// Takes a sample of a path that is in place.
    ///
    /// # Errors
    /// If there is no traffic.
    pub fn sample(
        self,
        ground: &Ground,
        sink: &Sink,
        cores: Placement,
        time: Duration,
    ) -> Result<Vec<(Quantity, f64)>> {
        let (near, to) = (ground.near(), discard_at(ground.far()));
        match self {
            Self::SmallFrames => {
                let blasted = blast(near, to, sink, cores, time, 64, Handing::Singly)?;
                Ok(vec![
                    (Quantity::SmallRate, blasted.rate),
                    (Quantity::SmallShare, blasted.share),
                    (Quantity::CpuPerPacket, blasted.cpu),
                ])
            }
            Self::SplitFrames => {
                let blasted = blast(near, to, sink, cores, time, 64, Handing::Segmented)?;
                Ok(vec![
                    (Quantity::SplitRate, blasted.rate),
                    (Quantity::SplitShare, blasted.share),
                    (Quantity::CpuPerSplit, blasted.cpu),
                ])
            }
            Self::LargeFrames => {
                let blasted = blast(near, to, sink, cores, time, 1500, Handing::Singly)?;
                Ok(vec![(Quantity::LargeRate, blasted.rate)])
            }
            Self::Stream => {
                let (sender, receiver) = (Some(cores.sender), Some(cores.receiver));
                let settings = StreamSettings { streams: 1, time, sender, receiver };
                let streamed = stream(ground.near(), ground.far(), settings)?;
                Ok(vec![(Quantity::StreamRate, streamed.bits_per_second())])
            }
            Self::Exchange => {
                let (client, server) = (Some(cores.sender), Some(cores.receiver));
                let settings = ExchangeSettings { over: Over::Tcp, time, client, server };
                let latencies = exchange(ground.near(), ground.far(), settings)?;
                let micros = |percent| {
                    let time = latencies.percentile(percent).unwrap_or_default();
                    time.as_nanos() as f64 / 1e3
                };
                ensure!(!latencies.is_empty(), "nothing came back");
                Ok(vec![
                    (Quantity::RoundTripMedian, micros(50.0)),
                    (Quantity::RoundTripTail, micros(99.0)),
                ])
            }
            Self::Rest => Ok(vec![(Quantity::IdleCpu, at_rest(time)?)]),
        }
    }
}

/// Percent of a core that this process takes when nobody sends.
///
/// # Errors
/// If the kernel does not say.
pub(crate) fn at_rest(time: Duration) -> Result<f64> {
    thread::sleep(SETTLED);
    let meter = CpuMeter::start()?;
    thread::sleep(time);
    let used = meter.stop()?;
    Ok(used.of_threads("").as_secs_f64() / used.elapsed.as_secs_f64() * 100.0)
}

/// What came of a blast.
pub(crate) struct Blasted {
    /// Frames that arrive in a second.
    pub(crate) rate: f64,
    /// How much of what was sent arrives.
    share: f64,
    /// Nanoseconds of all cores for each frame that arrives.
    pub(crate) cpu: f64,
}

/// Sends as many frames of so many bytes as one end can.
///
/// # Errors
/// If none arrives, or others than were sent.
pub(crate) fn blast(
    from: End<'_>,
    to: SocketAddr,
    sink: &Sink,
    cores: Placement,
    time: Duration,
    bytes: usize,
    handing: Handing,
) -> Result<Blasted> {
    let limit = time + 20 * WARM_UP;
    let (core, split) = (Some(cores.sender), handing == Handing::Segmented);
    let settings = BlastSettings { handing, core, limit, ..BlastSettings::frames_of(bytes) };
    let blast = Blast::start(from, to, settings)?;
    thread::sleep(WARM_UP);
    let meter = CpuMeter::start()?;
    let (sent_before, before) = (blast.sent(), sink.count());
    thread::sleep(time);
    let (sent_after, after) = (blast.sent(), sink.count());
    let used = meter.stop()?;
    ensure!(!blast.is_over(), "the sender has ended too early");
    blast.stop()?;
    let packets = (after.packets - before.packets) as f64;
    ensure!(packets > 0.0, "no datagram arrived");
    // a path may hand on whole what the sender left to be split: that would be no frames of 64 B
    let mean = (after.bytes - before.bytes) as f64 / packets;
    ensure!(
        !split || (mean - bytes as f64).abs() < 1.0,
        "{mean:.1} bytes arrived for each datagram, instead of frames of {bytes}"
    );
    Ok(Blasted {
        rate: packets / used.elapsed.as_secs_f64(),
        share: packets / (sent_after - sent_before).max(1) as f64,
        cpu: used.busy().as_nanos() as f64 / packets,
    })
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::SmallRate,
        Self::SmallShare,
        Self::SplitRate,
        Self::SplitShare,
        Self::LargeRate,
        Self::StreamRate,
        Self::RoundTripMedian,
        Self::RoundTripTail,
        Self::CpuPerPacket,
        Self::CpuPerSplit,
        Self::IdleCpu,
    ];

    /// What results call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SmallRate => "frames of 64 B",
            Self::SmallShare => "frames of 64 B, share of what was sent",
            Self::CpuPerPacket => "CPU per frame of 64 B",
            Self::SplitRate => "split frames of 64 B",
            Self::SplitShare => "split frames of 64 B, share of what was sent",
            Self::CpuPerSplit => "CPU per split frame of 64 B",
            Self::LargeRate => "frames of 1500 B",
            Self::StreamRate => "TCP stream",
            Self::RoundTripMedian => "round trip p50",
            Self::RoundTripTail => "round trip p99",
            Self::IdleCpu => "idle CPU",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::SmallRate | Self::SplitRate | Self::LargeRate => Unit::PacketsPerSecond,
            Self::SmallShare | Self::SplitShare => Unit::Ratio,
            Self::CpuPerPacket | Self::CpuPerSplit => Unit::Nanoseconds,
            Self::StreamRate => Unit::BitsPerSecond,
            Self::RoundTripMedian | Self::RoundTripTail => Unit::Microseconds,
            Self::IdleCpu => Unit::PercentOfCore,
        }
    }
}

/// What passes before a sample begins: caches fill, cores wake up.
const WARM_UP: Duration = Duration::from_millis(60);
/// What passes until a path that was put in place a moment ago is at rest: a host keeps the clock of
/// deadlines going for as long as configuring a filter may take, a second.
const SETTLED: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_core_however_few_there_are() {
        let cores: Vec<Core> = (0..4).map(Core::new).collect();
        for (have, sender, carrier, receiver) in
            [(1, 0, 0, 0), (2, 0, 1, 1), (3, 0, 1, 2), (4, 0, 1, 2)]
        {
            let placement = Placement::of(&cores[..have]).expect("there are cores");
            let found = (placement.sender, placement.carrier, placement.receiver);
            assert_eq!(found, (Core::new(sender), Core::new(carrier), Core::new(receiver)));
        }
        assert!(Placement::of(&[]).is_err());
    }
}
