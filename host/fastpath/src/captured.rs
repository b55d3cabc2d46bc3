//! Packets that the kernel carries, copied for those who look on.
//!
//! Owns their switches, and the ring that copies come by: one for all, since most packets are wanted
//! by one of them. Whoever takes from it puts what is others' aside for them, so that nobody has to
//! wait for who is slow; that one loses packets, which are counted. While nobody looks on, packets
//! pay for one look at a switch.

use std::collections::VecDeque;
use std::time::Duration;

use aya::maps::{Array, Map, MapData, RingBuf};

use crate::cache::{LoadError, MapFault};
use crate::{Generation, Key, PortId};

/// What packets are copied with.
pub struct CaptureRing {
    taps: Array<MapData, RawTap>,
    tapped: Array<MapData, u32>,
    ring: RingBuf<MapData>,
    /// By the number of the tap; nothing for one that is not in use.
    onlookers: [Option<Onlooker>; CaptureRing::MOST],
}

/// Somebody who looks on, until this is [ended](CaptureRing::end).
#[derive(Debug)]
pub struct Tap(usize);

/// Packets that somebody wants and has not taken yet.
struct Onlooker {
    snap: usize,
    packets: VecDeque<CarriedPacket>,
    /// Those that there was no room for among these.
    lost: u64,
}

/// Which packets are to be copied for one, as far as the kernel can tell.
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
    /// Those who look on at a time, at most.
    pub const MOST: usize = 8;

    pub(crate) fn open(taps: Map, tapped: Map, copies: Map) -> Result<Self, LoadError> {
        let open = |error| LoadError::Map(MapFault(error));
        Ok(Self {
            taps: Array::try_from(taps).map_err(open)?,
            tapped: Array::try_from(tapped).map_err(open)?,
            ring: RingBuf::try_from(copies).map_err(open)?,
            onlookers: [const { None }; Self::MOST],
        })
    }

    /// Has packets copied from now on; nothing is done if as many look on as can.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn begin(&mut self, filter: &CaptureFilter) -> Result<Option<Tap>, MapFault> {
        // what is left of an earlier one
        self.sort();
        let Some(number) = self.onlookers.iter().position(Option::is_none) else {
            return Ok(None);
        };
        let raw = RawTap::from(filter);
        self.taps.set(number as u32, raw, 0).map_err(MapFault)?;
        self.onlookers[number] =
            Some(Onlooker { snap: raw.snap as usize, packets: VecDeque::new(), lost: 0 });
        self.switch()?;
        Ok(Some(Tap(number)))
    }

    /// Has no more packets copied for one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn end(&mut self, tap: &Tap) -> Result<(), MapFault> {
        self.onlookers[tap.0] = None;
        self.taps.set(tap.0 as u32, RawTap::default(), 0).map_err(MapFault)?;
        self.switch()
    }

    /// How many packets one has missed since the beginning: they found no room in the ring, or among
    /// those that wait to be taken.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lost(&self, tap: &Tap) -> Result<u64, MapFault> {
        let lost = self.taps.get(&(tap.0 as u32), 0).map_err(MapFault)?.lost;
        Ok(lost + self.onlookers[tap.0].as_ref().map_or(0, |onlooker| onlooker.lost))
    }

    /// The next packet that one wants, if there is one.
    pub fn take(&mut self, tap: &Tap) -> Option<CarriedPacket> {
        if self.onlookers[tap.0].as_ref().is_some_and(|onlooker| onlooker.packets.is_empty()) {
            self.sort();
        }
        self.onlookers[tap.0].as_mut()?.packets.pop_front()
    }

    /// Gives each onlooker what the ring has for it.
    fn sort(&mut self) {
        // no more than there is room for, or a flood would hold up who asks
        for _ in 0..WAITING {
            let Some(copy) = self.ring.next() else { return };
            let Some((packet, wanted)) = read(&copy) else { continue };
            for (number, onlooker) in self.onlookers.iter_mut().enumerate() {
                if wanted & 1 << number != 0
                    && let Some(onlooker) = onlooker
                {
                    onlooker.put(&packet);
                }
            }
        }
    }

    /// Tells the kernel how many look on.
    fn switch(&mut self) -> Result<(), MapFault> {
        let many = self.onlookers.iter().flatten().count() as u32;
        self.tapped.set(0, many, 0).map_err(MapFault)
    }
}

impl Onlooker {
    fn put(&mut self, packet: &CarriedPacket) {
        if self.packets.len() == WAITING {
            self.lost += 1;
            return;
        }
        let frame = packet.frame[..packet.frame.len().min(self.snap)].to_vec();
        self.packets.push_back(CarriedPacket { frame, ..*packet });
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

/// A copy, and a bit for each tap that wants it; nothing if it is none.
fn read(copy: &[u8]) -> Option<(CarriedPacket, u8)> {
    let word = |at: usize| Some(u32::from_ne_bytes(*copy.get(at..)?.first_chunk()?));
    let copied = word(COPIED)? as usize;
    let packet = CarriedPacket {
        time: Duration::from_nanos(u64::from_ne_bytes(*copy.first_chunk()?)),
        from: PortId::new(u16::try_from(word(PORT)?).ok()?)?,
        key: key(copy.get(KEY..FAMILY)?, *copy.get(FAMILY)?)?,
        generation: Generation(word(GENERATION)?),
        length: word(LENGTH)?,
        frame: copy.get(HEADER..)?.get(..copied)?.to_vec(),
    };
    Some((packet, *copy.get(TAPS)?))
}

/// A key of this family in one of IPv6, whose addresses begin with those of IPv4.
fn key(six: &[u8], family: u8) -> Option<Key> {
    if family != 4 {
        return Key::of_record(six, family);
    }
    let (ends, rest) = six.split_at_checked(2 * 16)?;
    Key::of_record(&[&ends[..4], &ends[16..20], rest].concat(), family)
}

const _: () = assert!(size_of::<RawTap>() == 48, "capture.h: struct tap");

// where fields of `struct copy` are
const LENGTH: usize = 8;
const COPIED: usize = 12;
const GENERATION: usize = 16;
const PORT: usize = 20;
const KEY: usize = 24;
const FAMILY: usize = 64;
const TAPS: usize = 65;
const HEADER: usize = 72;

/// Packets that wait for one to take them, at most.
const WAITING: usize = 2048;

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
