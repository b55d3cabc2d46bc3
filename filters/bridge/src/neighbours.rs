//! ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861, RFC 4862) for those who are known.
//!
//! Questions for a known neighbour are answered here, out of the port they came by, and go no
//! further. What a port says of itself goes on if it is true. All else is left alone, and goes
//! where the flow hook has sent it.

use std::net::{IpAddr, Ipv6Addr};

use millrace_filter::prelude::*;
use millrace_filter::wire::builder::{self, Ethernet};
use millrace_filter::wire::checksum::Pseudo;
use millrace_filter::wire::icmpv6::{self, NdOption};
use millrace_filter::wire::{EtherType, ethernet, ipv6, vlan};
use millrace_filter::wire::{IpProtocol, arp};
use millrace_filter::{Class, Reason};

use crate::segment::{At, Neighbour, Refusal, Segment};
use crate::{ANSWERED, NOT_A_QUESTION, SPOOFED, UNSOUND};

/// What becomes of a message.
enum Fate {
    /// It goes where the flow hook has sent it.
    Pass,
    /// The first so many bytes of [`Answer`] go back.
    Answer(usize),
}

/// Room for the longest answer, an advertisement with a link-layer address.
type Answer = [u8; ANSWER];

impl Segment {
    /// Looks at an ARP packet or a message of neighbour discovery.
    pub(crate) fn hear(&self, slot: &Slot, packet: &mut Packet<'_>) {
        let mut answer = [0; ANSWER];
        let header = link_header(packet.bytes());
        let heard = match slot.class() {
            _ if !packet.is_whole() => Err((Reason::Denied, UNSOUND)),
            Class::Arp => self.hear_arp(slot, &packet.bytes()[header..], &mut answer),
            Class::Nd => self.hear_nd(slot, &packet.bytes()[header..], &mut answer),
            _ => return,
        };
        match heard {
            Ok(Fate::Answer(len)) => {
                packet.answer(|room| put(&answer[..len], room, header));
                packet.by_rule(ANSWERED.id);
            }
            // the gateway has nobody to tell what it did not ask for
            Ok(Fate::Pass) if self.is_to_gateway(slot) => {
                packet.drop(Reason::Denied);
                packet.by_rule(NOT_A_QUESTION.id);
            }
            Ok(Fate::Pass) => {}
            Err((reason, rule)) => {
                packet.drop(reason);
                packet.by_rule(rule.id);
            }
        }
    }

    fn hear_arp(&self, slot: &Slot, bytes: &[u8], answer: &mut Answer) -> Result<Fate, Refusal> {
        let unsound = |_| (Reason::Denied, UNSOUND);
        let heard = arp::Packet::new_checked(bytes).and_then(|packet| arp::Repr::parse(&packet));
        let heard = heard.map_err(unsound)?;
        let sender = IpAddr::from(heard.sender_ip);
        // a probe says nothing of its sender's address
        let stated = (!sender.is_unspecified()).then_some(sender);
        self.check(slot.ingress, heard.sender_mac, stated)?;

        let is_question =
            heard.operation == arp::Operation::REQUEST && heard.sender_ip != heard.target_ip;
        if is_question && let Some(known) = self.answer(slot.ingress, heard.target_ip.into()) {
            let ethernet = Ethernet::new(known.mac, MacAddr(slot.src_mac));
            return built(builder::arp(answer, &ethernet, &heard.answer(known.mac)));
        }
        self.keep_gateway(sender)
    }

    fn hear_nd(&self, slot: &Slot, bytes: &[u8], answer: &mut Answer) -> Result<Fate, Refusal> {
        let unsound = (Reason::Denied, UNSOUND);
        let packet = ipv6::Packet::new_checked(bytes).map_err(|_| unsound)?;
        let (source, destination) = (packet.source(), packet.destination());
        if packet.next_header() != IpProtocol::ICMPV6 {
            // extension headers: nobody sends these messages so, but to get past guards (RFC 7113)
            return Err(unsound);
        }
        let message = icmpv6::Packet::new_checked(packet.payload()).map_err(|_| unsound)?;
        if !message.verify_checksum(Pseudo::v6(source, destination)) {
            return Err(unsound);
        }
        let mut states_mac = false;
        for option in message.options() {
            match option.map_err(|_| unsound)? {
                NdOption::SourceLinkLayer(mac) | NdOption::TargetLinkLayer(mac) => {
                    self.check(slot.ingress, mac, None)?;
                    states_mac = true;
                }
                // a link-layer address of another length than Ethernet's
                NdOption::Other { kind: 1 | 2, .. } => return Err(unsound),
                _ => {}
            }
        }

        match icmpv6::Repr::parse(&message).map_err(|_| unsound)? {
            icmpv6::Repr::NeighborSolicitation { target } => {
                let looks_for_itself = source.is_unspecified();
                let misaddressed = destination != ipv6::solicited_node(target) || states_mac;
                if target.is_multicast() || (looks_for_itself && misaddressed) {
                    return Err(unsound);
                }
                match self.answer(slot.ingress, target.into()) {
                    Some(known) => advertise(known, target, source, slot, answer),
                    None => self.keep_gateway(source.into()),
                }
            }
            icmpv6::Repr::NeighborAdvertisement { target, router, .. } => {
                self.check(slot.ingress, MacAddr(slot.src_mac), Some(target.into()))?;
                if router && self.is_owned(slot.ingress) && !self.is_host(slot.ingress) {
                    return Err((Reason::SpoofedAddress, SPOOFED));
                }
                self.keep_gateway(target.into())
            }
            _ => Ok(Fate::Pass),
        }
    }

    /// Lets a message pass, unless it would tell others that the gateway's address is the host's.
    fn keep_gateway(&self, stated: IpAddr) -> Result<Fate, Refusal> {
        if self.is_gateway(stated) {
            Err((Reason::SpoofedAddress, SPOOFED))
        } else {
            Ok(Fate::Pass)
        }
    }

    fn is_to_gateway(&self, slot: &Slot) -> bool {
        self.at_mac(MacAddr(slot.dst_mac)).is_some_and(|known| known.at == At::Gateway)
    }
}

/// The answer to a solicitation (RFC 4861 section 7.2.4): to whoever has asked or, where that has
/// no address yet, to all; it leaves by one port in any case.
fn advertise(
    known: Neighbour,
    target: Ipv6Addr,
    asker: Ipv6Addr,
    slot: &Slot,
    answer: &mut Answer,
) -> Result<Fate, Refusal> {
    let solicited = !asker.is_unspecified();
    let to = if solicited { asker } else { ALL_NODES };
    let group = MacAddr::for_multicast(to.into());
    let ethernet = Ethernet::new(known.mac, group.unwrap_or(MacAddr(slot.src_mac)));
    let ip = ipv6::Repr { hop_limit: icmpv6::ND_HOP_LIMIT, ..ipv6::Repr::new(target, to) };
    let advertisement = icmpv6::Repr::NeighborAdvertisement {
        target,
        router: known.at == At::Gateway,
        solicited,
        overrides: true,
    };
    let option = NdOption::TargetLinkLayer(known.mac);
    let mut options = [0; 8];
    option.emit(&mut options[..option.buffer_len()]);
    built(builder::icmpv6(answer, &ethernet, &ip, &advertisement, &options))
}

fn built(len: Result<usize, builder::BuildError>) -> Result<Fate, Refusal> {
    Ok(Fate::Answer(len.expect("there is room for the longest answer")))
}

/// Writes an answer into the room of what it answers, behind the same link header, with the
/// addresses of its own; returns the length.
fn put(answer: &[u8], room: &mut [u8], header: usize) -> usize {
    let (link, payload) = answer.split_at(ethernet::HEADER_LEN);
    room[..ADDRESSES].copy_from_slice(&link[..ADDRESSES]);
    room[header..][..payload.len()].copy_from_slice(payload);
    header + payload.len()
}

/// How long the Ethernet header is, with all VLAN tags.
fn link_header(frame: &[u8]) -> usize {
    let ether_type = |end: usize| frame.get(..end)?.last_chunk().map(|t| u16::from_be_bytes(*t));
    let mut len = ethernet::HEADER_LEN;
    while ether_type(len).is_some_and(|number| EtherType(number).is_vlan()) {
        len += vlan::TAG_LEN;
    }
    len.min(frame.len())
}

/// Bytes of the link-layer addresses of a frame.
const ADDRESSES: usize = 12;

/// Ethernet, IPv6, an advertisement, and a link-layer address.
const ANSWER: usize = 14 + 40 + 24 + 8;

/// All nodes of the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
