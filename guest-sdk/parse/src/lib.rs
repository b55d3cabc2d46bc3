//! From a frame to the [`Slot`] that filters see: the one reading of a packet that
//! the host, the SDK's test rig and the benches share.
//!
//! - [`parse`] goes the short way with the frames that are nearly all (`plain`); else it reads the
//!   link layer, and goes on to
//! - `network`: IPv4 and IPv6, and to
//! - `transport`: TCP, UDP, SCTP and ICMP
//! - [`mark`], [`repeats`]: whether a frame need not be read, since the one before it said the same
//! - [`flow_hash`]: a number for a flow, the same for both directions
//!
//! A frame is either understood, with its [`Class`] and where its
//! headers are, or malformed for one [`Reason`]. Payload is never looked at, and
//! transport checksums neither: they may be left to hardware that is not there.
#![no_std]
#![forbid(unsafe_code)]

mod hash;
mod network;
mod plain;
mod train;
mod transport;

pub use hash::flow_hash;
use millrace_abi::{Class, Reason, Slot, slot_flag};
use millrace_wire::{EtherType, arp, ethernet, vlan};
pub use train::{mark, repeats};

/// Where the headers of a frame are, in bytes from its start; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The IP header.
    pub network: u16,
    /// The header of TCP, UDP, SCTP or ICMP, if the packet has it.
    pub transport: u16,
}

/// Reads `frame`, from its Ethernet header on, into `slot`.
///
/// `slot` keeps its ingress, origin and time; everything else is what the frame says. A frame
/// without a VLAN tag gets VLAN 0: the port's own VLAN is not for this crate to know.
///
/// # Errors
/// Why the frame is malformed, always of [`ReasonGroup::Malformed`](millrace_abi::ReasonGroup).
/// `slot` then holds what was read until there.
#[inline]
pub fn parse(frame: &[u8], slot: &mut Slot) -> Result<Layers, Reason> {
    let layers = parse_headers(frame, slot)?;
    slot.hash = flow_hash(slot);
    Ok(layers)
}

/// [`parse`] without [`flow_hash`], which leaves [`Slot::hash`] at 0: for whoever needs it for few
/// packets.
///
/// # Errors
/// As [`parse`].
#[inline(always)]
pub fn parse_headers(frame: &[u8], slot: &mut Slot) -> Result<Layers, Reason> {
    let Slot { ingress, ingress_kind, origin, now_ns, .. } = *slot;
    *slot = Slot::ZERO;
    (slot.ingress, slot.ingress_kind) = (ingress, ingress_kind);
    (slot.origin, slot.now_ns) = (origin, now_ns);
    slot.len = frame.len() as u32;
    match plain::read(frame, slot) {
        Some(layers) => Ok(layers),
        None => long_way(frame, slot),
    }
}

/// Reads any frame.
#[inline(never)]
fn long_way(frame: &[u8], slot: &mut Slot) -> Result<Layers, Reason> {
    let ethernet = ethernet::Frame::new_checked(frame).map_err(|_| Reason::TruncatedEthernet)?;
    slot.dst_mac = ethernet.destination().0;
    slot.src_mac = ethernet.source().0;
    if ethernet.source().is_multicast() {
        return Err(Reason::MulticastSource);
    }

    let mut ether_type = ethernet.ether_type();
    let mut payload = ethernet.into_payload();
    let mut tags = 0;
    while ether_type.is_vlan() {
        let tag = vlan::Frame::new_checked(payload).map_err(|_| Reason::BadVlan)?;
        if tags == 0 {
            // a priority tag (VID 0) says nothing about the VLAN (IEEE 802.1Q 9.6)
            slot.vlan = tag.vid().number();
            slot.flags |= slot_flag::TAGGED;
        }
        tags += 1;
        if tags > MAX_TAGS {
            return Err(Reason::BadVlan);
        }
        ether_type = tag.ether_type();
        payload = tag.into_payload();
    }
    slot.ethertype = ether_type.0;

    let offset = frame.len() - payload.len();
    let layers = match ether_type {
        EtherType::IPV4 => network::ipv4(payload, offset, slot)?,
        EtherType::IPV6 => network::ipv6(payload, offset, slot)?,
        EtherType::ARP => {
            arp::Packet::new_checked(payload).map_err(|_| Reason::BadArp)?;
            slot.class = Class::Arp as u8;
            Layers::default()
        }
        _ => {
            slot.class = Class::NonIp as u8;
            Layers::default()
        }
    };
    slot.to_port = slot.dst_port;
    Ok(layers)
}

/// An outer (802.1ad) and an inner (802.1Q) tag.
const MAX_TAGS: usize = 2;

#[cfg(test)]
mod tests;
