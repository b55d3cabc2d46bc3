//! The packets that filters are measured with: UDP in frames of 64 bytes, as many flows as a
//! node has busy ones, between stations that the bridge knows.

use anyhow::{Result, anyhow};
use millrace_abi::Slot;
use millrace_filter::testing::frames;
use millrace_parse::parse;

/// Frames from one side to the other.
pub struct Workload {
    /// The frames, one of each flow in turn.
    pub frames: Vec<Vec<u8>>,
    /// One frame from each station of the other side, which tells a bridge where they are.
    pub greetings: Vec<Vec<u8>>,
}

impl Workload {
    /// [`FLOWS`] flows between [`STATIONS`] stations on either side.
    pub fn new() -> Self {
        let near = |n: usize| format!("10.0.0.{}:{}", 1 + n % STATIONS, 20_000 + n);
        let far = |n: usize| format!("10.0.1.{}:{}", 1 + n / STATIONS % STATIONS, 8_000 + n % 4);
        let payload = [0; FRAME - HEADERS];
        Self {
            frames: (0..FLOWS).map(|n| frames::udp(&near(n), &far(n), &payload)).collect(),
            greetings: (0..STATIONS)
                .map(|n| frames::udp(&far(n * STATIONS), &near(n), &payload))
                .collect(),
        }
    }

    /// What filters are told about these frames, come in by `port`.
    ///
    /// # Errors
    /// If one is malformed.
    pub fn slots(frames: &[Vec<u8>], port: u16, now_ns: u64) -> Result<Vec<Slot>> {
        let read = |frame: &Vec<u8>| {
            let mut slot = Slot { ingress: port, now_ns, ..Slot::ZERO };
            parse(frame, &mut slot).map_err(|reason| anyhow!("a malformed frame: {reason:?}"))?;
            Ok(slot)
        };
        frames.iter().map(read).collect()
    }
}

impl Default for Workload {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes the frame the first one of a flow that was not seen before: `serial` is in its ports.
/// The UDP checksum is not right any more, and nobody looks at it.
pub fn make_new(frame: &mut [u8], serial: u32) {
    let [a, b, c, d] = serial.to_be_bytes();
    // never a port that a filter waits for
    frame[PORTS..PORTS + 4].copy_from_slice(&[c, d, 0x40 | a & 0x3f, b]);
}

/// Flows.
pub const FLOWS: usize = 256;
/// Stations on either side.
pub const STATIONS: usize = 16;
/// Bytes of a frame, without the check sequence that the wire adds.
const FRAME: usize = 64;
/// Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;
/// Where the ports are.
const PORTS: usize = 14 + 20;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn flows_are_as_many_and_frames_as_long_as_stated() {
        let workload = Workload::new();
        let slots = Workload::slots(&workload.frames, 1, 0).expect("well-formed");
        let tuple = |slot: &Slot| (slot.src_addr, slot.dst_addr, slot.src_port, slot.dst_port);
        assert_eq!(slots.iter().map(tuple).collect::<HashSet<_>>().len(), FLOWS);
        assert!(workload.frames.iter().all(|frame| frame.len() == FRAME));
        let destinations: HashSet<_> = slots.iter().map(|slot| slot.dst_mac).collect();
        let greetings = Workload::slots(&workload.greetings, 2, 0).expect("well-formed");
        assert_eq!(greetings.iter().map(|slot| slot.src_mac).collect::<HashSet<_>>(), destinations);
        assert_eq!(destinations.len(), STATIONS);
    }

    #[test]
    fn new_flows_differ_and_wake_no_filter() {
        let mut frame = Workload::new().frames[0].clone();
        let mut seen = HashSet::new();
        for serial in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff] {
            make_new(&mut frame, serial);
            let slots = Workload::slots(std::slice::from_ref(&frame), 1, 0).expect("well-formed");
            assert!(seen.insert((slots[0].src_port, slots[0].dst_port)));
            assert!(slots[0].dst_port >= 0x4000);
        }
    }
}
