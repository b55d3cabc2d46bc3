//! Packets from capture files, pcap and pcapng alike.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When it was captured, since the Unix epoch.
    pub time: Duration,
    /// Its bytes from the Ethernet header on, as far as they were captured.
    pub frame: Vec<u8>,
    /// Bytes it had on the wire: more than the frame has if the capture cut it off.
    pub wire_len: usize,
    /// Where it was captured: the interface's name or, where the file has none, its number.
    pub interface: Arc<str>,
}

/// An interface of a pcapng file.
struct Interface {
    name: Arc<str>,
    /// `if_tsresol`: the unit of timestamps.
    resolution: u8,
}

/// Reads every packet of a file.
///
/// # Errors
/// If the file cannot be read or is no capture of Ethernet frames.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<Captured>> {
    let path = path.as_ref();
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    read_from(BufReader::new(File::open(path).map_err(named)?)).map_err(named)
}

/// Reads every packet of a capture.
///
/// # Errors
/// As [`read()`].
pub fn read_from(mut capture: impl Read) -> io::Result<Vec<Captured>> {
    let mut bytes = Vec::new();
    capture.read_to_end(&mut bytes)?;
    // the first four bytes tell the formats apart (draft-ietf-opsawg-pcapng section 4.1)
    if bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
        read_pcapng(&bytes)
    } else {
        read_pcap(&bytes)
    }
}

fn read_pcap(bytes: &[u8]) -> io::Result<Vec<Captured>> {
    let mut reader = PcapReader::new(bytes).map_err(malformed)?;
    ethernet(reader.header().datalink)?;
    let interface: Arc<str> = "0".into();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(malformed)?;
        packets.push(Captured {
            time: packet.timestamp,
            wire_len: packet.orig_len as usize,
            frame: packet.data.into_owned(),
            interface: Arc::clone(&interface),
        });
    }
    Ok(packets)
}

fn read_pcapng(bytes: &[u8]) -> io::Result<Vec<Captured>> {
    let mut reader = PcapNgReader::new(bytes).map_err(malformed)?;
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.map_err(malformed)? {
            // a section has interfaces of its own
            Block::SectionHeader(_) => interfaces.clear(),
            Block::InterfaceDescription(described) => {
                ethernet(described.linktype)?;
                interfaces.push(Interface::new(interfaces.len(), &described));
            }
            Block::EnhancedPacket(packet) => {
                let interface = interfaces
                    .get(packet.interface_id as usize)
                    .ok_or_else(|| malformed(PcapError::InvalidInterfaceId(packet.interface_id)))?;
                packets.push(Captured {
                    // the reader takes the number for nanoseconds, whatever the unit is
                    time: interface.time(packet.timestamp.as_nanos()),
                    wire_len: packet.original_len as usize,
                    frame: packet.data.into_owned(),
                    interface: Arc::clone(&interface.name),
                });
            }
            Block::SimplePacket(packet) => {
                let interface = interfaces
                    .first()
                    .ok_or_else(|| malformed(PcapError::InvalidInterfaceId(0)))?;
                packets.push(Captured {
                    time: Duration::ZERO,
                    wire_len: packet.original_len as usize,
                    frame: packet.data.into_owned(),
                    interface: Arc::clone(&interface.name),
                });
            }
            _ => {}
        }
    }
    Ok(packets)
}

impl Interface {
    fn new(number: usize, described: &InterfaceDescriptionBlock<'_>) -> Self {
        let mut this = Self { name: number.to_string().into(), resolution: MICROSECONDS };
        for option in &described.options {
            match option {
                InterfaceDescriptionOption::IfName(name) => this.name = (&**name).into(),
                InterfaceDescriptionOption::IfTsResol(resolution) => this.resolution = *resolution,
                _ => {}
            }
        }
        this
    }

    /// A timestamp in this interface's unit (draft-ietf-opsawg-pcapng section 4.2).
    fn time(&self, units: u128) -> Duration {
        let exponent = u32::from(self.resolution & 0x7f);
        let nanoseconds = match self.resolution & 0x80 {
            // 10 to the power -exponent
            0 if exponent <= 9 => units * 10u128.pow(9 - exponent),
            0 => units / 10u128.saturating_pow(exponent - 9),
            // 2 to the power -exponent
            _ => (units * NS_PER_S) >> exponent,
        };
        Duration::new((nanoseconds / NS_PER_S) as u64, (nanoseconds % NS_PER_S) as u32)
    }
}

fn ethernet(link: DataLink) -> io::Result<()> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it holds {other:?} packets; only Ethernet frames can be read"),
        )),
    }
}

fn malformed(error: PcapError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is no whole capture: {error}"))
}

/// The unit of timestamps where a file does not say: 10 to the power -6 seconds.
const MICROSECONDS: u8 = 6;
const NS_PER_S: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use pcap_file::pcap::{PcapPacket, PcapWriter};
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;

    use super::*;

    fn packets(interface: &str) -> Vec<Captured> {
        let packet = |n: u8| Captured {
            time: Duration::from_millis(1500 * u64::from(n)),
            frame: vec![n; 60],
            wire_len: 60 + usize::from(n),
            interface: interface.into(),
        };
        (1..4u8).map(packet).collect()
    }

    /// A pcapng file with one interface, and timestamps in 10 to the power -`resolution` seconds.
    fn pcapng(options: Vec<InterfaceDescriptionOption<'static>>, resolution: u32) -> Vec<u8> {
        let mut pcapng = PcapNgWriter::new(Vec::new()).expect("a Vec takes everything");
        let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
        interface.options = options;
        pcapng.write_pcapng_block(interface).expect("a Vec takes everything");
        for packet in packets("") {
            let units = packet.time.as_millis() as u64 * 10u64.pow(resolution - 3);
            let block = EnhancedPacketBlock {
                interface_id: 0,
                // the writer takes the unit to be nanoseconds
                timestamp: Duration::from_nanos(units),
                original_len: packet.wire_len as u32,
                data: packet.frame.into(),
                options: Vec::new(),
            };
            pcapng.write_pcapng_block(block).expect("a Vec takes everything");
        }
        pcapng.into_inner()
    }

    #[test]
    fn both_formats_are_read_and_cut_off_files_are_refused() {
        let mut pcap = PcapWriter::new(Vec::new()).expect("a Vec takes everything");
        for packet in packets("") {
            let record = PcapPacket::new(packet.time, packet.wire_len as u32, &packet.frame);
            pcap.write_packet(&record).expect("a Vec takes everything");
        }
        for capture in [pcap.into_writer(), pcapng(Vec::new(), 6)] {
            assert_eq!(read_from(&capture[..]).expect("it is whole"), packets("0"));
            assert!(read_from(&capture[..capture.len() - 1]).is_err());
        }
    }

    #[test]
    fn an_interface_has_a_name_and_a_unit_of_time_if_it_says_so() {
        for (options, resolution, name) in [
            (vec![InterfaceDescriptionOption::IfTsResol(9)], 9, "0"),
            (vec![InterfaceDescriptionOption::IfTsResol(3)], 3, "0"),
            (vec![InterfaceDescriptionOption::IfTsResol(12)], 12, "0"),
            (vec![InterfaceDescriptionOption::IfName("eth0".into())], 6, "eth0"),
        ] {
            let capture = pcapng(options, resolution);
            assert_eq!(read_from(&capture[..]).expect("it is whole"), packets(name));
        }
        let binary = Interface { name: "0".into(), resolution: 0x80 | 10 };
        assert_eq!(binary.time(3 << 9), Duration::from_millis(1500));
    }

    #[test]
    fn what_is_no_capture_is_refused_by_its_name() {
        assert!(read_from(&b"no capture"[..]).is_err());
        let error = read("/no/such/file.pcap").expect_err("there is none");
        assert!(error.to_string().contains("/no/such/file.pcap"), "{error}");
    }
}
