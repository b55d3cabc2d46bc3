//! What the kernel's flow cache is told of a connection.
//!
//! The kernel carries TCP and UDP between cached ports. Whatever it could not do alike stays with
//! the workers.

use std::num::NonZeroU32;
use std::time::Duration;

use millrace_abi::{Field, FieldSet, PortKind};
use millrace_fastpath::{self as fastpath, Egress, Forward, Protocol};
use millrace_wire::IpProtocol;

use crate::connections::{Closing, Hop, Key, Translation, Usage, Way, Zone};
use crate::port::{Hold, Port, PortId, PortTable};

/// An entry of the cache.
#[derive(Debug)]
pub(crate) struct KernelFlow {
    pub(crate) key: fastpath::Key,
    pub(crate) forward: Forward,
}

/// What the kernel has to know to carry packets that have the key and go this way; nothing if it
/// cannot.
pub(crate) fn flow(
    key: &Key,
    way: &Way,
    translation: &Translation,
    ports: &PortTable,
) -> Option<KernelFlow> {
    let carried = FieldSet::EMPTY.with(Field::Egress).with(Field::NextHop);
    let carried = carried.with(Field::DecrementTtl).with(Field::Idle);
    // as the keys have it
    let carried = carried.with(Field::To).with(Field::As).with(Field::Masquerade);
    let verdict = &way.verdict;
    let can = verdict.is_open()
        && verdict.inspect == 0
        && verdict.fields.contains(Field::Egress)
        && verdict.fields.minus(carried).is_empty();
    if !can {
        return None;
    }
    let egress = &ports.get(PortId::new(verdict.egress)?)?.port;
    let link = way.link.filter(|_| matches!(egress.hold, Hold::Cached(_)))?;
    let forward = Forward {
        egress: self::egress(egress),
        destination_mac: link.destination,
        source_mac: link.source,
        mtu: u16::try_from(egress.mtu).unwrap_or(u16::MAX),
        hop: match way.hop {
            Hop::Bridged => fastpath::Hop::Bridged,
            Hop::Routed => fastpath::Hop::Routed,
        },
        translation: (*translation != Translation::default()).then(|| fastpath::Translation {
            source: translation.source.as_ref().unwrap_or(&key.source).into(),
            destination: translation.destination.as_ref().unwrap_or(&key.destination).into(),
        }),
    };
    Some(KernelFlow { key: self::key(key)?, forward })
}

/// A direction's key, as the kernel has it; nothing for what the kernel does not carry.
pub(crate) fn key(key: &Key) -> Option<fastpath::Key> {
    let protocol = match IpProtocol(key.protocol) {
        IpProtocol::TCP => Protocol::Tcp,
        IpProtocol::UDP => Protocol::Udp,
        _ => return None,
    };
    let (source, destination) = ((&key.source).into(), (&key.destination).into());
    fastpath::Key::new(from(key.zone)?, protocol, source, destination)
}

/// A kernel's key, as connections have it.
pub(crate) fn connections_key(key: &fastpath::Key) -> Key {
    let protocol = match key.protocol() {
        Protocol::Tcp => IpProtocol::TCP,
        Protocol::Udp => IpProtocol::UDP,
    };
    Key {
        source: key.source().into(),
        destination: key.destination().into(),
        zone: zone(key),
        protocol: protocol.0,
    }
}

/// What an entry saw, as connections have it.
pub(crate) fn connections_usage(usage: &fastpath::Usage) -> Usage {
    Usage {
        last_seen_ns: nanos(usage.last_seen),
        packets: usage.packets,
        bytes: usage.bytes,
        beyond_syn: usage.beyond_syn,
        closing: usage.closing.map(connections_closing),
    }
}

/// How a direction ends, as connections have it.
pub(crate) fn connections_closing(closing: fastpath::Closing) -> Closing {
    match closing {
        fastpath::Closing::Fin => Closing::Fin,
        fastpath::Closing::Reset => Closing::Reset,
    }
}

/// A generation's number; there is none without one.
pub(crate) fn generation(generation: fastpath::Generation) -> Option<NonZeroU32> {
    NonZeroU32::new(generation.number())
}

/// How the kernel sends to a port: only the other end of a pod's link is in another namespace, and
/// what it gets past the link's own queue nobody limits. Other nodes are behind tunnels, and the
/// neighbours of an uplink are the host's.
pub(crate) fn egress(port: &Port) -> Egress {
    match port.kind {
        PortKind::Pod if !port.shaped => Egress::Peer(port.link),
        PortKind::Remote => Egress::Tunnel(number(port.id)),
        PortKind::Uplink => Egress::Neighbour(port.link),
        _ => Egress::Link(port.link),
    }
}

/// A port's number, as the cache has it.
pub(crate) fn number(port: PortId) -> fastpath::PortId {
    fastpath::PortId::new(port.number()).expect("a port's number is one that a tag can carry")
}

/// Where packets come in, as the cache has it.
fn from(zone: Zone) -> Option<fastpath::PortId> {
    if zone == Zone::UNDERLAY {
        return Some(fastpath::PortId::UNDERLAY);
    }
    fastpath::PortId::new(zone.number())
}

/// Where packets with a key of the cache come in.
fn zone(key: &fastpath::Key) -> Zone {
    match key.from() {
        fastpath::PortId::UNDERLAY => Zone::UNDERLAY,
        port => Zone::port(port.number()),
    }
}

/// A time of the cache's clock, which is that of workers too.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
