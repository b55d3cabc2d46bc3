//! ICMP errors about packets of connections: they go where the connection's answers go, translated
//! as those are (RFC 5508 section 4).
//!
//! An error is believed if it is for whom the quoted packet was from. A pod is an end, and no router:
//! what it says about packets that were not for it is dropped. About other errors the chain is asked.

use millrace_abi::{PortKind, Reason, Slot};
use millrace_parse::Layers;
use millrace_wire::{IpProtocol, Ports, icmpv4, icmpv6, ipv4, ipv6};

use super::{Known, Rewrite, Tracking};
use crate::connections::{Endpoint, Key, Zone};
use crate::port::{Hold, PortId, PortTable};
use crate::verdict::Verdict;

impl Tracking {
    /// What was decided for the connection that an ICMP error is about, if it is about one.
    pub(crate) fn related(
        &self,
        slot: &Slot,
        frame: &[u8],
        layers: Layers,
        ports: &PortTable,
    ) -> Option<Known> {
        let port = &ports.get(PortId::new(slot.ingress)?)?.port;
        if !matches!(port.hold, Hold::Cached(_)) || layers.transport == 0 {
            return None;
        }
        let zone = Zone::of(port);
        let message = frame.get(usize::from(layers.transport)..)?;
        let quoted = match slot.ip_version {
            4 => quoted_v4(icmpv4::Packet::new_checked(message).ok()?.quoted()?, zone)?,
            _ => quoted_v6(icmpv6::Packet::new_checked(message).ok()?.quoted()?, zone)?,
        };
        let key = quoted.reversed(zone);
        let is_to_the_sender = slot.dst_addr == key.destination.address;
        let is_from_the_end = slot.src_addr == key.source.address;
        if port.kind == PortKind::Pod && !(is_to_the_sender && is_from_the_end) {
            let verdict = Verdict::dropped(Reason::InvalidState);
            return Some(Known { verdict, rewrite: Rewrite::default() });
        }
        let found = self.connections.related(&key).filter(|_| is_to_the_sender)?;
        Some(Known {
            verdict: found.way.verdict,
            rewrite: Rewrite {
                link: found.way.link,
                translation: Some(found.translation),
                slot: None,
                inspected: None,
            },
        })
    }
}

/// The key of a quoted packet, as it left.
fn quoted_v4(quote: &[u8], zone: Zone) -> Option<Key> {
    let packet = ipv4::Packet::new_quoted(quote).ok()?;
    if packet.fragment_offset() != 0 {
        return None;
    }
    let ports = ports(packet.protocol(), quote.get(packet.header_len()..)?)?;
    let [source, destination] =
        [packet.source(), packet.destination()].map(|address| address.to_ipv6_mapped().octets());
    Some(key(source, destination, ports, packet.protocol(), zone))
}

fn quoted_v6(quote: &[u8], zone: Zone) -> Option<Key> {
    let packet = ipv6::Packet::new_quoted(quote).ok()?;
    let ports = ports(packet.next_header(), quote.get(ipv6::HEADER_LEN..)?)?;
    let [source, destination] = [packet.source(), packet.destination()].map(|it| it.octets());
    Some(key(source, destination, ports, packet.next_header(), zone))
}

fn key(
    source: [u8; 16],
    destination: [u8; 16],
    ports: Ports,
    protocol: IpProtocol,
    zone: Zone,
) -> Key {
    Key {
        source: Endpoint { address: source, port: ports.source },
        destination: Endpoint { address: destination, port: ports.destination },
        zone,
        protocol: protocol.0,
    }
}

/// The ports of a quoted packet; of an echo, its identifier at both ends.
fn ports(protocol: IpProtocol, segment: &[u8]) -> Option<Ports> {
    let ident = match protocol {
        IpProtocol::ICMPV4 => {
            let echo = icmpv4::Packet::new_checked(segment).ok()?;
            let is_echo =
                matches!(echo.kind(), icmpv4::Kind::ECHO_REQUEST | icmpv4::Kind::ECHO_REPLY);
            is_echo.then(|| echo.ident())?
        }
        IpProtocol::ICMPV6 => {
            let echo = icmpv6::Packet::new_checked(segment).ok()?;
            let is_echo =
                matches!(echo.kind(), icmpv6::Kind::ECHO_REQUEST | icmpv6::Kind::ECHO_REPLY);
            is_echo.then(|| echo.ident())?
        }
        protocol if protocol.has_ports() => return Ports::parse(segment),
        _ => return None,
    };
    Some(Ports { source: ident, destination: ident })
}
