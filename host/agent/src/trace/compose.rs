//! Packets as whoever is behind a port would send them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use millrace_abi::limits::MAX_FRAME;
use millrace_filter::testing::frames::{self, Flags};
use millrace_filter::wire::{MacAddr, ipv4, ipv6};

use crate::api::types::{TracePacket, TraceProtocol};

/// Who is behind a port.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The port.
    pub(crate) port: String,
    /// Its link-layer address.
    pub(crate) mac: Option<MacAddr>,
    /// That of its gateway.
    pub(crate) gateway: Option<MacAddr>,
    /// Its addresses, with the prefixes that it finds neighbours in.
    pub(crate) addresses: Vec<IpNetwork>,
    /// Who answers for an address on its segment.
    pub(crate) neighbours: BTreeMap<IpAddr, MacAddr>,
}

impl Sender {
    /// Somebody of whom only the port is known.
    pub(crate) fn unknown(port: &str) -> Self {
        Self {
            port: port.to_owned(),
            mac: None,
            gateway: None,
            addresses: Vec::new(),
            neighbours: BTreeMap::new(),
        }
    }

    /// The address it would use towards `to`.
    fn source(&self, to: IpAddr) -> Option<IpAddr> {
        let alike = |address: &&IpNetwork| address.is_ipv4() == to.is_ipv4();
        self.addresses.iter().find(alike).map(IpNetwork::ip)
    }

    /// Whom it would send to on its link: a neighbour, or its gateway.
    fn next_hop(&self, to: IpAddr) -> Option<MacAddr> {
        if let Some(group) = MacAddr::for_multicast(to) {
            return Some(group);
        }
        let near = self.addresses.iter().any(|network| network.contains(to));
        let neighbour = self.neighbours.get(&to).filter(|_| near).copied();
        neighbour.or(self.gateway)
    }
}

/// The packet's frame.
///
/// # Errors
/// What has to be said about it, since nobody knows.
pub(crate) fn compose(sender: &Sender, packet: &TracePacket) -> Result<Vec<u8>, String> {
    let to = packet.to.as_deref().ok_or("say where it goes with `to`, or give a `frame`")?;
    let (to, port) = destination(to, packet.protocol)?;
    let source = packet.source.or_else(|| sender.source(to)).ok_or_else(|| {
        format!("nobody knows the address behind `{}`: say it with `source`", sender.port)
    })?;
    if source.is_ipv4() != to.is_ipv4() {
        return Err(format!("{source} and {to} are of two IP versions"));
    }
    let mac = |stated: &Option<String>, known: Option<MacAddr>, key| match (stated, known) {
        (Some(text), _) => text.parse().map_err(|error| format!("`{key}`: {error}")),
        (None, Some(mac)) => Ok(mac),
        (None, None) => Err(format!(
            "nobody knows the link-layer addresses behind `{}`: say `{key}`",
            sender.port
        )),
    };
    let from_mac = mac(&packet.source_mac, sender.mac, "sourceMac")?;
    let to_mac = mac(&packet.destination_mac, sender.next_hop(to), "destinationMac")?;

    let source_port = packet.source_port.unwrap_or(SOURCE_PORT);
    let ends = [SocketAddr::new(source, source_port), SocketAddr::new(to, port)];
    let [from_end, to_end] = ends.map(|end| end.to_string());
    let build = |payload: &[u8]| match packet.protocol {
        TraceProtocol::Tcp => frames::tcp(&from_end, &to_end, Flags::SYN, payload),
        TraceProtocol::Udp => frames::udp(&from_end, &to_end, payload),
        TraceProtocol::Sctp => frames::sctp(&from_end, &to_end, payload),
        TraceProtocol::Icmp => frames::ping(&source.to_string(), &to.to_string()),
    };
    let bare = build(b"").len();
    let length = packet.length.map_or(bare, |length| length as usize + ETHERNET);
    if length > MAX_FRAME || length < bare {
        let (least, most) = (bare - ETHERNET, MAX_FRAME - ETHERNET);
        return Err(format!("`length`: a packet like this has {least} to {most} bytes"));
    }
    let mut frame = match packet.protocol {
        TraceProtocol::Icmp if length > bare => {
            return Err("`length`: an echo request has the length it has".to_owned());
        }
        _ => frames::between(build(&vec![0; length - bare]), from_mac, to_mac),
    };
    if let Some(ttl) = packet.ttl {
        let packet = &mut frame[ETHERNET..];
        match to {
            IpAddr::V4(_) => {
                let mut packet = ipv4::Packet::new_unchecked(packet);
                packet.set_ttl(ttl);
                packet.fill_checksum();
            }
            IpAddr::V6(_) => ipv6::Packet::new_unchecked(packet).set_hop_limit(ttl),
        }
    }
    Ok(frame)
}

/// An address, with a port where the protocol has ports.
fn destination(text: &str, protocol: TraceProtocol) -> Result<(IpAddr, u16), String> {
    let wrong = |example| format!("`to`: `{text}` is not like {example}");
    match protocol {
        TraceProtocol::Icmp => {
            let address = text.parse().map_err(|_| wrong("`10.0.0.5` or `fd00::5`"))?;
            Ok((address, 0))
        }
        _ => {
            let end: SocketAddr =
                text.parse().map_err(|_| wrong("`10.0.0.5:80` or `[fd00::5]:80`"))?;
            Ok((end.ip(), end.port()))
        }
    }
}

/// A port that clients have (RFC 6335 section 6), unless another one is stated.
const SOURCE_PORT: u16 = 50_000;
const ETHERNET: usize = 14;

#[cfg(test)]
mod tests {
    use millrace_abi::Slot;

    use super::*;

    const ME: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const NEIGHBOUR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn sender() -> Sender {
        Sender {
            port: "mp1".to_owned(),
            mac: Some(ME),
            gateway: Some(GATEWAY),
            addresses: ["10.1.0.2/24", "fd01::2/64"].map(|text| text.parse().unwrap()).into(),
            neighbours: [("10.1.0.3".parse().unwrap(), NEIGHBOUR)].into(),
        }
    }

    fn packet(json: serde_json::Value) -> TracePacket {
        serde_json::from_value(json).unwrap()
    }

    fn composed(json: serde_json::Value) -> Slot {
        let frame = compose(&sender(), &packet(json)).unwrap();
        let mut slot = Slot::ZERO;
        millrace_parse::parse(&frame, &mut slot).expect("it is well-formed");
        slot
    }

    #[test]
    fn a_pod_sends_to_its_neighbours_and_to_its_gateway() {
        for (to, mac) in [
            ("10.1.0.3:80", NEIGHBOUR),
            ("10.1.0.77:80", GATEWAY),
            ("10.2.0.3:80", GATEWAY),
            ("[fd02::3]:80", GATEWAY),
        ] {
            let slot = composed(serde_json::json!({"from": "a", "to": to, "protocol": "tcp"}));
            assert_eq!((slot.src_mac, slot.dst_mac), (ME.0, mac.0), "{to}");
            assert_eq!((slot.src_port, slot.dst_port), (SOURCE_PORT, 80));
            let source = if slot.ip_version == 4 { "10.1.0.2" } else { "fd01::2" };
            assert_eq!(slot.source(), source.parse().ok());
        }
    }

    #[test]
    fn what_is_stated_counts() {
        let slot = composed(serde_json::json!({
            "from": "a", "to": "10.9.0.3:53", "protocol": "udp", "source": "192.0.2.7",
            "sourcePort": 53, "ttl": 1, "length": 1400, "destinationMac": "02:00:00:00:00:77",
        }));
        assert_eq!((slot.src_port, slot.ttl, slot.len), (53, 1, 1414));
        assert_eq!(slot.source(), "192.0.2.7".parse().ok());
        assert_eq!(slot.dst_mac, [2, 0, 0, 0, 0, 0x77]);
        let echo = composed(serde_json::json!({"from": "a", "to": "fd02::3", "protocol": "icmp"}));
        assert_eq!((echo.icmp_type, echo.ip_version), (128, 6));
    }

    #[test]
    fn what_nobody_knows_has_to_be_said() {
        for (json, complaint) in [
            (serde_json::json!({"from": "a"}), "`to`"),
            (serde_json::json!({"from": "a", "to": "10.0.0.5"}), "`10.0.0.5:80`"),
            (serde_json::json!({"from": "a", "to": "10.0.0.5:1", "protocol": "icmp"}), "fd00::5"),
            (serde_json::json!({"from": "a", "to": "10.0.0.5:1", "source": "::1"}), "two IP"),
            (serde_json::json!({"from": "a", "to": "10.0.0.5:1", "length": 9}), "`length`"),
            (serde_json::json!({"from": "a", "to": "10.0.0.5:1", "sourceMac": "x"}), "sourceMac"),
        ] {
            let error = compose(&sender(), &packet(json)).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
        let packet = packet(serde_json::json!({"from": "veth0", "to": "10.0.0.5:80"}));
        let error = compose(&Sender::unknown("veth0"), &packet).unwrap_err();
        assert!(error.contains("`source`") && error.contains("`veth0`"), "{error}");
    }
}
