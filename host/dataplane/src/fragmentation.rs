//! IPv4 packets in pieces that a narrower link carries (RFC 791 section 3.2).
//!
//! Who forbids it is told that the packet is too big, instead; in IPv6 all do. A fragment is cut
//! like a whole packet. Options that are for the first piece alone are not repeated.

use millrace_abi::Slot;
use millrace_parse::Layers;
use millrace_wire::ipv4;

/// How a packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes in front of the IP header.
    link: usize,
    /// Bytes of the IP header.
    header: usize,
    /// Bytes behind it.
    payload: usize,
    /// Where the packet itself begins in its datagram, and whether others follow it.
    offset: usize,
    more: bool,
    /// Options of later pieces, and how many bytes these are.
    options: [u8; MOST_OPTIONS],
    options_len: usize,
    mtu: usize,
}

/// A piece: from where to where in the packet's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    start: usize,
    end: usize,
}

impl Cut {
    /// How to cut a packet for a link that carries packets of `mtu` bytes; nothing if it may not
    /// be cut, or has options that nobody understands.
    pub(crate) fn of(frame: &[u8], slot: &Slot, layers: Layers, mtu: usize) -> Option<Self> {
        if slot.ip_version != 4 {
            return None;
        }
        let link = usize::from(layers.network);
        let packet = ipv4::Packet::new_checked(frame.get(link..)?).ok()?;
        let (options, options_len) = repeated(packet.options())?;
        let carries = mtu >= packet.header_len() + UNIT;
        (carries && !packet.dont_fragment()).then(|| Self {
            link,
            header: packet.header_len(),
            payload: packet.payload().len(),
            offset: usize::from(packet.fragment_offset()),
            more: packet.more_fragments(),
            options,
            options_len,
            mtu,
        })
    }

    /// The piece that begins so far into the packet's payload; nothing behind its end.
    pub(crate) fn piece(&self, start: usize) -> Option<Piece> {
        let header = if start == 0 { self.header } else { ipv4::HEADER_LEN + self.options_len };
        let room = (self.mtu - header) / UNIT * UNIT;
        let end = match self.payload - start {
            rest if header + rest <= self.mtu => self.payload,
            _ => start + room,
        };
        (start < self.payload).then_some(Piece { start, end })
    }

    /// Makes a copy of the packet's frame this piece of it, and returns its length.
    pub(crate) fn make(&self, piece: Piece, frame: &mut [u8]) -> usize {
        let Piece { start, end } = piece;
        let packet = &mut frame[self.link..];
        let mut header = self.header;
        if start > 0 {
            header = ipv4::HEADER_LEN + self.options_len;
            packet[ipv4::HEADER_LEN..header].copy_from_slice(&self.options[..self.options_len]);
            packet.copy_within(self.header + start..self.header + end, header);
        }
        let len = header + end - start;
        let mut piece = ipv4::Packet::new_unchecked(packet);
        piece.set_header_len(header);
        // no piece is longer than the packet, whose length a header can state
        piece.set_total_len(len as u16);
        piece.set_fragment_offset((self.offset + start) as u16);
        piece.set_more_fragments(self.more || end < self.payload);
        piece.fill_checksum();
        self.link + len
    }
}

impl Piece {
    /// Where the next one begins.
    pub(crate) fn end(self) -> usize {
        self.end
    }
}

/// The options that every piece has, filled up to words, and how many bytes these are; nothing if
/// the options are malformed.
fn repeated(options: &[u8]) -> Option<([u8; MOST_OPTIONS], usize)> {
    let (mut kept, mut len) = ([END_OF_OPTIONS; MOST_OPTIONS], 0);
    let mut rest = options;
    while let [kind, behind @ ..] = rest {
        match *kind {
            END_OF_OPTIONS => break,
            NO_OPERATION => rest = behind,
            kind => {
                let option_len = usize::from(*behind.first()?);
                let (option, behind) = rest.split_at_checked(option_len)?;
                if option_len < 2 {
                    return None;
                }
                if kind & COPIED != 0 {
                    // there is room: they all come from one header
                    kept[len..len + option_len].copy_from_slice(option);
                    len += option_len;
                }
                rest = behind;
            }
        }
    }
    Some((kept, len.next_multiple_of(4)))
}

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
/// The bit of an option's kind that has every piece repeat it.
const COPIED: u8 = 0x80;
/// Bytes that options can have.
const MOST_OPTIONS: usize = 40;
/// Pieces but the last are so many bytes long, or a multiple.
const UNIT: usize = 8;

#[cfg(test)]
mod tests {
    use millrace_wire::builder::{self, Ethernet, Ip};
    use millrace_wire::{MacAddr, Ports};
    use proptest::prelude::*;

    use super::*;

    /// A frame with a packet that may be cut.
    fn datagram(payload: &[u8], options: &[u8]) -> Vec<u8> {
        let ethernet = Ethernet::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let Ip::V4(mut ip) = Ip::v4([10, 0, 0, 1], [10, 0, 0, 2]) else { unreachable!("it is") };
        (ip.dont_fragment, ip.ident) = (false, 7);
        let mut frame = vec![0; 4000];
        let ports = Ports { source: 1, destination: 2 };
        let len = builder::udp(&mut frame, &ethernet, &Ip::V4(ip), ports, payload);
        frame.truncate(len.expect("it fits"));
        let header = ipv4::HEADER_LEN + options.len();
        frame.splice(34..34, options.iter().copied());
        let total = (frame.len() - 14) as u16;
        let mut packet = ipv4::Packet::new_unchecked(&mut frame[14..]);
        packet.set_header_len(header);
        packet.set_total_len(total);
        packet.fill_checksum();
        frame
    }

    fn cut(frame: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
        let mut slot = Slot::ZERO;
        let layers = millrace_parse::parse(frame, &mut slot).expect("it is well-formed");
        let cut = Cut::of(frame, &slot, layers, mtu)?;
        let (mut pieces, mut start) = (Vec::new(), 0);
        while let Some(piece) = cut.piece(start) {
            let mut copy = frame.to_vec();
            let len = cut.make(piece, &mut copy);
            copy.truncate(len);
            pieces.push(copy);
            start = piece.end();
        }
        Some(pieces)
    }

    /// What a receiver makes of fragments that came in order.
    fn assembled(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (n, piece) in pieces.iter().enumerate() {
            let packet = ipv4::Packet::new_checked(&piece[14..]).expect("it is well-formed");
            assert!(packet.verify_checksum());
            assert_eq!((packet.ident(), packet.ttl(), packet.protocol().0), (7, 64, 17));
            assert_eq!(usize::from(packet.fragment_offset()), payload.len());
            assert_eq!(packet.more_fragments(), n + 1 < pieces.len());
            payload.extend_from_slice(packet.payload());
        }
        payload
    }

    proptest! {
        #[test]
        fn f4_pieces_fit_the_link_and_make_the_packet_again(
            len in 0usize..3000,
            mtu in 68usize..2000,
            second in 68usize..2000,
        ) {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let frame = datagram(&payload, &[]);
            let pieces = cut(&frame, mtu).expect("it may be cut");
            prop_assert!(pieces.iter().all(|piece| piece.len() - 14 <= mtu));
            prop_assert_eq!(assembled(&pieces), &frame[34..]);

            // and once more, on the way
            let again: Vec<_> =
                pieces.iter().flat_map(|piece| cut(piece, second).expect("it may be")).collect();
            prop_assert!(again.iter().all(|piece| piece.len() - 14 <= second));
            prop_assert_eq!(assembled(&again), &frame[34..]);
        }
    }

    #[test]
    fn later_pieces_have_the_options_that_are_to_be_copied() {
        // a router alert is for all; record route, behind it, for the first
        let options = [1, 7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0];
        let frame = datagram(&[9; 1000], &options);
        let pieces = cut(&frame, 400).expect("it may be cut");
        let of = |piece: &Vec<u8>| {
            ipv4::Packet::new_checked(&piece[14..]).expect("well-formed").options().to_vec()
        };
        assert_eq!(of(&pieces[0]), options);
        assert!(pieces[1..].iter().all(|piece| of(piece) == [0x94, 4, 0, 0]));
        assert_eq!(assembled(&pieces), &frame[46..]);
    }

    #[test]
    fn what_forbids_it_or_has_options_that_end_nowhere_is_not_cut() {
        let mut frame = datagram(&[9; 1000], &[]);
        let mut packet = ipv4::Packet::new_unchecked(&mut frame[14..]);
        packet.set_dont_fragment(true);
        packet.fill_checksum();
        assert_eq!(cut(&frame, 400), None);
        for options in [[7, 0, 0, 0], [7, 1, 0, 0], [1, 1, 1, 7], [0x94, 9, 0, 0]] {
            assert_eq!(cut(&datagram(&[9; 1000], &options), 400), None, "{options:?}");
        }
    }
}
