//! Octets taken for every header that `millrace-wire` knows: reading a checked view never panics,
//! and what a representation emits reads as that representation again.

use millrace_wire::{arp, ethernet, icmpv4, icmpv6, ipv4, ipv6, sctp, tcp, udp, vlan, vxlan};

#[path = "../../../guest-sdk/wire/tests/walk/mod.rs"]
mod walk;

/// Reads `octets` in every way.
///
/// # Panics
/// If the crate breaks its word.
pub fn run(octets: &[u8]) {
    walk::frame(octets);
    walk::all(octets);
    emitted_again(octets);
    options_again(octets);
}

/// For each protocol: parse, emit over noise, and parse again.
fn emitted_again(octets: &[u8]) {
    macro_rules! again {
        ($($protocol:ident :: $view:ident),* $(,)?) => {$(
            if let Ok(view) = $protocol::$view::new_checked(octets)
                && let Ok(repr) = $protocol::Repr::parse(&view)
            {
                let mut noise = vec![0xff; octets.len().max(repr.buffer_len())];
                repr.emit(&mut $protocol::$view::new_unchecked(&mut noise[..]));
                let emitted = $protocol::$view::new_checked(&noise[..]);
                let emitted = emitted.expect("what is emitted is a header");
                assert_eq!($protocol::Repr::parse(&emitted), Ok(repr));
            }
        )*};
    }
    again!(
        ethernet::Frame,
        vlan::Frame,
        arp::Packet,
        ipv4::Packet,
        ipv6::Packet,
        tcp::Segment,
        udp::Datagram,
        sctp::Packet,
        icmpv4::Packet,
        icmpv6::Packet,
        vxlan::Packet,
    );
}

/// Options of TCP and of neighbour discovery, one by one, likewise.
fn options_again(octets: &[u8]) {
    if let Ok(segment) = tcp::Segment::new_checked(octets) {
        for option in segment.options().flatten() {
            let mut header = [0; tcp::HEADER_LEN + 40];
            option.emit(&mut header[tcp::HEADER_LEN..]);
            let mut view = tcp::Segment::new_unchecked(&mut header[..]);
            view.set_header_len(tcp::HEADER_LEN + 40);
            assert_eq!(view.options().next(), Some(Ok(option)));
        }
    }
    for option in icmpv6::NdOptions::new(octets).flatten() {
        let mut emitted = vec![0xff; option.buffer_len()];
        option.emit(&mut emitted);
        let again: Vec<_> = icmpv6::NdOptions::new(&emitted).collect();
        assert_eq!(again, [Ok(option)]);
    }
}
