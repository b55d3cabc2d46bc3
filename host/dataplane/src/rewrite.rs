//! Walk `packet` 6/7: sandbox → **rewrite** → dispatch.
//!
//! Carries out, on a packet's bytes, what was decided about it.

use millrace_abi::{Field, Reason, Slot, slot_flag};
use millrace_parse::Layers;
use millrace_wire::tcp::{self, Flags};
use millrace_wire::vlan::{self, Tag, Tci, Vid};
use millrace_wire::{EtherType, IpProtocol, MacAddr, ethernet, ipv4, ipv6};

use crate::connections::{Link, Translation};
use crate::io::Io;
use crate::port::{Hold, Port, Tagging, Vlans};
use crate::translate;
use crate::verdict::Verdict;

/// Carries out the decided fields that concern the packet itself, and the translation of its
/// connection.
///
/// # Errors
/// Why the packet has to be dropped instead.
#[inline]
pub(crate) fn fields<I: Io>(
    io: &mut I,
    frame: &mut I::Frame,
    slot: &Slot,
    layers: Layers,
    verdict: &Verdict,
    translation: Option<&Translation>,
) -> Result<(), Reason> {
    // what is translated without a connection nobody could translate back
    if translation.is_none() && TRANSLATIONS.iter().any(|&field| verdict.fields.contains(field)) {
        return Err(Reason::Unsupported);
    }
    if verdict.fields.contains(Field::DecrementTtl) && layers.network != 0 {
        if slot.ttl <= 1 {
            return Err(Reason::TtlExceeded);
        }
        let packet = &mut io.buffer(frame)[usize::from(layers.network)..];
        match slot.ip_version {
            4 => ipv4::Packet::new_unchecked(packet).decrement_ttl(),
            _ => ipv6::Packet::new_unchecked(packet).decrement_hop_limit(),
        };
    }
    if let Some(translation) = translation {
        translate::packet(io.buffer(frame), slot, layers, translation)?;
    }
    Ok(())
}

/// Has who sends this SYN be sent no larger segments than fit packets of `mtu` bytes: not every
/// sender hears that its packets are too big.
#[inline]
pub(crate) fn segment_size<I: Io>(
    io: &mut I,
    frame: &mut I::Frame,
    slot: &Slot,
    layers: Layers,
    mtu: u32,
) {
    let is_syn = slot.protocol == IpProtocol::TCP.0 && Flags(slot.tcp_flags).contains(Flags::SYN);
    if !is_syn || layers.transport == 0 || slot.flags & slot_flag::FIRST_FRAGMENT != 0 {
        return;
    }
    let ip = if slot.ip_version == 4 { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
    let largest = (mtu as usize).saturating_sub(ip + tcp::HEADER_LEN);
    let len = io.bytes(frame).len();
    let segment = &mut io.buffer(frame)[usize::from(layers.transport)..len];
    // larger than any that is stated: nothing to change
    let largest = u16::try_from(largest).unwrap_or(u16::MAX);
    tcp::Segment::new_unchecked(segment).clamp_mss(largest);
}

/// Addresses the frame: as its connection has it, or to the neighbour behind `port` if a next hop
/// was decided.
///
/// # Errors
/// If nobody knows the neighbours behind the port.
#[inline]
pub(crate) fn neighbour<I: Io>(
    io: &mut I,
    frame: &mut I::Frame,
    port: &Port,
    link: Option<Link>,
    next_hop: bool,
) -> Result<(), Reason> {
    let link = match (link, port.hold) {
        (Some(link), _) => link,
        (None, _) if !next_hop => return Ok(()),
        (None, Hold::Direct) => return Err(Reason::Unsupported),
        (None, Hold::Cached(station)) => {
            Link { destination: station.mac, source: station.gateway.mac }
        }
    };
    let mut ethernet = ethernet::Frame::new_unchecked(io.buffer(frame));
    ethernet.set_destination(MacAddr(link.destination));
    ethernet.set_source(MacAddr(link.source));
    Ok(())
}

/// Gives the packet, which belongs to `vlan`, the tag it leaves a port of `vlans` with, or takes its
/// tag away.
///
/// # Errors
/// If the port does not carry the VLAN, or there is no room for a tag.
#[inline]
pub(crate) fn tag<I: Io>(
    io: &mut I,
    frame: &mut I::Frame,
    vlan: u16,
    vlans: &Vlans,
) -> Result<(), Reason> {
    let tagging = vlans.tagging(vlan).ok_or(Reason::VlanNotAllowed)?;
    if tagging == Tagging::Untagged && vlan == 0 {
        return Ok(());
    }
    let bytes = io.bytes(frame);
    let (len, ether_type) = (bytes.len(), ethernet::Frame::new_unchecked(bytes).ether_type());
    match (tagging, ether_type.is_vlan()) {
        (Tagging::Untagged, true) => {
            let buffer = io.buffer(frame);
            vlan::pop(&mut buffer[..len]).map_err(|_| Reason::BadVlan)?;
            buffer.copy_within(vlan::TAG_LEN..len, 0);
            io.set_len(frame, len - vlan::TAG_LEN);
            // a second tag is payload, but who gets the frame would take it for the frame's own
            let hops = inner_vid(io.bytes(frame))
                .is_some_and(|inner| vlans.tagging(inner) == Some(Tagging::Tagged));
            if hops {
                return Err(Reason::VlanNotAllowed);
            }
        }
        (Tagging::Tagged, true) => {
            // a tag that carried a priority alone says the VLAN now
            let vid = Vid::new(vlan).ok_or(Reason::VlanNotAllowed)?;
            vlan::Frame::new_unchecked(&mut io.buffer(frame)[TAG_AT..]).set_vid(vid);
        }
        (Tagging::Tagged, false) => {
            let vid = Vid::new(vlan).ok_or(Reason::VlanNotAllowed)?;
            let buffer = io.buffer(frame);
            if buffer.len() < len + vlan::TAG_LEN {
                return Err(Reason::TooBig);
            }
            buffer.copy_within(..len, vlan::TAG_LEN);
            let tag = Tag { ether_type: EtherType::VLAN, tci: Tci::of(vid) };
            vlan::push(&mut buffer[..len + vlan::TAG_LEN], tag).map_err(|_| Reason::BadVlan)?;
            io.set_len(frame, len + vlan::TAG_LEN);
        }
        (Tagging::Untagged, false) => {}
    }
    Ok(())
}

/// The VLAN that the tag of a frame names, if it has one.
fn inner_vid(frame: &[u8]) -> Option<u16> {
    let tagged = ethernet::Frame::new_checked(frame).ok()?.ether_type().is_vlan();
    let tag = vlan::Frame::new_checked(frame.get(TAG_AT..)?).ok()?;
    tagged.then(|| tag.vid().number())
}

/// Fields that state a translation.
const TRANSLATIONS: [Field; 3] = [Field::To, Field::As, Field::Masquerade];

/// Where a tag is: behind the addresses and its EtherType.
const TAG_AT: usize = 14;
