//! Flows that open with a burst: does a datagram overtake an earlier one of its flow?
//!
//! A path that treats the first packet of a flow otherwise than those behind it may send them out
//! of order, and does it at the beginning of a flow or never. So each flow is new, with a source
//! port of its own, and sends one burst; the next one begins when it has arrived, or is given up.
//! The socket that receives keeps the order in which datagrams came, so one thread does it all.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::core::Core;
use crate::end::End;
use crate::error::TrafficError;
use crate::sequence::greet;

/// What bursts are like.
#[derive(Clone, Copy, Debug)]
pub struct BurstSettings {
    /// Flows, one after the other; at most [`BurstSettings::MOST_FLOWS`].
    pub flows: u16,
    /// Datagrams of each, 1 to [`BurstSettings::LONGEST`].
    pub length: u32,
    /// Bytes of each datagram, at least [`BurstSettings::SMALLEST`].
    pub payload: usize,
    /// After what time without an arrival the rest of a burst is given up.
    pub patience: Duration,
    /// The sender's core; by default that of who makes the settings, as for a
    /// [`Sequence`](crate::sequence::Sequence).
    pub core: Option<Core>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BurstReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that had not arrived when their burst was given up.
    pub lost: u64,
    /// Flows of which a datagram arrived behind a later one.
    pub reordered_flows: u64,
    /// Datagrams that arrived once more, or after they were given up.
    pub surplus: u64,
}

impl BurstSettings {
    /// As many flows as there are source ports for.
    pub const MOST_FLOWS: u16 = 20_000;
    /// The longest burst.
    pub const LONGEST: u32 = 64;
    /// The shortest datagram: a flow, and a number in it.
    pub const SMALLEST: usize = 4;
}

impl Default for BurstSettings {
    /// Frames of 64 bytes.
    fn default() -> Self {
        let patience = Duration::from_millis(50);
        Self { flows: 3000, length: 10, payload: 22, patience, core: Some(Core::current()) }
    }
}

/// Sends bursts from one end to the other.
///
/// # Errors
/// If a socket cannot be had, or nothing arrives at all.
///
/// # Panics
/// If a setting is out of range.
pub fn bursts(
    from: End<'_>,
    to: End<'_>,
    settings: BurstSettings,
) -> Result<BurstReport, TrafficError> {
    assert!(settings.flows <= BurstSettings::MOST_FLOWS, "each flow has a source port");
    assert!((1..=BurstSettings::LONGEST).contains(&settings.length), "a burst has a length");
    assert!(settings.payload >= BurstSettings::SMALLEST, "a datagram has room for its number");
    let receiver = to.udp(0)?;
    let target = receiver.local_addr().map_err(TrafficError::socket("naming a socket"))?;
    // what a stack keeps while it looks for the neighbour may overtake itself there
    greet(&from.udp_to(target)?, &receiver)
        .map_err(TrafficError::socket("greeting the other end"))?;
    receiver
        .set_read_timeout(Some(settings.patience))
        .map_err(TrafficError::socket("setting a timeout"))?;
    let report = from.namespace.run(|| {
        let _stay = settings.core.map(Core::keep);
        one_after_the_other(from.address, target, &receiver, settings)
    })?;
    report.map_err(TrafficError::socket("sending and receiving bursts"))
}

/// In the sender's namespace.
fn one_after_the_other(
    own: IpAddr,
    target: SocketAddr,
    receiver: &UdpSocket,
    settings: BurstSettings,
) -> io::Result<BurstReport> {
    let mut report = BurstReport::default();
    for flow in 0..settings.flows {
        let sender = UdpSocket::bind((own, FIRST_PORT + flow))?;
        sender.connect(target)?;
        send(&sender, flow, settings)?;
        let burst = receive(receiver, flow, settings)?;
        report.sent += u64::from(settings.length);
        report.lost += u64::from(settings.length - burst.seen.count_ones());
        report.reordered_flows += u64::from(burst.reordered);
        report.surplus += burst.surplus;
    }
    Ok(report)
}

/// What has arrived of one burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Arrivals {
    /// A bit for each number.
    seen: u64,
    reordered: bool,
    surplus: u64,
}

impl Arrivals {
    fn note(&mut self, number: u16) {
        let bit = 1 << number;
        if self.seen & bit != 0 {
            self.surplus += 1;
            return;
        }
        // a bit above it: something later came first
        self.reordered |= self.seen > bit;
        self.seen |= bit;
    }
}

fn send(socket: &UdpSocket, flow: u16, settings: BurstSettings) -> io::Result<()> {
    let mut datagram = vec![0; settings.payload];
    for number in 0..settings.length as u16 {
        datagram[..2].copy_from_slice(&flow.to_be_bytes());
        datagram[2..4].copy_from_slice(&number.to_be_bytes());
        socket.send(&datagram)?;
    }
    Ok(())
}

/// Receives until a burst is complete, or nothing comes any more.
fn receive(socket: &UdpSocket, flow: u16, settings: BurstSettings) -> io::Result<Arrivals> {
    let mut arrivals = Arrivals::default();
    let mut datagram = vec![0; settings.payload + 1];
    while arrivals.seen.count_ones() < settings.length {
        match socket.recv(&mut datagram) {
            Ok(len) if len == settings.payload => {
                let [a, b, c, d, ..] = datagram[..] else { unreachable!("it has room for these") };
                if u16::from_be_bytes([a, b]) == flow {
                    arrivals.note(u16::from_be_bytes([c, d]));
                } else {
                    arrivals.surplus += 1;
                }
            }
            // a greeting that is late
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(arrivals)
}

/// Below those that the kernel gives out.
const FIRST_PORT: u16 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(numbers: &[u16]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        numbers.iter().for_each(|&number| arrivals.note(number));
        arrivals
    }

    #[test]
    fn a_flow_is_reordered_if_anything_later_came_first() {
        for (numbers, reordered) in [
            (&[0, 1, 2][..], false),
            (&[0, 2], false),
            (&[1, 0], true),
            (&[0, 63, 62], true),
            (&[0, 1, 1], false),
        ] {
            assert_eq!(arrivals(numbers).reordered, reordered, "{numbers:?}");
        }
    }

    #[test]
    fn a_datagram_counts_once_and_then_as_surplus() {
        let seen = arrivals(&[0, 0, 1, 0]);
        assert_eq!((seen.seen.count_ones(), seen.surplus), (2, 2));
    }
}
