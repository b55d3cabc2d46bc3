//! ICMP errors about packets of connections: they go where the connection's answers go, translated
//! as those are (RFC 5508 section 4).
//!
//! An error is believed if it is for whom the quoted packet was from. A pod is an end, and no router:
//! what it says about packets that were not for it is dropped, and so is what it says about fragments
//! that have no ports, of which no end speaks (RFC 1122 section 3.2.2). About other errors the chain
//! is asked. An error that comes in fragments is not translated but dropped, whole.

use millrace_abi::{PortKind, Reason, Slot, slot_flag};
use millrace_parse::Layers;
use millrace_wire::ip::Upper;
use millrace_wire::{IpProtocol, Ports, icmpv4, icmpv6, ipv4, ipv6};

use super::{Known, Rewrite, Tracking};
use crate::connections::{Endpoint, Key, Translation, Zone};
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
        let message = frame.get(usize::from(layers.transport)..)?;
        let quoted = match slot.ip_version {
            4 => Quoted::v4(icmpv4::Packet::new_checked(message).ok()?.quoted()?)?,
            _ => Quoted::v6(icmpv6::Packet::new_checked(message).ok()?.quoted()?)?,
        };
        let is_to_the_sender = slot.dst_addr == quoted.source;
        let is_from_the_end = slot.src_addr == quoted.destination;
        let is_an_ends = is_to_the_sender && is_from_the_end && quoted.starts;
        if port.kind == PortKind::Pod && !is_an_ends {
            return Some(dropped(Reason::InvalidState));
        }
        let zone = Zone::of(port);
        let key = quoted.key(zone)?.reversed(zone);
        let found = self.connections.related(&key).filter(|_| is_to_the_sender)?;
        let is_whole = slot.flags & slot_flag::FIRST_FRAGMENT == 0;
        if !is_whole && found.translation != Translation::default() {
            return Some(dropped(Reason::Unsupported));
        }
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

fn dropped(reason: Reason) -> Known {
    Known { verdict: Verdict::dropped(reason), rewrite: Rewrite::default() }
}

/// A packet as an error quotes it.
struct Quoted {
    source: [u8; 16],
    destination: [u8; 16],
    /// Whether it is no fragment but a first one.
    starts: bool,
    /// What tells its connection from others, if it is quoted.
    ends: Option<(IpProtocol, Ports)>,
}

impl Quoted {
    fn v4(quote: &[u8]) -> Option<Self> {
        let packet = ipv4::Packet::new_quoted(quote).ok()?;
        let addresses = [packet.source(), packet.destination()];
        let [source, destination] = addresses.map(|it| it.to_ipv6_mapped().octets());
        let upper = packet.upper();
        let (starts, ends) = (upper.starts_here(), ends(&upper, quote));
        Some(Self { source, destination, starts, ends })
    }

    fn v6(quote: &[u8]) -> Option<Self> {
        let packet = ipv6::Packet::new_quoted(quote).ok()?;
        let [source, destination] = [packet.source(), packet.destination()].map(|it| it.octets());
        // the quote may end among extension headers
        let upper = packet.upper().ok();
        let starts = upper.is_none_or(|upper| upper.starts_here());
        let ends = upper.and_then(|upper| ends(&upper, quote));
        Some(Self { source, destination, starts, ends })
    }

    /// The key it had when it left.
    fn key(&self, zone: Zone) -> Option<Key> {
        let (protocol, ports) = self.ends?;
        Some(Key {
            source: Endpoint { address: self.source, port: ports.source },
            destination: Endpoint { address: self.destination, port: ports.destination },
            zone,
            protocol: protocol.0,
        })
    }
}

/// The protocol and the ports of a quoted packet.
fn ends(upper: &Upper, quote: &[u8]) -> Option<(IpProtocol, Ports)> {
    let segment = quote.get(upper.offset..).filter(|_| upper.starts_here())?;
    Some((upper.protocol, ports(upper.protocol, segment)?))
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
