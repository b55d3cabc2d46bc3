//! A connection as bytes: what has to be known to go on with it in another process.
//!
//! Owns their order. How far the connection has come is not in there: it would change with every
//! packet, and what the kernel's entries have seen says it better.
//!
//! A reader must not break this: bytes of another version are nobody's connection.

use std::time::Duration;

use millrace_abi::{Control, FieldSet, Origin, Reason, Slot, Tag, TagKind, limits};
use millrace_wire::IpProtocol;

use super::walk::milliseconds;
use super::{Direction, Endpoint, Hop, Key, Link, Opening, View, Way, Zone};
use crate::verdict::{Decider, Tags, Verdict};

/// What tells a connection from others: the key of the packet that opened it.
pub type Name = [u8; 40];

/// All else.
pub type Record = [u8; 256];

impl Key {
    /// The name of a connection that a packet with this key has opened.
    pub fn name(&self) -> Name {
        let mut name = Writer::<40>::new();
        name.key(self);
        name.put([self.protocol]);
        name.bytes
    }

    fn of_name(name: &Name) -> Option<Self> {
        let mut name = Reader(name);
        let key = name.key()?;
        Some(Self { protocol: name.byte()?, ..key })
    }
}

impl View {
    /// What of it is kept.
    pub fn record(&self) -> Record {
        let mut record = Writer::<256>::new();
        record.put([VERSION]);
        record.key(&self.keys[Direction::Reply as usize]);
        self.ways.iter().for_each(|way| record.way(way));
        record.opener(&self.opening);
        // those of its ports follow from the rest
        let ports = self.keys.iter().map(|key| key.zone.number());
        let ports = ports.chain(self.ways.iter().map(|way| way.verdict.egress));
        let ports: Vec<_> = ports.map(|port| Tag::new(TagKind::Port, port.into())).collect();
        let tags: Vec<_> = self.labels.iter().filter(|tag| !ports.contains(tag)).collect();
        record.put([tags.len().min(limits::MAX_TAGS) as u8]);
        tags.iter().take(limits::MAX_TAGS).for_each(|tag| record.put(tag.bits().to_ne_bytes()));
        record.put(milliseconds(self.idle).to_ne_bytes());
        record.bytes
    }
}

impl Opening {
    /// What was kept of a connection, as if it were opened now; nothing if that is unknown.
    pub fn of_record(name: &Name, record: &Record, now_ns: u64) -> Option<Self> {
        let key = Key::of_name(name)?;
        let mut record = Reader(record);
        if record.byte()? != VERSION {
            return None;
        }
        let reply = Key { protocol: key.protocol, ..record.key()? };
        let ways = [record.way()?, record.way()?];
        let slot = record.opener(&key, now_ns)?;
        // whose share it is of
        if !(1..=limits::MAX_PORT).contains(&slot.ingress) {
            return None;
        }
        let mut tags = Tags::default();
        for _ in 0..record.byte()? {
            tags.add(Tag::from_bits(u32::from_ne_bytes(record.take()?)));
        }
        let idle_ms = u64::from(u32::from_ne_bytes(record.take()?));
        let idle = (idle_ms != 0).then(|| Duration::from_millis(idle_ms));
        Some(Self { slot, zone: key.zone, reply, ways, tags, idle })
    }
}

struct Writer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Writer<N> {
    fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn put<const M: usize>(&mut self, bytes: [u8; M]) {
        self.bytes[self.len..self.len + M].copy_from_slice(&bytes);
        self.len += M;
    }

    fn key(&mut self, key: &Key) {
        for end in [&key.source, &key.destination] {
            self.put(end.address);
            self.put(end.port.to_ne_bytes());
        }
        self.put(key.zone.number().to_ne_bytes());
    }

    fn way(&mut self, way: &Way) {
        let Way { verdict, link, hop } = way;
        self.put([verdict.control as u8, verdict.by.number()]);
        self.put(verdict.reason.map_or(0, |reason| reason as u16).to_ne_bytes());
        self.put(verdict.fields.bits().to_ne_bytes());
        self.put(verdict.egress.to_ne_bytes());
        self.put(verdict.rule.to_ne_bytes());
        self.put(verdict.inspect.to_ne_bytes());
        let marks = [verdict.answered, link.is_some(), *hop == Hop::Routed];
        self.put(marks.map(u8::from));
        let link = link.unwrap_or(Link { destination: [0; 6], source: [0; 6] });
        self.put(link.destination);
        self.put(link.source);
    }

    fn opener(&mut self, slot: &Slot) {
        self.put(slot.hash.to_ne_bytes());
        self.put(slot.len.to_ne_bytes());
        self.put(slot.src_mac);
        self.put(slot.dst_mac);
        for number in [slot.ethertype, slot.vlan, slot.ingress, slot.flags] {
            self.put(number.to_ne_bytes());
        }
        self.put([slot.ip_version, slot.ttl, slot.traffic_class, slot.ingress_kind]);
        self.put([slot.class, slot.tcp_flags, slot.icmp_type, slot.icmp_code]);
    }
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const M: usize>(&mut self) -> Option<[u8; M]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn zone(&mut self) -> Option<Zone> {
        let number = self.short()?;
        Zone::all().find(|zone| zone.number() == number)
    }

    fn key(&mut self) -> Option<Key> {
        let mut end = || Some(Endpoint { address: self.take()?, port: self.short()? });
        let (source, destination) = (end()?, end()?);
        Some(Key { source, destination, zone: self.zone()?, protocol: 0 })
    }

    fn way(&mut self) -> Option<Way> {
        let [control, by] = self.take()?;
        let verdict = Verdict {
            control: Control::from_u8(control)?,
            by: if by == 0 { Decider::HOST } else { Decider::stage(by) },
            reason: Reason::from_u16(self.short()?),
            fields: FieldSet::from_bits(self.short()?),
            egress: self.short()?,
            rule: u32::from_ne_bytes(self.take()?),
            inspect: self.short()?,
            answered: self.byte()? != 0,
        };
        let [has_link, is_routed] = self.take()?;
        let link = Link { destination: self.take()?, source: self.take()? };
        let hop = if is_routed != 0 { Hop::Routed } else { Hop::Bridged };
        Some(Way { verdict, link: (has_link != 0).then_some(link), hop })
    }

    fn opener(&mut self, key: &Key, now_ns: u64) -> Option<Slot> {
        let (hash, len) = (self.take()?, self.take()?);
        let (src_mac, dst_mac) = (self.take()?, self.take()?);
        let [ethertype, vlan, ingress, flags] =
            [self.short()?, self.short()?, self.short()?, self.short()?];
        let [ip_version, ttl, traffic_class, ingress_kind] = self.take()?;
        let [class, tcp_flags, icmp_type, icmp_code] = self.take()?;
        // an echo has its identifier at both ends of the key, and no port in the packet
        let is_echo = matches!(IpProtocol(key.protocol), IpProtocol::ICMPV4 | IpProtocol::ICMPV6);
        Some(Slot {
            src_addr: key.source.address,
            dst_addr: key.destination.address,
            src_port: key.source.port,
            dst_port: if is_echo { 0 } else { key.destination.port },
            protocol: key.protocol,
            origin: Origin::New as u8,
            hash: u32::from_ne_bytes(hash),
            len: u32::from_ne_bytes(len),
            src_mac,
            dst_mac,
            ethertype,
            vlan,
            ingress,
            flags,
            ip_version,
            ttl,
            traffic_class,
            ingress_kind,
            class,
            tcp_flags,
            icmp_type,
            icmp_code,
            now_ns,
            ..Slot::ZERO
        })
    }
}

/// Of what is written here, and of what is in there without being written here: a verdict's.
const VERSION: u8 = 1;
