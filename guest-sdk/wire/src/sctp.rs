//! SCTP packets (RFC 9260): the common header and the chunks behind it.
//!
//! ```text
//!  0             2                  4                  8         12
//! ├─────────────┼──────────────────┼──────────────────┼─────────┼─────────
//! │ source port │ destination port │ verification tag │ CRC-32C │ chunks …
//! ```
//!
//! The CRC covers ports and payload but no addresses, and is the only field here that is sent
//! least significant octet first (appendix A).

use crate::crc32c::Crc32c;
use crate::view::{ported, view};
use crate::{Malformed, Ports, field};

const TAG: usize = 4;
const CHECKSUM: usize = 8;

/// Octets of the common header.
pub const HEADER_LEN: usize = 12;

const CHUNK_KIND: usize = 0;
const CHUNK_FLAGS: usize = 1;
const CHUNK_LEN: usize = 2;
const CHUNK_HEADER_LEN: usize = 4;

/// What a chunk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ChunkKind(pub u8);

impl ChunkKind {
    /// User data.
    pub const DATA: ChunkKind = ChunkKind(0);
    /// Opens an association.
    pub const INIT: ChunkKind = ChunkKind(1);
    /// Answers an INIT.
    pub const INIT_ACK: ChunkKind = ChunkKind(2);
    /// Acknowledges data.
    pub const SACK: ChunkKind = ChunkKind(3);
    /// Asks whether a path works.
    pub const HEARTBEAT: ChunkKind = ChunkKind(4);
    /// Answers a heartbeat.
    pub const HEARTBEAT_ACK: ChunkKind = ChunkKind(5);
    /// Closes at once.
    pub const ABORT: ChunkKind = ChunkKind(6);
    /// Begins to close.
    pub const SHUTDOWN: ChunkKind = ChunkKind(7);
    /// Answers a SHUTDOWN.
    pub const SHUTDOWN_ACK: ChunkKind = ChunkKind(8);
    /// Reports an error.
    pub const ERROR: ChunkKind = ChunkKind(9);
    /// Returns the cookie of an INIT ACK.
    pub const COOKIE_ECHO: ChunkKind = ChunkKind(10);
    /// The association is open.
    pub const COOKIE_ACK: ChunkKind = ChunkKind(11);
    /// The association is closed.
    pub const SHUTDOWN_COMPLETE: ChunkKind = ChunkKind(14);
}

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// What it is for.
    pub kind: ChunkKind,
    /// Bits whose meaning depends on the kind.
    pub flags: u8,
    /// What follows the chunk's own header, without padding.
    pub value: &'a [u8],
}

/// An iterator over the chunks of a packet; it ends after [`Malformed::BadSctpChunk`].
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = core::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let stated = match rest.get(..CHUNK_HEADER_LEN) {
            Some(header) => usize::from(field::u16(header, CHUNK_LEN)),
            None => 0,
        };
        let Some(value) = rest.get(CHUNK_HEADER_LEN..stated) else {
            return Some(Err(Malformed::BadSctpChunk));
        };

        // chunks are padded to words; the last one may go without
        self.rest = rest.get(stated.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Chunk { kind: ChunkKind(rest[CHUNK_KIND]), flags: rest[CHUNK_FLAGS], value }))
    }
}

impl core::iter::FusedIterator for Chunks<'_> {}

view! {
    /// A view of an SCTP packet. SCTP states no length: the packet is the whole buffer, so give it
    /// the IP payload, not the rest of the frame.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check); on others they do when
    /// the buffer is shorter than [`HEADER_LEN`].
    pub struct Packet
}

ported!(Packet);

impl<B: AsRef<[u8]>> Packet<B> {
    /// Whether the common header is complete. Chunks and checksum are not looked at.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        if self.octets().len() < HEADER_LEN {
            return Err(Malformed::TruncatedSctp);
        }
        Ok(())
    }

    /// The receiver's verification tag; 0 in a packet with an INIT.
    #[inline]
    pub fn tag(&self) -> u32 {
        field::u32(self.octets(), TAG)
    }

    /// The checksum field: a CRC-32C.
    #[inline]
    pub fn checksum(&self) -> u32 {
        u32::from_le_bytes(field::array(self.octets(), CHECKSUM))
    }

    /// The chunks, one after the other.
    #[inline]
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { rest: self.payload() }
    }

    /// The chunks, as they are.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[HEADER_LEN..]
    }

    /// Whether the checksum is right.
    pub fn verify_checksum(&self) -> bool {
        self.checksum() == self.computed_checksum()
    }

    /// The CRC of the packet with the checksum field taken as 0.
    fn computed_checksum(&self) -> u32 {
        let (header, chunks) = self.octets().split_at(HEADER_LEN);
        Crc32c::new().update(&header[..CHECKSUM]).update(&[0; 4]).update(chunks).value()
    }
}

impl<'a> Packet<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

/// Setters leave the checksum alone.
impl<B: AsRef<[u8]> + AsMut<[u8]>> Packet<B> {
    /// Sets the verification tag.
    #[inline]
    pub fn set_tag(&mut self, tag: u32) {
        field::put_u32(self.bytes.as_mut(), TAG, tag);
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, crc: u32) {
        field::put(self.bytes.as_mut(), CHECKSUM, crc.to_le_bytes());
    }

    /// Computes the checksum; needed after a change of ports, not of addresses.
    pub fn fill_checksum(&mut self) {
        self.set_checksum(self.computed_checksum());
    }

    /// The chunks, to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER_LEN..]
    }
}

/// An SCTP common header as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Both ports.
    pub ports: Ports,
    /// The receiver's verification tag.
    pub tag: u32,
}

impl Repr {
    /// Reads a common header. The checksum is not verified.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(packet: &Packet<B>) -> Result<Repr, Malformed> {
        packet.check()?;
        Ok(Repr { ports: packet.ports(), tag: packet.tag() })
    }

    /// Octets that [`emit`](Self::emit) writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the common header and sets the checksum to 0; [`Packet::fill_checksum`] when the
    /// chunks are in place.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len).
    #[inline]
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, packet: &mut Packet<B>) {
        packet.set_source_port(self.ports.source);
        packet.set_destination_port(self.ports.destination);
        packet.set_tag(self.tag);
        packet.set_checksum(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    /// An INIT; its CRC was computed by another implementation.
    const INIT: [u8; 32] = [
        0x82, 0x35, 0x0b, 0x59, 0, 0, 0, 0, 0xbc, 0x7c, 0x4a, 0xdb, // common header
        1, 0, 0, 20, 0x5c, 0xa1, 0xab, 0x1e, 0, 1, 0, 0, 0, 10, 8, 0, 0x0b, 0xad, 0xca, 0xfe,
    ];

    fn chunks(octets: &[u8]) -> Vec<Result<Chunk<'_>, Malformed>> {
        Chunks { rest: octets }.collect()
    }

    #[test]
    fn the_crc_of_an_init_verifies() {
        let packet = Packet::new_checked(&INIT[..]).unwrap();
        assert_eq!(packet.ports(), Ports { source: 33333, destination: 2905 });
        assert_eq!(packet.tag(), 0);
        assert!(packet.verify_checksum());

        let mut refilled = Packet::new_unchecked(INIT);
        refilled.set_checksum(0);
        assert!(!refilled.verify_checksum());
        refilled.fill_checksum();
        assert_eq!(refilled.into_inner(), INIT);
    }

    #[test]
    fn a_truncated_packet_is_refused_or_has_a_broken_chunk() {
        for len in 0..INIT.len() {
            match Packet::new_checked(&INIT[..len]) {
                Err(refused) => {
                    assert!(len < HEADER_LEN);
                    assert_eq!(refused, Malformed::TruncatedSctp);
                }
                Ok(packet) if len == HEADER_LEN => assert_eq!(packet.chunks().next(), None),
                Ok(packet) => {
                    assert!(packet.chunks().eq([Err(Malformed::BadSctpChunk)]), "{len}");
                }
            }
        }
    }

    #[test]
    fn chunks_are_walked_over_their_padding() {
        let octets = [14, 1, 0, 4, 0, 3, 0, 7, b'a', b'b', b'c', 0, 6, 0, 0, 5, b'x'];
        assert_eq!(
            chunks(&octets),
            [
                Ok(Chunk { kind: ChunkKind::SHUTDOWN_COMPLETE, flags: 1, value: &[] }),
                Ok(Chunk { kind: ChunkKind::DATA, flags: 3, value: b"abc" }),
                Ok(Chunk { kind: ChunkKind::ABORT, flags: 0, value: b"x" }),
            ]
        );
    }

    #[test]
    fn a_chunk_shorter_than_its_header_ends_the_walk() {
        for len in 0..4 {
            assert_eq!(chunks(&[0, 0, 0, len, 0, 0, 0, 4]), [Err(Malformed::BadSctpChunk)]);
        }
    }

    proptest! {
        #[test]
        fn what_was_emitted_parses_back(
            source: u16, destination: u16, tag: u32, payload in vec(any::<u8>(), 0..40),
        ) {
            let repr = Repr { ports: Ports { source, destination }, tag };
            let mut packet = Packet::new_unchecked([&[0xaa; 12], &payload[..]].concat());
            repr.emit(&mut packet);
            packet.fill_checksum();

            prop_assert_eq!(Repr::parse(&packet), Ok(repr));
            prop_assert!(packet.verify_checksum());
            prop_assert_eq!(packet.payload(), &payload[..]);
        }
    }
}
