//! The capture that comes with a project: a visit of one station to another, who ask for each
//! other's address, look up a name, and open connections.

use std::time::Duration;

use millrace_filter::testing::frames::{self, Flags};
use pcap_file::pcap::{PcapPacket, PcapWriter};

/// The capture, as a pcap file.
pub(super) fn capture() -> Vec<u8> {
    let (visitor, server) = ("10.0.0.1", "10.0.0.2");
    let (web, shell) = ("10.0.0.2:80", "10.0.0.2:23");
    let packets = [
        frames::arp_request(visitor, server),
        frames::arp_reply(server, visitor),
        frames::ping(visitor, server),
        frames::udp("10.0.0.1:40000", "10.0.0.2:53", NAME_QUERY),
        frames::tcp("10.0.0.1:40001", web, Flags::SYN, b""),
        frames::tcp(web, "10.0.0.1:40001", Flags::SYN | Flags::ACK, b""),
        frames::tcp("10.0.0.1:40002", shell, Flags::SYN, b""),
        frames::udp("[2001:db8::1]:40003", "[2001:db8::2]:23", b"anybody there?"),
    ];

    let mut writer = PcapWriter::new(Vec::new()).expect(TAKES_EVERYTHING);
    for (number, packet) in packets.iter().enumerate() {
        let time = START + GAP * number as u32;
        let record = PcapPacket::new(time, packet.len() as u32, packet);
        writer.write_packet(&record).expect(TAKES_EVERYTHING);
    }
    writer.into_writer()
}

/// What is the address of `mill.example`? (RFC 1035 section 4.1)
const NAME_QUERY: &[u8] =
    b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04mill\x07example\x00\x00\x01\x00\x01";

/// 2024-01-01, since the Unix epoch.
const START: Duration = Duration::from_secs(1_704_067_200);
const GAP: Duration = Duration::from_millis(50);
const TAKES_EVERYTHING: &str = "a Vec takes everything";
