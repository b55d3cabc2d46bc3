//! The punt: how packets that the kernel's flow cache does not know come to user space,
//! and how they go back.
//!
//! One veth pair carries the packets of all cached ports, both ways. A VLAN tag in
//! front of each says which port it came in by, or is to leave by; the tag exists between the
//! cache and here only, and no filter sees it.

use millrace_wire::vlan::{self, Tag, Tci, Vid};
use millrace_wire::{EtherType, ethernet};

use crate::io::Io;
use crate::port::PortId;

/// Takes the tag off a frame that came through the punt, and says by which port it came in.
///
/// `None` for a frame without a tag that names a port: the cache has sent no such thing.
pub(crate) fn pop<I: Io>(io: &mut I, frame: &mut I::Frame) -> Option<PortId> {
    let bytes = io.bytes(frame);
    let len = bytes.len();
    if !ethernet::Frame::new_checked(bytes).ok()?.ether_type().is_vlan() {
        return None;
    }
    let tag = vlan::Frame::new_checked(bytes.get(ethernet::HEADER_LEN..)?).ok()?;
    let port = PortId::new(tag.vid().number())?;
    let buffer = io.buffer(frame);
    vlan::pop(&mut buffer[..len]).ok()?;
    buffer.copy_within(vlan::TAG_LEN..len, 0);
    io.set_len(frame, len - vlan::TAG_LEN);
    Some(port)
}

/// Puts a tag in front of a frame that is to leave by `port`; false if there is no room.
pub(crate) fn push<I: Io>(io: &mut I, frame: &mut I::Frame, port: PortId) -> bool {
    let len = io.bytes(frame).len();
    let Some(vid) = Vid::new(port.number()) else { return false };
    let buffer = io.buffer(frame);
    if buffer.len() < len + vlan::TAG_LEN {
        return false;
    }
    buffer.copy_within(..len, vlan::TAG_LEN);
    let tag = Tag { ether_type: EtherType::VLAN, tci: Tci::of(vid) };
    if vlan::push(&mut buffer[..len + vlan::TAG_LEN], tag).is_err() {
        return false;
    }
    io.set_len(frame, len + vlan::TAG_LEN);
    true
}
