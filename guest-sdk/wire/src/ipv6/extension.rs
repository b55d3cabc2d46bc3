//! The walk along IPv6 extension headers (RFC 8200 §4, RFC 4302 for the authentication header).
//!
//! Whoever built the chain may be hostile: every step stays within the packet, goes forward by
//! at least eight octets, and the number of steps is bounded. Once a step fails the walk is
//! over.

use crate::ip::{Fragment, IpProtocol, Upper};
use crate::{Malformed, field};

/// Extension headers a packet may have before it is refused. The order RFC 8200 §4.1 recommends
/// has six.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// Octets every extension header has, and the unit in which most state their length.
const UNIT: usize = 8;

const NEXT_HEADER: usize = 0;
const LEN: usize = 1;
const FRAGMENT_OFFSET: usize = 2;
const FRAGMENT_ID: usize = 4;

/// Octets of an authentication header before its integrity check value (RFC 4302 §2).
const AUTHENTICATION_LEN: usize = 12;

/// One extension header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionHeader<'a> {
    /// Which kind of extension header this is.
    pub protocol: IpProtocol,
    /// Octets from the start of the IPv6 header to this one.
    pub offset: usize,
    /// The whole extension header, from its next-header field on.
    pub octets: &'a [u8],
}

/// An iterator over the extension headers of a packet; it ends at the upper-layer header, or
/// after an error.
///
/// Its errors:
/// - [`Malformed::TruncatedExtensionHeader`]: a header runs past the end of the packet.
/// - [`Malformed::BadExtensionHeaderLength`]: an authentication header too short to be one.
/// - [`Malformed::MisplacedHopByHop`]: hop-by-hop options behind another extension header.
/// - [`Malformed::RepeatedFragmentHeader`]: a fragment of a fragment.
/// - [`Malformed::TooManyExtensionHeaders`]: more than [`MAX_EXTENSION_HEADERS`].
#[derive(Debug, Clone)]
pub struct ExtensionHeaders<'a> {
    packet: &'a [u8],
    next: IpProtocol,
    offset: usize,
    seen: usize,
    fragment: Option<Fragment>,
    done: bool,
}

impl<'a> ExtensionHeaders<'a> {
    /// `packet` starts with the fixed header and ends where its payload does.
    pub(super) fn new(next: IpProtocol, packet: &'a [u8]) -> Self {
        let offset = super::HEADER_LEN;
        ExtensionHeaders { packet, next, offset, seen: 0, fragment: None, done: false }
    }

    /// Walks to the end of the chain.
    pub(super) fn upper(mut self) -> Result<Upper, Malformed> {
        for header in self.by_ref() {
            header?;
        }

        Ok(Upper {
            protocol: self.next,
            offset: self.offset,
            len: self.packet.len() - self.offset,
            fragment: self.fragment,
        })
    }

    /// Steps over the header at `offset`, which is an extension header.
    fn step(&mut self) -> Result<ExtensionHeader<'a>, Malformed> {
        let protocol = self.next;
        if self.seen == MAX_EXTENSION_HEADERS {
            return Err(Malformed::TooManyExtensionHeaders);
        }
        if protocol == IpProtocol::HOP_BY_HOP && self.seen > 0 {
            return Err(Malformed::MisplacedHopByHop);
        }
        if protocol == IpProtocol::FRAGMENT && self.fragment.is_some() {
            return Err(Malformed::RepeatedFragmentHeader);
        }

        let rest = &self.packet[self.offset..];
        let octets = rest
            .get(..UNIT)
            .and_then(|start| rest.get(..header_len(protocol, start)))
            .ok_or(Malformed::TruncatedExtensionHeader)?;

        match protocol {
            IpProtocol::FRAGMENT => self.fragment = Some(fragment(octets)),
            IpProtocol::AUTHENTICATION if octets.len() < AUTHENTICATION_LEN => {
                return Err(Malformed::BadExtensionHeaderLength);
            }
            _ => {}
        }

        let header = ExtensionHeader { protocol, offset: self.offset, octets };
        self.next = IpProtocol(octets[NEXT_HEADER]);
        self.offset += octets.len();
        self.seen += 1;
        Ok(header)
    }
}

impl<'a> Iterator for ExtensionHeaders<'a> {
    type Item = Result<ExtensionHeader<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        // behind the header of a later fragment lies the middle of a payload
        let in_payload = self.fragment.is_some_and(|fragment| fragment.offset != 0);
        if self.done || in_payload || !self.next.is_extension() {
            return None;
        }

        let step = self.step();
        self.done = step.is_err();
        Some(step)
    }
}

impl core::iter::FusedIterator for ExtensionHeaders<'_> {}

/// Octets of the extension header that begins with `start`; at least eight.
fn header_len(protocol: IpProtocol, start: &[u8]) -> usize {
    let stated = usize::from(start[LEN]);
    match protocol {
        IpProtocol::FRAGMENT => UNIT,
        // counted in words, less two (RFC 4302 §2.2)
        IpProtocol::AUTHENTICATION => (stated + 2) * 4,
        _ => (stated + 1) * UNIT,
    }
}

fn fragment(header: &[u8]) -> Fragment {
    let offset_and_more = field::u16(header, FRAGMENT_OFFSET);
    Fragment {
        offset: offset_and_more & !0b111,
        more: offset_and_more & 1 != 0,
        id: field::u32(header, FRAGMENT_ID),
    }
}
