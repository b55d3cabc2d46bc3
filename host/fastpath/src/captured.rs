//! Packets that the kernel carries, copied for who looks on.
//!
//! Owns the switch, and the ring that copies come by. While the switch is off, packets pay for one
//! look at it.

use std::time::Duration;

use aya::maps::{Array, Map, MapData, RingBuf};

use crate::cache::{LoadError, MapFault};
use crate::{Generation, Key, PortId};

/// Who looks on.
pub struct CaptureRing {
    taps: Array<MapData, RawTap>,
    ring: RingBuf<MapData>,
}

/// Which packets are to be copied, as far as the kernel can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureFilter {
    /// Bytes of each; super-packets and others that are longer are cut off at
    /// [`CaptureRing::LONGEST`].
    pub snap: u32,
    /// The protocol's number; any, if there is none.
    pub protocol: Option<u8>,
    /// A port, of either end.
    pub port: Option<u16>,
    /// Where an address is in, of either end: IPv4 as IPv4-mapped IPv6, and what counts of it.
    pub prefix: Option<([u8; 16], [u8; 16])>,
}

/// A packet that an entry carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedPacket {
    /// When it came: on the clock of [`FlowCache::now`](crate::FlowCache::now), but finer.
    pub time: Duration,
    /// The port it came in by.
    pub from: PortId,
    /// Its flow.
    pub key: Key,
    /// Of the entry.
    pub generation: Generation,
    /// Bytes it had; a super-packet is one.
    pub length: u32,
    /// The first of them, as it came in.
    pub frame: Vec<u8>,
}

/// `struct tap` of `capture.h`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct RawTap {
    snap: u32,
    port: u16,
    protocol: u8,
    family: u8,
    net: [u32; 4],
    mask: [u32; 4],
    lost: u64,
}

impl CaptureRing {
    /// Bytes of a packet that are copied, at most.
    pub const LONGEST: u32 = 2048;

    pub(crate) fn open(taps: Map, copies: Map) -> Result<Self, LoadError> {
        let open = |error| LoadError::Map(MapFault(error));
        Ok(Self {
            taps: Array::try_from(taps).map_err(open)?,
            ring: RingBuf::try_from(copies).map_err(open)?,
        })
    }

    /// Has packets copied from now on. What was lost before is forgotten.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn begin(&mut self, filter: &CaptureFilter) -> Result<(), MapFault> {
        // what is left of an earlier one
        while self.ring.next().is_some() {}
        self.taps.set(0, RawTap::from(filter), 0).map_err(MapFault)
    }

    /// Has no more packets copied.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn end(&mut self) -> Result<(), MapFault> {
        self.taps.set(0, RawTap::default(), 0).map_err(MapFault)
    }

    /// How many packets found no room in the ring since the beginning.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lost(&self) -> Result<u64, MapFault> {
        Ok(self.taps.get(&0, 0).map_err(MapFault)?.lost)
    }

    /// The next packet, if there is one.
    pub fn take(&mut self) -> Option<CarriedPacket> {
        loop {
            let copy = self.ring.next()?;
            if let Some(packet) = read(&copy) {
                return Some(packet);
            }
        }
    }
}

impl From<&CaptureFilter> for RawTap {
    fn from(filter: &CaptureFilter) -> Self {
        let mut raw = Self {
            snap: filter.snap.max(1),
            port: filter.port.unwrap_or_default().to_be(),
            protocol: filter.protocol.unwrap_or_default(),
            ..Self::default()
        };
        if let Some((address, mask)) = filter.prefix {
            let words = |octets: [u8; 16]| {
                let (words, _) = octets.as_chunks::<4>();
                [words[0], words[1], words[2], words[3]].map(u32::from_ne_bytes)
            };
            let (net, mask) = (words(address), words(mask));
            // an IPv4 packet has the last word alone
            let is_v4 = address[..12] == V4_MAPPED && mask[..3] == [u32::MAX; 3];
            (raw.family, raw.net, raw.mask) = match is_v4 {
                true => (4, [net[3], 0, 0, 0], [mask[3], 0, 0, 0]),
                false => (6, net, mask),
            };
        }
        raw
    }
}

/// A copy; nothing if it is none.
fn read(copy: &[u8]) -> Option<CarriedPacket> {
    let word = |at: usize| Some(u32::from_ne_bytes(*copy.get(at..)?.first_chunk()?));
    let copied = word(COPIED)? as usize;
    Some(CarriedPacket {
        time: Duration::from_nanos(u64::from_ne_bytes(*copy.first_chunk()?)),
        from: PortId::new(u16::try_from(word(PORT)?).ok()?)?,
        key: Key::of_record(copy.get(KEY..FAMILY)?, *copy.get(FAMILY)?)?,
        generation: Generation(word(GENERATION)?),
        length: word(LENGTH)?,
        frame: copy.get(HEADER..)?.get(..copied)?.to_vec(),
    })
}

const _: () = assert!(size_of::<RawTap>() == 48, "capture.h: struct tap");

// where fields of `struct copy` are
const LENGTH: usize = 8;
const COPIED: usize = 12;
const GENERATION: usize = 16;
const PORT: usize = 20;
const KEY: usize = 24;
const FAMILY: usize = 64;
const HEADER: usize = 72;

/// What IPv4-mapped addresses begin with (RFC 4291 section 2.5.5.2).
const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_prefix_is_one_of_the_last_word() {
        let mut address = [0; 16];
        address[10..].copy_from_slice(&[0xff, 0xff, 10, 1, 0, 0]);
        let mut mask = [0xff; 16];
        mask[14..].fill(0);
        let filter = CaptureFilter {
            snap: 64,
            protocol: Some(6),
            port: Some(80),
            prefix: Some((address, mask)),
        };
        let raw = RawTap::from(&filter);
        assert_eq!((raw.family, raw.protocol, raw.port.to_ne_bytes()), (4, 6, [0, 80]));
        assert_eq!(raw.net[0].to_ne_bytes(), [10, 1, 0, 0]);
        assert_eq!(raw.mask[0].to_ne_bytes(), [0xff, 0xff, 0, 0]);
        let v6 = CaptureFilter { prefix: Some(([0xfd; 16], [0xff; 16])), ..filter };
        assert_eq!(RawTap::from(&v6).family, 6);
    }

    #[test]
    fn what_is_no_copy_is_none() {
        for length in [0, 8, HEADER - 1, HEADER] {
            assert_eq!(read(&vec![0; length]), None);
        }
    }
}
