//! A number for a flow: the same for both directions, stable across processes.
//! It spreads; it does not resist somebody who chooses addresses to collide.

use millrace_abi::Slot;
use millrace_wire::IpProtocol;

/// [`Slot::hash`] of a packet: of its addresses, ports and protocol or, without IP, of its MAC
/// addresses.
#[inline]
pub fn flow_hash(slot: &Slot) -> u32 {
    // the identifier of an echo is at neither end: the reply has it in the same place
    let (ports, ident) = match IpProtocol(slot.protocol) {
        IpProtocol::ICMPV4 | IpProtocol::ICMPV6 => ((0, 0), slot.src_port),
        _ => ((slot.src_port, slot.dst_port), 0),
    };
    let (a, b) = if slot.ip_version != 0 {
        (end(&slot.src_addr, ports.0), end(&slot.dst_addr, ports.1))
    } else {
        (mac(slot.src_mac), mac(slot.dst_mac))
    };
    let kind = u64::from(ident) << 32 | u64::from(slot.protocol) << 16 | u64::from(slot.ethertype);
    let sum = fold(a.wrapping_add(b), SEEDS[2] ^ kind);
    (sum >> 32) as u32 ^ sum as u32
}

#[inline]
fn end(address: &[u8; 16], port: u16) -> u64 {
    let address = u128::from_be_bytes(*address);
    let (high, low) = ((address >> 64) as u64, address as u64);
    fold(high ^ SEEDS[0], low ^ u64::from(port).rotate_left(48) ^ SEEDS[1])
}

#[inline]
fn mac([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    fold(u64::from_be_bytes([0, 0, a, b, c, d, e, f]) ^ SEEDS[0], SEEDS[1])
}

/// Both halves of the product, together: every bit of both factors counts.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Fractional digits of pi: bits without a pattern.
const SEEDS: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0];
