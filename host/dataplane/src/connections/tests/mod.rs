//! What holds for the table as a whole.

mod ageing;
mod anew;
mod cache_share;
mod inspected;
mod loads;
mod model;
mod opening;
mod ports;
mod resume;
mod share;
mod tcp;
mod threads;
mod walk;

use std::collections::BTreeSet;

use millrace_abi::{Slot, Tag, TagKind};
use millrace_parse::flow_hash;
use millrace_wire::tcp::Flags;

use super::*;
use crate::verdict::{Tags, Verdict};

const SECOND: u64 = 1_000_000_000;
const CLIENT: Zone = Zone::port(1);
const SERVER: Zone = Zone::port(2);
const ACK: Flags = Flags::ACK;
const FIN: Flags = Flags(0x11);
const RST: Flags = Flags::RST;
const SYN: Flags = Flags::SYN;
const SYN_ACK: Flags = Flags(0x12);

const SERVICE: Tag = Tag::new(TagKind::Service, 1);
const POLICY: Tag = Tag::new(TagKind::PolicySet, 1);
const PREFIX: Tag = Tag::new(TagKind::Prefix, 1);

fn table() -> Connections {
    Connections::new(Settings::default())
}

/// The slot of a client's packet to a server, at `now_ns` = 1 s.
fn slot(protocol: u8, client: u32, server: u16) -> Slot {
    let address = |last: u32| {
        let mut address = [0; 16];
        address[12..].copy_from_slice(&last.to_be_bytes());
        address
    };
    let slot = Slot {
        src_addr: address(0x0a00_0001 + (client >> 16)),
        dst_addr: address(0x0a01_0001),
        src_port: client as u16,
        dst_port: server,
        ip_version: 4,
        protocol,
        ethertype: 0x0800,
        tcp_flags: if protocol == 6 { SYN.0 } else { 0 },
        now_ns: SECOND,
        len: 60,
        ingress: CLIENT.number(),
        ..Slot::ZERO
    };
    Slot { hash: flow_hash(&slot), ..slot }
}

fn way(egress: u16) -> Way {
    Way { verdict: Verdict { egress, ..Verdict::OPEN }, link: None, hop: Hop::Routed }
}

/// A connection from CLIENT to SERVER, nothing translated.
fn opening(slot: Slot) -> Opening {
    Opening {
        reply: Key::of(&slot, CLIENT).reversed(SERVER),
        slot,
        zone: CLIENT,
        ways: [way(2), way(1)],
        tags: Tags::default(),
        idle: None,
    }
}

fn with_tags(client: u32, all: &[Tag]) -> Opening {
    Opening { tags: tags(all), ..opening(slot(17, client, 53)) }
}

/// Another decision about a connection of CLIENT's with SERVER.
fn anew(all: &[Tag]) -> Anew {
    Anew { ways: [way(9), way(8)], answers: SERVER, tags: tags(all), idle: None }
}

fn tags(all: &[Tag]) -> Tags {
    let mut tags = Tags::default();
    for &tag in all {
        assert!(tags.add(tag));
    }
    tags
}

fn port(number: u16) -> Tag {
    Tag::new(TagKind::Port, u32::from(number))
}

fn set(ids: Vec<ConnectionId>) -> BTreeSet<ConnectionId> {
    let count = ids.len();
    let set = BTreeSet::from_iter(ids);
    assert_eq!(set.len(), count, "none twice");
    set
}

fn packet(tcp_flags: Flags, now_ns: u64) -> Packet {
    Packet { tcp_flags, len: 100, now_ns }
}

/// Opens connections of `owner` to ports 1 to `count`, a millisecond apart.
fn open_some(table: &Connections, owner: Zone, count: u16) -> Vec<Opening> {
    let opening = |port: u16| {
        let mut slot = slot(17, 9999, port);
        slot.src_addr[15] = owner.number() as u8;
        slot.ingress = owner.number();
        slot.now_ns += u64::from(port) * 1_000_000;
        let reply = Key::of(&slot, owner).reversed(SERVER);
        let opening = Opening { zone: owner, reply, ..opening(slot) };
        table.open(&opening).unwrap();
        opening
    };
    (1..=count).map(opening).collect()
}

fn answer(table: &Connections, opening: &Opening, now_ns: u64) -> Option<ConnectionId> {
    table.find(&opening.reply, packet(Flags::NONE, now_ns)).map(|found| found.id)
}

fn is_there(table: &Connections, opening: &Opening) -> bool {
    table.view_by_key(&Key::of(&opening.slot, opening.zone)).is_some()
}
