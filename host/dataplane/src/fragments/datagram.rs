//! Datagrams of which a part has come: what was decided about their first fragment, and which of
//! their bytes came.

use millrace_abi::{Reason, Slot};
use millrace_parse::Layers;
use millrace_wire::ip::Fragment;
use millrace_wire::{IpProtocol, ipv4, ipv6};

use crate::connections::{Link, Translation};
use crate::tracking::Rewrite;
use crate::verdict::Verdict;

/// A datagram, from its first fragment on.
pub(super) struct Datagram {
    pub(super) name: Name,
    verdict: Verdict,
    link: Option<Link>,
    translation: Option<Translation>,
    /// Where it ends, once its last fragment has come.
    end: Option<u32>,
    came: Ranges,
    /// Fragments of it contradict each other: nobody is to put it together.
    is_broken: bool,
    pub(super) until_ns: u64,
}

/// What the fragments of a datagram share (RFC 791 section 3.2, RFC 8200 section 4.5), with the
/// stations that speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    id: u32,
    /// Nothing in IPv6, where fragments may state different ones.
    protocol: u8,
    stations: [[u8; 6]; 2],
    source: [u8; 16],
    destination: [u8; 16],
}

/// A fragment's place in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) name: Name,
    start: u32,
    end: u32,
    more: bool,
}

/// Bytes, as ranges that are apart from each other, in no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ranges {
    ranges: [(u32, u32); Self::MOST],
    len: usize,
}

impl Datagram {
    /// The datagram that begins with this fragment.
    pub(super) fn new(first: &Piece, verdict: &Verdict, rewrite: &Rewrite, until_ns: u64) -> Self {
        let mut came = Ranges::default();
        let is_broken = came.add(first.start, first.end).is_err();
        Self {
            name: first.name,
            verdict: *verdict,
            link: rewrite.link,
            translation: rewrite.translation,
            end: None,
            came,
            is_broken,
            until_ns,
        }
    }

    /// Takes a later fragment, and says what becomes of it. Of a datagram whose fragments overlap
    /// none passes from then on (RFC 5722 section 4).
    pub(super) fn take(&mut self, piece: &Piece) -> (Verdict, Rewrite) {
        let is_beyond = self.end.is_some_and(|end| piece.end > end || !piece.more);
        let is_short = !piece.more && self.came.highest() > piece.end;
        self.is_broken |= is_beyond || is_short || self.came.add(piece.start, piece.end).is_err();
        if self.is_broken {
            return (Verdict::dropped(Reason::FragmentOverlap), Rewrite::default());
        }
        if !piece.more {
            self.end = Some(piece.end);
        }
        let (link, translation) = (self.link, self.translation);
        let rewrite = Rewrite { link, translation, ..Rewrite::default() };
        (self.verdict, rewrite)
    }

    /// Makes the datagram one of which nothing more passes.
    pub(super) fn break_up(&mut self) {
        self.is_broken = true;
    }

    /// Whether all of it has come.
    pub(super) fn is_complete(&self) -> bool {
        !self.is_broken && self.end.is_some_and(|end| self.came.is_one(0, end))
    }
}

impl Piece {
    /// That of a fragment which the parser has understood.
    pub(super) fn of(frame: &[u8], slot: &Slot, layers: Layers) -> Option<Self> {
        let packet = frame.get(usize::from(layers.network)..)?;
        let (fragment, len, protocol) = match slot.ip_version {
            4 => {
                let packet = ipv4::Packet::new_checked(packet).ok()?;
                (packet.fragment()?, packet.payload().len(), slot.protocol)
            }
            _ => {
                let packet = ipv6::Packet::new_checked(packet).ok()?;
                let end = ipv6::HEADER_LEN + packet.payload_len();
                let header = packet
                    .extension_headers()
                    .filter_map(Result::ok)
                    .find(|header| header.protocol == IpProtocol::FRAGMENT)?;
                let start = header.offset + header.octets.len();
                (packet.upper().ok()?.fragment?, end - start, 0)
            }
        };
        let Fragment { offset, more, id } = fragment;
        let name = Name {
            id,
            protocol,
            stations: [slot.src_mac, slot.dst_mac],
            source: slot.src_addr,
            destination: slot.dst_addr,
        };
        let start = u32::from(offset);
        Some(Self { name, start, end: start + len as u32, more })
    }
}

impl Ranges {
    /// Ranges that are kept apart.
    const MOST: usize = 16;

    /// Adds a range.
    ///
    /// # Errors
    /// If it is empty, has bytes that came before, or is one too many.
    fn add(&mut self, mut start: u32, mut end: u32) -> Result<(), ()> {
        let overlaps = |&(from, to): &(u32, u32)| start < to && from < end;
        if start >= end || self.ranges[..self.len].iter().any(overlaps) {
            return Err(());
        }
        // what touches it becomes one with it
        while let Some(at) =
            self.ranges[..self.len].iter().position(|&(from, to)| to == start || from == end)
        {
            let (from, to) = self.ranges[at];
            (start, end) = (start.min(from), end.max(to));
            self.len -= 1;
            self.ranges[at] = self.ranges[self.len];
        }
        *self.ranges.get_mut(self.len).ok_or(())? = (start, end);
        self.len += 1;
        Ok(())
    }

    fn highest(&self) -> u32 {
        self.ranges[..self.len].iter().map(|&(_, end)| end).max().unwrap_or(0)
    }

    fn is_one(&self, start: u32, end: u32) -> bool {
        self.ranges[..self.len] == [(start, end)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Name =
        Name { id: 7, protocol: 17, stations: [[2; 6]; 2], source: [1; 16], destination: [2; 16] };

    fn piece(start: u32, end: u32, more: bool) -> Piece {
        Piece { name: NAME, start, end, more }
    }

    fn begun(end: u32) -> Datagram {
        let verdict = Verdict { egress: 3, ..Verdict::OPEN };
        Datagram::new(&piece(0, end, true), &verdict, &Rewrite::default(), 0)
    }

    /// Whether each fragment passes.
    fn pass(datagram: &mut Datagram, pieces: &[(u32, u32, bool)]) -> Vec<bool> {
        let passes = |&(start, end, more): &(u32, u32, bool)| {
            datagram.take(&piece(start, end, more)).0.is_open()
        };
        pieces.iter().map(passes).collect()
    }

    #[test]
    fn f5_fragments_in_any_order_follow_the_first_until_all_have_come() {
        let mut datagram = begun(8);
        for (start, end, more) in [(24, 30, false), (8, 16, true)] {
            let (verdict, _) = datagram.take(&piece(start, end, more));
            assert_eq!(verdict.egress, 3);
            assert!(!datagram.is_complete());
        }
        datagram.take(&piece(16, 24, true));
        assert!(datagram.is_complete());
    }

    #[test]
    fn f5_nothing_passes_of_a_datagram_once_fragments_contradict_each_other() {
        for (what, pieces) in [
            ("the same again", [(8, 16, true), (8, 16, true)]),
            ("the first again", [(8, 16, true), (0, 8, true)]),
            ("a part of two", [(8, 24, true), (16, 32, true)]),
            ("another one inside", [(8, 32, true), (16, 24, true)]),
            ("beyond the end", [(8, 16, false), (16, 24, true)]),
            ("a second end", [(16, 24, false), (8, 16, false)]),
            ("an end before what came", [(16, 24, true), (8, 12, false)]),
            ("nothing", [(8, 16, true), (16, 16, false)]),
        ] {
            let mut datagram = begun(8);
            assert_eq!(pass(&mut datagram, &pieces), [true, false], "{what}");
            assert_eq!(pass(&mut datagram, &[(40, 48, true)]), [false], "{what}: for good");
            assert!(!datagram.is_complete());
        }
    }

    #[test]
    fn gaps_are_limited_and_filled_ones_do_not_count() {
        let gaps: Vec<_> = (1..).map(|n| (n * 16, n * 16 + 8, true)).take(16).collect();
        let mut datagram = begun(8);
        let passed = pass(&mut datagram, &gaps);
        assert_eq!(passed.iter().filter(|&&passes| passes).count(), Ranges::MOST - 1);

        let mut datagram = begun(8);
        for start in (1..1000).rev().map(|n| n * 8) {
            assert_eq!(pass(&mut datagram, &[(start, start + 8, true)]), [true]);
        }
        assert_eq!(pass(&mut datagram, &[(8000, 8001, false)]), [true]);
        assert!(datagram.is_complete());
    }
}
