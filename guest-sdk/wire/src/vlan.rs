//! VLAN tags (IEEE 802.1Q §9.6), customer and service tags alike.
//!
//! ```text
//!  12              14                      16
//! ├───────────────┼─────┬─────┬───────────┼────────────┼──────────
//! │ 0x8100/0x88a8 │ pri │ DEI │ VLAN id   │ EtherType  │ payload …
//! │ (outer type)  │  3  │  1  │ 12 bits   │ (inner)    │
//! ```
//!
//! A [`Frame`] starts behind the outer EtherType, at the tag control information, so that
//! stacked tags are frames in frames. [`push`] and [`pop`] move a whole Ethernet frame in its
//! buffer.

use crate::ethernet::{self, EtherType};
use crate::view::view;
use crate::{Malformed, field};

const TCI: usize = 0;
const ETHER_TYPE: usize = 2;

/// Octets from the tag control information to the payload.
pub const HEADER_LEN: usize = 4;

/// Octets by which a tag makes an Ethernet frame longer.
pub const TAG_LEN: usize = 4;

/// Octets of the two MAC addresses, which stay in front of a tag.
const ADDRESSES: usize = 12;

/// A VLAN id: 12 bits. 0 marks a tag that carries a priority only, 4095 is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Vid(u16);

impl Vid {
    /// A VLAN id, unless `id` needs more than 12 bits.
    #[inline]
    pub const fn new(id: u16) -> Option<Vid> {
        if id < 0x1000 { Some(Vid(id)) } else { None }
    }

    /// The number, below 4096.
    #[inline]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Tag control information: the 16 bits of a tag besides its EtherType.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tci {
    /// Priority code point, 0 to 7; higher bits are ignored.
    pub priority: u8,
    /// Whether the frame may be dropped first under congestion (DEI).
    pub drop_eligible: bool,
    /// The VLAN.
    pub vid: Vid,
}

impl Tci {
    /// A tag for `vid` with the lowest priority.
    #[inline]
    pub const fn of(vid: Vid) -> Tci {
        Tci { priority: 0, drop_eligible: false, vid }
    }

    /// Takes the 16 bits apart.
    #[inline]
    pub const fn from_bits(bits: u16) -> Tci {
        Tci {
            priority: (bits >> 13) as u8,
            drop_eligible: bits & 0x1000 != 0,
            vid: Vid(bits & 0x0fff),
        }
    }

    /// Puts the 16 bits together.
    #[inline]
    pub const fn bits(self) -> u16 {
        (self.priority as u16 & 0b111) << 13 | (self.drop_eligible as u16) << 12 | self.vid.0
    }
}

/// A whole tag: its EtherType and control information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag {
    /// [`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`].
    pub ether_type: EtherType,
    /// Priority and VLAN.
    pub tci: Tci,
}

/// Puts a tag into an Ethernet frame, outside of tags it has already.
///
/// `room` is [`TAG_LEN`] spare octets of headroom followed by the frame; on return all of `room`
/// is the tagged frame. The addresses move, the rest stays where it is.
///
/// # Errors
/// [`Malformed::TruncatedEthernet`], with nothing moved, when `room` is shorter than the
/// headroom and an Ethernet header.
#[inline]
pub fn push(room: &mut [u8], tag: Tag) -> Result<(), Malformed> {
    if room.len() < TAG_LEN + ethernet::HEADER_LEN {
        return Err(Malformed::TruncatedEthernet);
    }

    room.copy_within(TAG_LEN..TAG_LEN + ADDRESSES, 0);
    field::put_u16(room, ADDRESSES, tag.ether_type.0);
    field::put_u16(room, ADDRESSES + 2, tag.tci.bits());
    Ok(())
}

/// Takes the outermost tag out of an Ethernet frame.
///
/// `frame` is the tagged frame; on return `frame[TAG_LEN..]` is the frame without the tag and the
/// octets before it are headroom of no meaning. The addresses move, the rest stays where it is.
///
/// # Errors
/// With nothing moved: [`Malformed::TruncatedEthernet`], [`Malformed::NotVlanTagged`] when the
/// frame has no tag, [`Malformed::TruncatedVlan`] when it ends within the tag.
#[inline]
pub fn pop(frame: &mut [u8]) -> Result<Tag, Malformed> {
    let outer = ethernet::Frame::new_checked(&*frame)?;
    let ether_type = outer.ether_type();
    if !ether_type.is_vlan() {
        return Err(Malformed::NotVlanTagged);
    }
    let tci = Frame::new_checked(outer.payload())?.tci();

    frame.copy_within(..ADDRESSES, TAG_LEN);
    Ok(Tag { ether_type, tci })
}

view! {
    /// A view of a tagged frame from the tag control information on.
    ///
    /// # Panics
    /// Accessors never panic on a view that passed [`check`](Self::check); on others they do when
    /// the buffer is shorter than [`HEADER_LEN`].
    pub struct Frame
}

impl<B: AsRef<[u8]>> Frame<B> {
    /// Whether the tag is complete.
    #[inline]
    pub fn check(&self) -> Result<(), Malformed> {
        if self.octets().len() < HEADER_LEN {
            return Err(Malformed::TruncatedVlan);
        }
        Ok(())
    }

    /// Priority and VLAN.
    #[inline]
    pub fn tci(&self) -> Tci {
        Tci::from_bits(field::u16(self.octets(), TCI))
    }

    /// The VLAN alone.
    #[inline]
    pub fn vid(&self) -> Vid {
        self.tci().vid
    }

    /// What the payload is; another VLAN type when tags are stacked.
    #[inline]
    pub fn ether_type(&self) -> EtherType {
        EtherType(field::u16(self.octets(), ETHER_TYPE))
    }

    /// Everything behind the tag, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.octets()[HEADER_LEN..]
    }
}

impl<'a> Frame<&'a [u8]> {
    /// [`payload`](Self::payload), for as long as the buffer lives.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Frame<B> {
    /// Sets priority and VLAN.
    #[inline]
    pub fn set_tci(&mut self, tci: Tci) {
        field::put_u16(self.bytes.as_mut(), TCI, tci.bits());
    }

    /// Sets the VLAN and keeps the priority.
    #[inline]
    pub fn set_vid(&mut self, vid: Vid) {
        self.set_tci(Tci { vid, ..self.tci() });
    }

    /// Sets the inner type.
    #[inline]
    pub fn set_ether_type(&mut self, ether_type: EtherType) {
        field::put_u16(self.bytes.as_mut(), ETHER_TYPE, ether_type.0);
    }

    /// Everything behind the tag, to be changed.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut()[HEADER_LEN..]
    }
}

/// Tag control information and inner type as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Priority and VLAN.
    pub tci: Tci,
    /// What the payload is.
    pub ether_type: EtherType,
}

impl Repr {
    /// Reads a tag.
    #[inline]
    pub fn parse<B: AsRef<[u8]>>(frame: &Frame<B>) -> Result<Repr, Malformed> {
        frame.check()?;
        Ok(Repr { tci: frame.tci(), ether_type: frame.ether_type() })
    }

    /// Octets that [`emit`](Self::emit) writes.
    #[inline]
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the tag.
    ///
    /// # Panics
    /// When the buffer is shorter than [`buffer_len`](Self::buffer_len).
    #[inline]
    pub fn emit<B: AsRef<[u8]> + AsMut<[u8]>>(&self, frame: &mut Frame<B>) {
        frame.set_tci(self.tci);
        frame.set_ether_type(self.ether_type);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    fn tag(bits: u16) -> Tag {
        Tag { ether_type: EtherType::VLAN, tci: Tci::from_bits(bits) }
    }

    fn untagged(payload: &[u8]) -> Vec<u8> {
        [&[1; 6][..], &[2; 6], &[0x08, 0x00], payload].concat()
    }

    fn pushed(frame: &[u8], tag: Tag) -> Vec<u8> {
        let mut room = [&[0xee; TAG_LEN], frame].concat();
        push(&mut room, tag).unwrap();
        room
    }

    #[test]
    fn a_pushed_tag_lies_between_addresses_and_type() {
        let frame = pushed(&untagged(b"payload"), tag(0xb064));
        let expected =
            [&[1; 6][..], &[2; 6], &[0x81, 0x00, 0xb0, 0x64, 0x08, 0x00], b"payload"].concat();
        assert_eq!(frame, expected);

        let inner = Frame::new_checked(&frame[14..]).unwrap();
        assert_eq!(inner.tci(), Tci { priority: 5, drop_eligible: true, vid: Vid(100) });
        assert_eq!(inner.ether_type(), EtherType::IPV4);
        assert_eq!(inner.payload(), b"payload");
    }

    #[test]
    fn stacked_tags_come_off_from_the_outside() {
        let plain = untagged(b"x");
        let service =
            Tag { ether_type: EtherType::SERVICE_VLAN, tci: Tci::of(Vid::new(7).unwrap()) };
        let mut frame = pushed(&pushed(&plain, tag(100)), service);

        assert_eq!(pop(&mut frame), Ok(service));
        assert_eq!(pop(&mut frame[TAG_LEN..]), Ok(tag(100)));
        assert_eq!(frame[2 * TAG_LEN..], plain);
        assert_eq!(pop(&mut frame[2 * TAG_LEN..]), Err(Malformed::NotVlanTagged));
        assert_eq!(frame[2 * TAG_LEN..], plain, "a refused frame is left alone");
    }

    #[test]
    fn a_truncated_frame_is_refused_and_left_alone() {
        let frame = pushed(&untagged(b""), tag(1));
        for len in 0..frame.len() {
            let mut cut = frame[..len].to_vec();
            let expected =
                if len < 14 { Malformed::TruncatedEthernet } else { Malformed::TruncatedVlan };
            assert_eq!(pop(&mut cut), Err(expected));
            assert_eq!(push(&mut cut, tag(1)), Err(Malformed::TruncatedEthernet));
            assert_eq!(cut, frame[..len]);
        }
    }

    #[test]
    fn a_truncated_tag_is_refused() {
        for len in 0..HEADER_LEN {
            assert_eq!(Frame::new_checked(&[0; 4][..len]).unwrap_err(), Malformed::TruncatedVlan);
        }
    }

    #[test]
    fn an_id_has_twelve_bits() {
        assert_eq!(Vid::new(4095).map(Vid::number), Some(4095));
        assert_eq!(Vid::new(4096), None);
    }

    proptest! {
        #[test]
        fn pop_undoes_push(payload in vec(any::<u8>(), 0..80), bits: u16) {
            let plain = untagged(&payload);
            let mut frame = pushed(&plain, tag(bits));
            prop_assert_eq!(pop(&mut frame), Ok(tag(bits)));
            prop_assert_eq!(&frame[TAG_LEN..], &plain);
        }

        #[test]
        fn what_was_emitted_parses_back(bits: u16, ether_type: u16, vid in 0u16..4096) {
            let repr = Repr { tci: Tci::from_bits(bits), ether_type: EtherType(ether_type) };
            let mut frame = Frame::new_unchecked([0xaa; 5]);
            repr.emit(&mut frame);
            prop_assert_eq!(Repr::parse(&frame), Ok(repr));
            prop_assert_eq!(repr.buffer_len(), HEADER_LEN);
            prop_assert_eq!(repr.tci.bits(), bits);

            let vid = Vid::new(vid).unwrap();
            frame.set_vid(vid);
            prop_assert_eq!(frame.tci(), Tci { vid, ..repr.tci });
            prop_assert_eq!(frame.vid(), vid);
            prop_assert_eq!(frame.payload(), [0xaa]);
        }
    }
}
