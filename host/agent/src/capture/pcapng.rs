//! Captures in the pcapng format (draft-ietf-opsawg-pcapng): a section with an interface for each
//! port, packets with comments, and statistics at the end.

use std::collections::BTreeMap;

/// Writes a capture. Interfaces are described when their first packet comes.
pub(crate) struct Pcapng {
    bytes: Vec<u8>,
    interfaces: BTreeMap<String, Interface>,
    snap: u32,
}

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'p> {
    /// The port it came in by.
    pub(crate) port: &'p str,
    /// Nanoseconds since the Unix epoch.
    pub(crate) time_ns: u64,
    /// Bytes it had.
    pub(crate) len: u32,
    /// The first of them.
    pub(crate) frame: &'p [u8],
    /// What is known of it.
    pub(crate) comment: &'p str,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    number: u32,
    packets: u64,
}

impl Pcapng {
    /// A capture of at most `snap` bytes of each packet; 0 for all.
    pub(crate) fn new(snap: u32) -> Self {
        let mut this = Self { bytes: Vec::new(), interfaces: BTreeMap::new(), snap };
        let mut body = Vec::new();
        body.extend(BYTE_ORDER.to_le_bytes());
        body.extend(VERSION);
        // the section's length is not known
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, USER_APPLICATION, APPLICATION.as_bytes());
        end_of_options(&mut body);
        this.block(SECTION_HEADER, &body);
        this
    }

    /// Describes an interface, unless that is done.
    pub(crate) fn interface(&mut self, port: &str) -> u32 {
        if let Some(known) = self.interfaces.get(port) {
            return known.number;
        }
        let number = self.interfaces.len() as u32;
        self.interfaces.insert(port.to_owned(), Interface { number, packets: 0 });
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        body.extend([0; 2]);
        body.extend(self.snap.to_le_bytes());
        option(&mut body, INTERFACE_NAME, port.as_bytes());
        option(&mut body, RESOLUTION, &[NANOSECONDS]);
        end_of_options(&mut body);
        self.block(INTERFACE_DESCRIPTION, &body);
        number
    }

    /// Adds a packet.
    pub(crate) fn packet(&mut self, packet: Packet<'_>) {
        let number = self.interface(packet.port);
        if let Some(interface) = self.interfaces.get_mut(packet.port) {
            interface.packets += 1;
        }
        let mut body = Vec::with_capacity(packet.frame.len() + 128);
        body.extend(number.to_le_bytes());
        body.extend(time(packet.time_ns));
        body.extend((packet.frame.len() as u32).to_le_bytes());
        body.extend(packet.len.to_le_bytes());
        body.extend(packet.frame);
        pad(&mut body, packet.frame.len());
        option(&mut body, COMMENT, packet.comment.as_bytes());
        option(&mut body, FLAGS, &INBOUND.to_le_bytes());
        end_of_options(&mut body);
        self.block(ENHANCED_PACKET, &body);
    }

    /// Ends the capture: how many packets of each interface are in it, and how many are not since
    /// nobody was quick enough. Of the latter it is not known by which interface they came: they
    /// stand with the first one.
    pub(crate) fn end(&mut self, time_ns: u64, lost: u64) {
        if self.interfaces.is_empty() && lost > 0 {
            self.interface("lost");
        }
        for Interface { number, packets } in self.interfaces.clone().into_values() {
            let lost = if number == 0 { lost } else { 0 };
            let mut body = Vec::new();
            body.extend(number.to_le_bytes());
            body.extend(time(time_ns));
            if lost > 0 {
                option(&mut body, COMMENT, b"dropped: of all interfaces together");
            }
            option(&mut body, RECEIVED, &(packets + lost).to_le_bytes());
            option(&mut body, DROPPED, &lost.to_le_bytes());
            option(&mut body, DELIVERED, &packets.to_le_bytes());
            end_of_options(&mut body);
            self.block(INTERFACE_STATISTICS, &body);
        }
    }

    /// What was written since this was asked last.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let length = (body.len() as u32 + 12).to_le_bytes();
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.extend(length);
    }
}

/// The upper half of a time comes first, whatever the byte order.
fn time(ns: u64) -> [u8; 8] {
    let [high, low] = [(ns >> 32) as u32, ns as u32].map(u32::to_le_bytes);
    [high[0], high[1], high[2], high[3], low[0], low[1], low[2], low[3]]
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    // a length has 16 bits, and no text of ours as many letters
    let value = &value[..value.len().min(LONGEST)];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body, value.len());
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// Values end at multiples of four bytes.
fn pad(body: &mut Vec<u8>, len: usize) {
    body.extend(std::iter::repeat_n(0, len.next_multiple_of(4) - len));
}

// kinds of blocks
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

// options, each of its kind of block
const COMMENT: u16 = 1;
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const RECEIVED: u16 = 4;
const DROPPED: u16 = 5;
const DELIVERED: u16 = 8;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// 1.0, each half in two bytes.
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
/// Timestamps count 10 to the power -9 seconds.
const NANOSECONDS: u8 = 9;
/// A packet that was received.
const INBOUND: u32 = 1;
const LONGEST: usize = 0xfff0;
const APPLICATION: &str = concat!("millrace ", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
    use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    fn packet<'p>(port: &'p str, frame: &'p [u8]) -> Packet<'p> {
        Packet { port, time_ns: 1_700_000_000_123_456_789, len: 1500, frame, comment: "dropped" }
    }

    #[test]
    fn another_reader_finds_packets_with_their_comments_and_the_statistics() {
        let mut pcapng = Pcapng::new(64);
        for (port, length) in [("veth-a", 60), ("veth-b", 61), ("veth-a", 63)] {
            pcapng.packet(packet(port, &vec![length; usize::from(length)]));
        }
        pcapng.end(1_700_000_001_000_000_000, 7);
        let bytes = pcapng.take();
        assert!(pcapng.take().is_empty());

        let mut reader = PcapNgReader::new(&bytes[..]).expect("it begins with a section");
        let (mut packets, mut statistics) = (Vec::new(), Vec::new());
        while let Some(block) = reader.next_block() {
            match block.expect("it is whole") {
                Block::EnhancedPacket(packet) => {
                    assert_eq!(packet.timestamp.as_nanos(), 1_700_000_000_123_456_789);
                    assert_eq!(packet.original_len, 1500);
                    assert_eq!(packet.options[0], EnhancedPacketOption::Comment("dropped".into()));
                    packets.push((packet.interface_id, packet.data.len()));
                }
                Block::InterfaceStatistics(block) => statistics.push(block.into_owned().options),
                Block::InterfaceDescription(interface) => assert_eq!(interface.snaplen, 64),
                other => panic!("{other:?} is nothing of ours"),
            }
        }
        assert_eq!(packets, [(0, 60), (1, 61), (0, 63)]);
        use InterfaceStatisticsOption::{IsbIfDrop, IsbIfRecv, IsbUsrDeliv};
        for (options, expected) in statistics.iter().zip([
            [IsbIfRecv(9), IsbIfDrop(7), IsbUsrDeliv(2)],
            [IsbIfRecv(1), IsbIfDrop(0), IsbUsrDeliv(1)],
        ]) {
            assert!(expected.iter().all(|option| options.contains(option)), "{options:?}");
        }
        assert_eq!(statistics.len(), 2);
    }

    #[test]
    fn the_reader_of_filter_test_takes_it() {
        let mut pcapng = Pcapng::new(0);
        pcapng.packet(packet("mp1", &[5; 90]));
        let read = millrace_filter::testing::capture::read_from(&pcapng.take()[..]).unwrap();
        assert_eq!((&*read[0].interface, read[0].frame.len(), read[0].wire_len), ("mp1", 90, 1500));
        assert_eq!(read[0].time.as_nanos(), 1_700_000_000_123_456_789);
    }
}
